from __future__ import annotations

import threading

import torch
from torch import nn

from polypath.core.seeds import seeded
from polypath.nn.fold import folded_copy


def test_other_threads_compute_while_one_traces() -> None:
    """Tracing hands torch's module calls of the whole process to the tracer, which must let them through."""
    wrong = list[BaseException]()
    with seeded(0):
        busy = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))).eval()
        layers = [layer for _ in range(8) for layer in (nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU())]
    network, inputs, done = nn.Sequential(*layers).eval(), torch.ones(1, 4), threading.Event()
    expected = busy(inputs)

    def compute() -> None:
        try:
            while not done.is_set():
                assert torch.equal(busy(inputs), expected)
        except BaseException as error:
            wrong.append(error)

    def fold() -> None:
        try:
            for _ in range(15):
                assert not any(isinstance(part, nn.BatchNorm2d) for part in folded_copy(network).modules())
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=compute), *(threading.Thread(target=fold) for _ in range(2))]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    done.set()
    threads[0].join()
    assert not wrong
    assert torch.equal(busy(inputs), expected)
