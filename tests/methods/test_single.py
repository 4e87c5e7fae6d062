from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core import accounting
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.seeds import seeded
from polypath.methods.single import SingleConfig
from polypath.testing import tiny_features, tiny_images

TINY = {
    "backbone": {"kind": "mlp", "hidden": [8]},
    "epochs": 2,
    "batch": 8,
    "threads": 1,
    "precision": "32-true",
    "progress": False,
}


def test_every_task_has_a_network_of_its_own() -> None:
    system = pp.learn("single", tiny_features(2), **TINY)
    # 8 x 8 + 8 in the column, 8 x 2 + 2 in the head
    assert [system.cost(name).parameters for name in system.tasks] == [90, 90]
    assert accounting.total_parameters(system.network) == 180
    assert system.isolation == "exact"


def test_it_is_plain_training() -> None:
    suite = tiny_features(1)
    settings = {**TINY, "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.5, "epochs": 1, "batch": 100}
    system = pp.learn("single", suite, seed=3, **settings)
    start = pp.learn("single", suite, seed=3, **{**settings, "learning_rate": 1e-30}).extract("task0", fused=False)
    data = suite["task0"]
    inputs = data.task.preprocess.encode(data.train.inputs())
    with seeded(0, "overwritten below"):
        plain = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    with torch.no_grad():
        for parameter, value in zip(plain.parameters(), start.parameters(), strict=True):
            parameter.copy_(value)
    torch.nn.functional.cross_entropy(plain(inputs), data.train.targets).backward()
    expected = [parameter - 0.5 * parameter.grad for parameter in plain.parameters()]  # one step over all examples
    for found, wanted in zip(system.extract("task0", fused=False).parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_early_stopping_keeps_the_best_state_by_validation_loss() -> None:
    suite = tiny_features(1)
    settings = {**TINY, "learning_rate": 3.0, "optimizer": "sgd", "epochs": 20, "patience": 2, "min_delta": 0.01}
    system = pp.learn("single", suite, seed=1, **settings)
    assert system.result is not None
    curve = next(c for c in system.result.curves if (c.split, c.metric) == ("val", "loss"))
    assert len(curve.values) < 20  # it stopped
    data = suite["task0"]
    outputs = system.extract("task0")(data.task.preprocess.encode(data.val.inputs()))
    kept = float(data.task.loss_of(outputs.detach(), data.val.targets))
    best = curve.values[0]
    for value in curve.values[1:]:
        best = value if value < best - 0.01 else best
    assert kept == pytest.approx(best, abs=1e-6)
    assert best < curve.values[-1] + 0.01  # the last two did not improve on it


def test_without_validation_early_stopping_is_refused() -> None:
    from dataclasses import replace

    suite = tiny_features(1)
    bare = replace(suite, tasks=tuple(replace(item, val=None) for item in suite))
    with pytest.raises(InvalidInput, match="has no validation split"):
        pp.learn("single", bare, patience=1, **TINY)


def test_a_backbone_that_cannot_take_the_inputs_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="takes images"):
        pp.learn("single", tiny_features(1), **{**TINY, "backbone": "conv"})
    with pytest.raises(UnknownName, match="kind of backbone"):
        pp.learn("single", tiny_images(1), **{**TINY, "backbone": "resnt"})


def test_batch_sizes_can_be_named_task_by_task() -> None:
    system = pp.learn("single", tiny_features(2), **{**TINY, "batch": {"task0": 4, "default": 8}})
    assert list(system.tasks) == ["task0", "task1"]
    with pytest.raises(InvalidInput, match="batch: no size for task 'task1'"):
        pp.learn("single", tiny_features(2), **{**TINY, "batch": {"task0": 4}})


def test_tasks_can_ask_for_improvements_of_their_own_size() -> None:
    config = SingleConfig(min_delta={"default": 0.01, "small": 0.001})
    assert config.min_delta_of(["large"]) == 0.01
    assert config.min_delta_of(["large", "small"]) == 0.001  # tasks that stop together
    assert SingleConfig(min_delta={"small": 0.001}).min_delta_of(["large"]) == 0.0
    assert SingleConfig(min_delta=0.5).min_delta_of(["any"]) == 0.5
    with pytest.raises(InvalidInput, match="min_delta"):
        SingleConfig.of({"min_delta": {"small": -1}})


def test_epochs_that_early_stopping_left_out_are_not_counted(tmp_path: Path) -> None:
    """Neither by the rate of later tasks nor by the journal, whose last score is of the last epoch that was trained."""
    suite = tiny_features(2)
    settings = {**TINY, "learning_rate": 3.0, "optimizer": "sgd", "epochs": 20, "patience": 2, "min_delta": 0.01}
    system = pp.learn("single", suite, seed=1, out=tmp_path, **{**settings, "time_decay": 0.001})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [{line["epoch"] for line in lines if line["kind"] == "train" and line["stage"] == n} for n in (0, 1)]
    assert all(len(epochs) < 20 for epochs in trained)
    assert system.network.epochs == sum(map(len, trained))  # type: ignore[union-attr]
    for stage, epochs in enumerate(trained):
        assert max(line["epoch"] for line in lines if line.get("stage") == stage) == max(epochs)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch": 0}, "batch"),
        ({"batch": {"default": -3}}, "batch"),
        ({"optimizer": "sgd", "nesterov": True, "momentum": 0.0}, "nesterov=True needs a momentum above 0"),
    ],
)
def test_settings_that_cannot_train_are_refused_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        pp.learn("single", tiny_features(1), **{**TINY, **settings})
