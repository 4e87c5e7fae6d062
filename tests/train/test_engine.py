"""The run engine: precision, devices, streams, several loops a stage, stopping."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
import torch

import polypath.train.devices as devices
from polypath.core.errors import Cancelled, InvalidInput, PolypathError
from polypath.core.examples import Batch, Examples, TaskData
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.data import arrays
from polypath.methods.part import PaRT
from polypath.train.config import RunConfig
from polypath.train.engine import Engine, Progress


def engine(**settings: Any) -> Engine:
    out, resume = settings.pop("out", None), settings.pop("resume", False)
    return Engine(config=RunConfig(device="cpu", threads=1, **settings), out=out, resume=resume, progress=False)


# ---- device and precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_bf16_where_the_processor_multiplies_it(
    bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_facts", lambda: {"bf16": bf16})
    assert engine().precision == expected
    assert engine(precision="32-true").precision == "32-true"
    assert engine(precision="bf16-mixed").precision == "bf16-mixed"
    assert devices.resolved_precision(RunConfig(device="mps")) == "32-true"


def test_bf16_learns_and_keeps_float32_weights() -> None:
    system = tiny.learn(tiny.suite(1), precision="bf16-mixed", epochs=1)
    losses = [v for c in system.result.curves if c.metric == "loss" for v in c.values]
    assert losses and all(math.isfinite(loss) for loss in losses)
    assert {p.dtype for p in system.network.parameters()} == {torch.float32}
    facts = system.result.environment
    assert (facts["precision"], facts["device"], facts["threads"]) == ("bf16-mixed", "cpu", 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"device": "tpu"}, "run.device"),
        ({"precision": "16"}, "run.precision"),
        ({"threads": 0}, "run.threads"),
        ({"workers": -1}, "run.workers"),
    ],
)
def test_settings_that_do_not_exist(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(PolypathError, match=says):
        tiny.learn(tiny.suite(1), **settings)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InvalidInput, match=f"device '{device}'.*use device='auto' or 'cpu'"):
        tiny.learn(tiny.suite(1), device=device)


# ---- batches --------------------------------------------------------------------------------------------------


class Slow:
    """A source that decodes when asked."""

    streams = True

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        return self.values[index]


def taken(batches: Iterator[Batch]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(batch.inputs, batch.targets) for batch in batches]


def test_batches_do_not_depend_on_who_decodes_them() -> None:
    plain = tiny.data("t", count=20)
    slow = TaskData(plain.task, Examples(Slow(plain.train.inputs()), plain.train.targets, plain.train.index))
    first = taken(engine().batches(plain, 8, "t", 0))
    for found in (taken(engine().batches(slow, 8, "t", 0)), taken(engine(workers=1).batches(slow, 8, "t", 0))):
        assert len(found) == len(first) == 3
        for (a, b), (c, d) in zip(first, found, strict=True):
            assert torch.equal(a, c) and torch.equal(b, d)
    assert not torch.equal(first[0][1], taken(engine().batches(plain, 8, "t", 1))[0][1])


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_of_images_are_channels_last_also_with_one_channel(channels: int) -> None:
    images = torch.arange(4 * channels * 6).reshape(4, channels, 2, 3).to(torch.uint8)
    data = arrays("t", train=(images, torch.tensor([0, 1, 0, 1])), labels=["a", "b"])
    (batch,) = taken(engine().batches(data, 4, "t", 0))
    assert batch[0].stride() == (6 * channels, 1, 3 * channels, channels)
    # What counts: a layer whose weights have no layout of their own goes on in that of the images.
    out = torch.nn.functional.conv2d(batch[0].float(), torch.ones(4, channels, 1, 1))
    assert out.is_contiguous(memory_format=torch.channels_last)


# ---- stopping -------------------------------------------------------------------------------------------------


def test_ctrl_c_stops_at_the_next_step_and_says_how_to_go_on(tmp_path: Path) -> None:
    def press(now: Progress) -> None:
        if now.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    with pytest.raises(Cancelled, match=rf"{tmp_path}.*resume=True"):
        tiny.learn(tiny.suite(1), out=tmp_path / "run", epochs=4, on_progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.get_num_threads() == threads
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {line["epoch"] for line in lines} == {0, 1}
    tiny.learn(tiny.suite(1), out=tmp_path / "run", epochs=4, resume=True)
    tiny.learn(tiny.suite(1), out=tmp_path / "whole", epochs=4)
    assert tiny.outcome(tmp_path / "run") == tiny.outcome(tmp_path / "whole")


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    run = engine()
    with pytest.raises(KeyboardInterrupt), run.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        assert run._cancelled
        os.kill(os.getpid(), signal.SIGINT)


def test_progress_in_numbers_and_cancel_from_python() -> None:
    told: list[Progress] = []
    state = torch.get_rng_state()
    with pytest.raises(Cancelled):
        tiny.learn(tiny.suite(2), mode="sequential", on_progress=lambda now: told.append(now) or now.stage == 1)
    assert torch.equal(torch.get_rng_state(), state)  # although an epoch was left open
    ends = [now for now in told if now.step == 0 and now.stage == 0]
    assert [(now.epoch, now.epochs, now.stages, now.steps) for now in ends] == [(1, 2, 2, 2), (2, 2, 2, 2)]
    assert ends[0].seconds_left > 0 and ends[1].seconds_left == 0
    assert all(0 <= now.step <= now.steps and 0 <= now.epoch <= now.epochs for now in told)
    assert told[-1].stage == 1 and told[-1].epoch < 2


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    with pytest.raises(InvalidInput, match=r"task1.*NaN or infinite in epoch 1.*learning rate.*NaN in the inputs"):
        tiny.learn(tiny.suite(1), learning_rate=1e38)


# ---- several loops in one stage -------------------------------------------------------------------------------


class Twice(PaRT):
    """Learns, does something to the network, and learns again: two loops a stage, as pruning methods have."""

    name: ClassVar[str] = "twice"
    stop_at: ClassVar[tuple[int, int] | None] = None

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Two loops of two epochs."""
        (item,) = data
        for loop in range(2):
            optimizer = torch.optim.Adam(network.trainable(network.path(item.name).components), lr=0.01)
            for epoch in run.epochs(2, steps=1, network=network, optimizer=optimizer):
                if self.stop_at == (loop, epoch):
                    raise RuntimeError("killed")
                network.train()
                (batch,) = run.batches(item, 16, loop, epoch)
                loss = item.task.loss_of(network(batch.inputs, item.name), batch.targets)
                run.step(loss, optimizer)
                run.log(loop=loop, loss={item.name: float(loss.detach())})
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.mul_(0.9)
            run.record_test(network, data)


@pytest.mark.parametrize("stop", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_stage_of_several_loops_resumes_in_the_right_one(
    stop: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polypath.learning import learn

    config = {key: tiny.SETTINGS[key] for key in ("modules", "selected", "width", "epochs", "batch", "batch_set")}
    run: dict[str, Any] = {key: tiny.SETTINGS[key] for key in ("threads", "precision", "device", "progress")}
    method = Twice(**config)
    learn(method, tiny.suite(1), out=tmp_path / "whole", **run)
    monkeypatch.setattr(Twice, "stop_at", stop)
    with pytest.raises(RuntimeError, match="killed"):
        learn(method, tiny.suite(1), out=tmp_path / "run", **run)
    monkeypatch.setattr(Twice, "stop_at", None)
    learn(method, tiny.suite(1), out=tmp_path / "run", resume=True, **run)
    assert tiny.outcome(tmp_path / "run") == tiny.outcome(tmp_path / "whole")


def test_peak_memory_is_of_this_process_not_of_the_one_that_started_it() -> None:
    ask = "from polypath.train.environment import peak_memory_bytes as peak"
    child = f"import torch; {ask}; print(peak(torch.device('cpu')))"
    parent = f"""
import subprocess, sys
held = bytearray(b"x") * 1_500_000_000
print(subprocess.run([sys.executable, "-c", {child!r}], capture_output=True, text=True, check=True).stdout)
"""
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 100_000_000 < int(done.stdout) < 1_200_000_000
