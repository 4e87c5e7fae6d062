"""Parameter counts of PaRT's grids, by hand, on the meta device.

Sources: the paper's layouts as specified (methods, section 1.2): counts a module, 132,038,244 and 165,040,110 for the
CIFAR grids, 191.7 M for the ResNet-50 grid of FiveTasks.
"""

from __future__ import annotations

import pytest
import torch

from polypath.core import accounting
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.nn.grid import Grid, GridConfig

MODULES = [1_920, 74_112, 74_112, 221_952, 295_680, 886_272, 1_181_184, 3_542_016, 4_721_664]


def task(name: str, labels: int, size: int = 32) -> Task:
    shape = {"channels": 3, "height": size, "width": size}
    preprocess = ImagePreprocess(**shape, mean=(0.5,) * 3, std=(0.25,) * 3)
    target = Classification(labels=tuple(map(str, range(labels))))
    return Task(name=name, inputs=Image(**shape), target=target, preprocess=preprocess)


def grid(labels: list[int], **config: object) -> Grid:
    with torch.device("meta"):
        made = Grid(GridConfig(**config))  # type: ignore[arg-type]
        for position, count in enumerate(labels):
            made.add_task(task(f"task{position}", count))
    return made


def conv_pair(before: int, after: int) -> int:
    """Two 3x3 convolutions with bias and their BatchNorms."""
    return 9 * before * after + after + 2 * after + 9 * after * after + after + 2 * after


def bottleneck_stage(before: int, inner: int, blocks: int) -> tuple[int, int]:
    """(convolution weights, BatchNorm weights and biases) of a ResNet-50 stage."""
    outer = 4 * inner
    first = before * inner + 9 * inner * inner + inner * outer + before * outer
    later = outer * inner + 9 * inner * inner + inner * outer
    norms = 2 * (blocks * (inner + inner + outer) + outer)
    return first + (blocks - 1) * later, norms


def test_counts_a_module_are_those_of_the_layout_by_hand() -> None:
    assert MODULES == [
        9 * 3 * 64 + 64 + 2 * 64,
        *(conv_pair(a, b) for a, b in [(64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]),
        *(conv_pair(a, b) for a, b in [(256, 512), (512, 512)]),
    ]
    assert sum(MODULES) == 10_998_912


@pytest.fixture(scope="module")
def cifar100() -> Grid:
    return grid([10] * 10, modules=12, selected=4)


def test_every_module_of_the_cifar_grid_has_its_count(cifar100: Grid) -> None:
    counts = cifar100.parameter_counts()
    for layer, expected in enumerate(MODULES, start=1):
        assert {counts[f"layer{layer}.module{number:02d}"] for number in range(12)} == {expected}


def test_the_cifar100_grid_has_132_038_244_parameters(cifar100: Grid) -> None:
    assert 12 * 10_998_912 + 100 * 512 + 100 == 132_038_244
    assert accounting.total_parameters(cifar100) == 132_038_244


def test_one_path_of_the_cifar100_grid_has_43_995_648_parameters_and_its_head(cifar100: Grid) -> None:
    counts = cifar100.parameter_counts()
    used = sum(counts[name] for name in cifar100.path("task3").components)
    assert used == 43_995_648 + 10 * 512 + 10


def test_the_mixed_grid_has_165_040_110_parameters() -> None:
    mixed = grid([2] * 5 + [20] * 5, modules=15, selected=4)
    assert 15 * 10_998_912 + 110 * 512 + 110 == 165_040_110
    assert accounting.total_parameters(mixed) == 165_040_110


def test_the_resnet50_grid_has_the_paper_s_count_less_the_norms_that_no_path_uses() -> None:
    stages = [(64, 64, 3), (256, 128, 4), (512, 256, 6), (1024, 512, 3)]
    convolutions = [9408, *(bottleneck_stage(*stage)[0] for stage in stages)]  # 7 * 7 * 3 * 64 = 9,408
    norms = [2 * 64, *(bottleneck_stage(*stage)[1] for stage in stages)]
    labels = [200, 196, 102, 195, 250]
    heads = sum(labels) * 2048 + sum(labels)
    shared = 8 * sum(convolutions) + heads
    assert sum(norms) == 53_120
    # The authors keep a BatchNorm set of every task in every module: 8 modules a layer times 5 tasks.
    assert shared + 8 * 5 * sum(norms) == 191_696_303
    # Ours keeps them only where a task passes, N = 2 modules a layer times 5 tasks: 30 sets less.
    assert shared + 2 * 5 * sum(norms) == 190_102_703 == 191_696_303 - 30 * sum(norms)
    found = grid(labels, layout="resnet50", modules=8, selected=2, norm="task")
    assert accounting.total_parameters(found) == 190_102_703
    counts = found.parameter_counts()
    for layer, expected in enumerate(convolutions, start=1):
        assert {counts[f"layer{layer}.module{number:02d}"] for number in range(8)} == {expected}
    own = {name: count for name, count in counts.items() if ".norm." in name}
    assert len(own) == 5 * 5 * 2 and sum(own.values()) == 10 * sum(norms)


def test_widths_scale_the_grid() -> None:
    # Width 8 is an eighth of 64: by the formulas of the layout.
    counts = grid([10], modules=2, selected=1, width=8).parameter_counts()
    widths = [8, 8, 8, 16, 16, 32, 32, 64, 64]
    expected = [9 * 3 * 8 + 8 + 16, *(conv_pair(a, b) for a, b in zip(widths, widths[1:], strict=False))]
    assert [counts[f"layer{layer}.module01"] for layer in range(1, 10)] == expected
    assert counts["head.t0"] == 64 * 10 + 10


def test_every_task_of_private_modules_has_its_own() -> None:
    alone = grid([10, 10], modules=3, selected=2, width=2, private=True)
    first, second = (set(alone.path(name).components) for name in ("task0", "task1"))
    assert not first & second and first | second == set(alone.components())
    assert {part.kind for part in alone.components().values()} == {"own"}
