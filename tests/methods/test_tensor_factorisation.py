"""Tensor factorisation: what is shared, the start from single-task networks, growing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.nn.columns import Columns, ColumnsConfig
from polypath.nn.tensors import TensorConfig, TensorNetwork
from polypath.testing import tiny_images

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
SMALL: dict[str, Any] = {"kind": "dfcnn", "channels": [2, 2, 3, 3], "hidden": [4]}
SUITE = tiny_images(3, size=8)


def network(form: str = "tucker", tasks: int = 3, **values: Any) -> TensorNetwork:
    config = {"backbone": SMALL, "inputs": SUITE.tasks[0].task.inputs, "form": form, "num_tasks": tasks, **values}
    made = TensorNetwork(TensorConfig.of(config))
    for data in SUITE:
        made.add_task(data.task)
    return made


@pytest.mark.parametrize("form", ["tucker", "tt", "laf"])
def test_started_from_single_networks_it_answers_as_they_do(form: str) -> None:
    columns = Columns(ColumnsConfig.of({"backbone": {"kind": "conv", "blocks": [[3], [4]], "dense": [5]}, "seed": 3}))
    for data in SUITE:
        columns.add_task(data.task)
    made = network(form, backbone=columns.config.backbone)
    made.start_from(columns)
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for data in SUITE:
            found, expected = made.eval()(inputs, data.name), columns.eval()(inputs, data.name)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_columns_of_other_tasks_are_no_start() -> None:
    columns = Columns(ColumnsConfig.of({"backbone": SMALL}))
    columns.add_task(SUITE.tasks[0].task)
    with pytest.raises(InvalidInput, match=r"\['task1', 'task2'\] have no single-task network"):
        network().start_from(columns)


def test_tasks_share_the_factors_and_own_a_vector() -> None:
    made = network()
    one, other = (set(made.path(name).components) for name in ("task0", "task1"))
    assert one & other == {"base.conv1", "base.conv2", "base.conv3", "base.conv4"}
    assert set(made.components()["trunk.conv1.t0"].tensors) == {"0.vector", "0.bias"}
    assert made.tensors(["trunk.conv1.t0"])["trunk.conv1.t0"]["0.vector"].shape == (3,)


def test_a_task_more_than_the_ranks_were_made_for_finds_room() -> None:
    made = network(tasks=2)
    with torch.no_grad():
        out = made.eval()(torch.zeros(1, 3, 8, 8), "task2")
    assert torch.isfinite(out).all()


def test_it_learns_from_scratch_and_from_single_networks() -> None:
    for start in ("scratch", "single"):
        settings = {"backbone": SMALL, "epochs": 4, "batch": 5, "start": start, "start_epochs": 2}
        system = pp.learn("tensor_factorisation", SUITE, **RUN, **settings)
        assert system.isolation == "joint"
        assert system.network.epochs == 4  # type: ignore[union-attr]
        losses = [c for c in system.result.curves if c.metric == "loss"]
        assert losses
