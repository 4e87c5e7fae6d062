"""DF-CNN's learning: who moves when, the epoch counter, the drawn tasks, what is kept with the system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.accounting import total_parameters
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite, TaskData
from polypath.methods.dfcnn import DFCNN
from polypath.nn.factorized import Factorized
from polypath.system import System
from polypath.testing import tiny_images
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
TINY: dict[str, Any] = {
    "backbone": {"kind": "dfcnn", "channels": [2, 2, 2, 2], "hidden": [3]},
    "knowledge": [2, 2, 2, 2],
    "basis": [2, 2, 2, 2],
    "epochs": 2,
    "batch": 4,
    "learning_rate": 0.01,
}


class Recorder(Engine):
    """An engine that writes down the batches and steps of a run."""

    def __init__(self) -> None:
        super().__init__(seed=0, config=RunConfig(device="cpu", precision="32-true", threads=1), progress=False)
        self.handed: list[tuple[int, str, int]] = []
        self.rates: list[float] = []

    def batches(self, data: TaskData, size: int, *key: object, **options: Any) -> Any:
        for batch in super().batches(data, size, *key, **options):
            self.handed.append((self.epoch, data.name, len(batch)))
            yield batch

    def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        super().step(loss, optimizer)
        self.rates.append(optimizer.param_groups[0]["lr"])


def learned(suite: Suite | None = None, **settings: Any) -> System:
    return pp.learn("dfcnn", suite or tiny_images(2, size=8), **{**RUN, **TINY, **settings})


def test_a_new_task_moves_the_bases_and_nothing_of_the_others() -> None:
    system = learned()
    before = system.network.digests()
    system.learn(tiny_images(3, size=8).tasks[2], **RUN, epochs=1)
    after = system.network.digests()
    moved = {name for name, sha in before.items() if after[name] != sha}
    assert moved == {"base.conv1", "base.conv2", "base.conv3", "base.conv4"}
    assert system.isolation == "drifts"


def test_the_epoch_counter_goes_on_through_tasks_and_saves(tmp_path: Path) -> None:
    """Two tasks of two epochs, then a third after a save: its first epoch is number 4."""
    system = learned(time_decay=1.0)
    assert isinstance(system.network, Factorized) and system.network.epochs == 4
    system.save(tmp_path / "s")
    again = pp.load(tmp_path / "s")
    again.load_all()
    run = Recorder()
    method = DFCNN(**{**TINY, "time_decay": 1.0})
    data = tiny_images(3, size=8).tasks[2]
    method.admit(again.network, data.task)
    method.learn(again.network, [data], run)
    expected = [0.01 / (1 + 4), 0.01 / (1 + 5)]
    assert sorted(set(run.rates), reverse=True) == pytest.approx(expected)
    assert again.network.epochs == 6


def test_accumulators_are_saved_with_the_system_and_never_counted(tmp_path: Path) -> None:
    system = learned()
    network = system.network
    assert isinstance(network, Factorized)
    counted = sum(p.numel() for p in network.parameters())
    assert total_parameters(network) == counted
    # one square a moved value: each task's own, and the bases once a task
    bases = sum(base.values.numel() for base in network.bases.values())  # type: ignore[union-attr]
    kept = sum(buffer.numel() for buffer in network.memory.buffers())
    assert kept == counted + bases
    assert all((buffer > 0).all() for buffer in network.memory.buffers())
    assert any((buffer != 1).any() for buffer in network.memory.buffers())  # they moved from TensorFlow's ones
    system.save(tmp_path / "s")
    again = pp.load(tmp_path / "s")
    again.load_all()
    for key, buffer in network.memory.named_buffers():
        assert torch.equal(again.network.memory.get_buffer(key), buffer)  # type: ignore[attr-defined]
    assert sum(p.numel() for p in again.extract("task0").parameters()) < counted


def test_removing_a_task_drops_its_accumulators() -> None:
    system = learned()
    system.remove("task0")
    network = system.network
    assert isinstance(network, Factorized)
    assert {name.rpartition(".")[2] for name in network.memory.plan()} == {"t1"}


def test_multitask_epochs_are_passes_over_one_task_drawn_with_replacement() -> None:
    suite, run = tiny_images(3, size=8), Recorder()
    method = DFCNN(**{**TINY, "mode": "multitask", "epochs": 40, "drop_last": False})
    network = method.build([data.task for data in suite], run)
    for data in suite:
        method.admit(network, data.task)
    method.learn(network, suite.tasks, run)
    names = [{name for epoch, name, _ in run.handed if epoch == number} for number in range(40)]
    assert all(len(drawn) == 1 for drawn in names)
    order = [drawn.pop() for drawn in names]
    assert set(order) == set(suite.names)
    assert any(
        one == two for one, two in zip(order, order[1:], strict=False)
    )  # with replacement: some follow themselves
    first = order[0]
    assert sum(count for epoch, name, count in run.handed if epoch == 0) == len(suite[first].train)
    assert method.isolation == "joint"


def test_tasks_that_are_drawn_cannot_stop_early() -> None:
    with pytest.raises(InvalidInput, match="patience=1: an epoch is a pass over one task drawn at random"):
        learned(mode="multitask", patience=1)


def test_an_incomplete_last_batch_is_dropped() -> None:
    """11 examples in batches of 4: two are left out; task0 has 10 + 1 examples."""
    suite, run = tiny_images(3, size=8), Recorder()
    method = DFCNN(**{**TINY, "epochs": 1})
    network = method.build([suite.tasks[1].task], run)
    method.admit(network, suite.tasks[1].task)
    method.learn(network, [suite.tasks[1]], run)
    assert len(suite.tasks[1].train) == 11
    assert [count for _, _, count in run.handed] == [4, 4]


def test_the_loss_is_summed_over_the_mini_batch_unless_said_otherwise() -> None:
    """On squares from one, the first step is lr * g / sqrt(0.9 + 0.1 g^2), with four times the gradient in the sum."""
    heads = {}
    for over in ("sum", "mean"):
        suite, run = tiny_images(1, size=8, per_class=2), Recorder()
        method = DFCNN(**{**TINY, "epochs": 1, "over_batch": over})
        network = method.build([suite.tasks[0].task], run)
        method.admit(network, suite.tasks[0].task)
        start = network.heads["t0"].bias.detach().clone()
        method.learn(network, suite.tasks, run)
        heads[over] = (start - network.heads["t0"].bias).detach()  # type: ignore[operator]
    lr = 0.01
    gradient = heads["mean"] * (0.9 / (lr**2 - 0.1 * heads["mean"] ** 2)) ** 0.5
    expected = lr * 4 * gradient / (0.9 + 0.1 * (4 * gradient) ** 2).sqrt()
    torch.testing.assert_close(heads["sum"], expected, rtol=1e-3, atol=1e-7)


def test_peaks_by_validation_need_a_validation_split() -> None:
    suite = tiny_images(2, size=8)
    bare = Suite("bare", tuple(TaskData(d.task, d.train, None, d.test) for d in suite))
    with pytest.raises(InvalidInput, match=r"peaks='validation'.*\['task0'\].*validation=0.15.*peaks='test'"):
        learned(bare, evaluate_every=1)
    assert learned(bare, evaluate_every=1, peaks="test").tasks
    with pytest.raises(InvalidInput, match="no validation split"):
        learned(bare, evaluate_every=1, mode="multitask")


def test_learning_drives_the_loss_down() -> None:
    """Tiny images are far apart: ten epochs halve the training loss of the first."""
    system = learned(tiny_images(1, size=8), epochs=30, learning_rate=0.02, batch=5)
    curve = next(c for c in system.result.curves if (c.split, c.metric) == ("train", "loss"))
    assert curve.values[-1] < curve.values[0] / 2


def test_the_record_tells_peaks_by_validation_and_by_test() -> None:
    """Evaluated after every epoch: the own phase has one score an epoch, the first task one more at the end."""
    result = learned(epochs=3, evaluate_every=1).result
    found = result.lifelong.by_peak
    assert set(found) == {"validation", "test"}
    curve = next(c for c in result.curves if (c.task, c.split, c.metric) == ("task0", "test", "accuracy"))
    assert (curve.stages, curve.epochs) == ([0, 0, 0, 1], [0, 1, 2, 2])
    assert found["test"]["peak_accuracy"]["task0"] == max(curve.values[:3])
    assert found["test"]["forgetting_ratio"]["task0"] == curve.values[3] / max(curve.values[:3])
    assert found["validation"]["peak_accuracy"]["task0"] <= found["test"]["peak_accuracy"]["task0"]
    assert result.lifelong.reverse_transfer == {"task0": curve.values[3] - curve.values[2]}
    assert result.lifelong.backward_transfer == result.lifelong.reverse_transfer["task0"]
    test = learned(epochs=2, evaluate_every=1, peaks="test").result.lifelong.by_peak
    assert set(test) == {"test"}
    assert learned().result.lifelong.by_peak == {}


def test_the_defaults_are_the_papers() -> None:
    config = DFCNN().config
    assert config.backbone == {**config.backbone, "kind": "dfcnn", "layout": "cifar"}  # type: ignore[dict-item]
    assert (config.epochs, config.batch, config.learning_rate, config.time_decay) == (2000, 10, 1e-4, 1 / 4000)
    assert (config.optimizer, config.over_batch, config.peaks) == ("rmsprop_tf1", "sum", "validation")
