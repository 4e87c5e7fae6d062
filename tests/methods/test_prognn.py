"""Progressive networks: what a column reads, what holds still, what goes when a task is removed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.nn.progressive import Progressive
from polypath.system import System
from polypath.testing import tiny_features, tiny_images

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
TINY: dict[str, Any] = {"backbone": {"kind": "dfcnn", "channels": [2, 4, 3, 3], "hidden": [3]}, "epochs": 1, "batch": 4}


def learned(tasks: int = 3) -> System:
    return pp.learn("prognn", tiny_images(tasks, size=8), **RUN, **TINY)


def test_a_column_computes_what_its_formula_says() -> None:
    """The second task's first two convolutions, written out: own plus expand(relu(reduce(gain * earlier)))."""
    network = learned(2).network.eval()
    assert isinstance(network, Progressive)
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        old, new = (network._column(key) for key in ("t0", "t1"))
        first_old, first_new = old["conv1"](inputs), new["conv1"](inputs)
        lateral = network.laterals["conv2-t1"]
        extra = lateral.expand[0](torch.relu(lateral.reduce[0](lateral.gains[0] * first_old)))  # type: ignore[index, operator]
        own = new["conv2"][0](first_new) + extra  # type: ignore[index]
        expected = new["conv2"][2](torch.relu(own))  # type: ignore[index]
        steps = network.path("task1").steps
        value = network.step(network.step(inputs, steps[0]), steps[1])
    assert steps[1] == ("lateral.conv2.t1", "trunk.conv2.t0", "trunk.conv2.t1")
    torch.testing.assert_close(value.chunk(2, dim=1)[1] if value.shape[1] == 8 else value, expected)


def test_laterals_are_as_narrow_as_the_authors() -> None:
    """c_in // (2 * (earlier columns + 1)): 4 // 4 = 1 for the second column, never less than 1."""
    network = learned(3).network
    assert isinstance(network, Progressive)
    assert [m.out_channels for m in network.laterals["conv3-t1"].reduce] == [1]  # type: ignore[union-attr]
    assert [m.out_channels for m in network.laterals["conv3-t2"].reduce] == [1, 1]  # type: ignore[union-attr]
    assert network.path("task2").steps[3] == ("lateral.conv4.t2", "trunk.conv4.t2")  # only its own goes on
    assert network.path("task2").steps[4] == ("trunk.dense1.t2",)


def test_earlier_columns_hold_still_and_later_ones_read_them() -> None:
    system = learned(2)
    before = system.network.digests()
    system.learn(tiny_images(3, size=8).tasks[2], **RUN)
    after = system.network.digests()
    assert all(after[name] == sha for name, sha in before.items())
    assert system.isolation == "exact"
    assert "task2" in system.affected_by(["trunk.conv1.t0"])
    assert "task2" not in system.affected_by(["trunk.dense1.t0"])


def test_removing_a_task_leaves_what_later_ones_read() -> None:
    system = learned(2)
    removal = system.remove("task0")
    assert set(removal.freed) == {"trunk.conv4.t0", "trunk.dense1.t0", "head.t0"}
    assert {"trunk.conv1.t0", "trunk.conv2.t0", "trunk.conv3.t0"} <= set(removal.residue)
    again = Progressive.restore(system.network.plan())
    assert set(again.components()) == set(system.network.components())
    last = system.remove("task1")
    assert {"trunk.conv1.t0", "trunk.conv1.t1"} <= set(last.freed)
    assert system.network.components() == {}


def test_a_backbone_without_leading_convolutions_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"pieces begin with convolutions"):
        pp.learn("prognn", tiny_features(2), **RUN, backbone={"kind": "mlp", "hidden": [3]}, epochs=1)
