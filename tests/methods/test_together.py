"""Tasks side by side: how many mini-batches each gives where incomplete ones are left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.methods.together import batches
from polypath.methods.training import TrainingConfig, steps_an_epoch
from polypath.testing import tiny_features
from polypath.train.config import RunConfig
from polypath.train.engine import Engine


def engine() -> Engine:
    return Engine(seed=0, config=RunConfig(device="cpu", precision="32-true", threads=1), progress=False)


def uneven() -> Suite:
    """Two tasks, the second with the first 5 training examples of its 10 or more."""
    large, small = tiny_features(2).tasks
    rows = torch.cat([torch.nonzero(small.train.targets == label).flatten()[:3] for label in (0, 1)])[:5]
    return Suite("uneven", (large, replace(small, train=small.train.select(rows))))


def test_a_small_task_that_is_repeated_keeps_pace_without_incomplete_batches() -> None:
    suite = uneven()
    large, small = (len(item.train) for item in suite)
    assert small == 5 < large
    for drop, expected in ((False, -(-large // 4)), (True, large // 4)):
        found = list(batches(suite.tasks, engine(), dict.fromkeys(suite.names, 4), False, ("key",), drop))
        assert [set(batch) for batch in found] == [set(suite.names)] * expected
        assert not drop or all(len(part) == 4 for batch in found for part in batch.values())


@pytest.mark.parametrize("drop", [False, True])
def test_steps_are_counted_as_batches_come(drop: bool) -> None:
    """What CPG and NestedNet spread their pruning over, and the display shows."""
    suite = uneven()
    data, each = {item.name: item for item in suite}, engine()
    for sizes in ((4, 4), (8, 3), (1000, 1000)):
        batch = dict(zip(suite.names, sizes, strict=True))
        config = TrainingConfig(batch=batch, drop_last=drop)
        for group in (suite.names, suite.names[:1], suite.names[1:]):
            found = list(batches([data[name] for name in group], each, batch, False, ("key",), drop))
            assert steps_an_epoch(data, [group], config) == len(found)


def test_common_inputs_leave_an_incomplete_batch_out_too() -> None:
    first = tiny_features(1).tasks[0]
    other = replace(first, task=first.task.changed(name="other"))
    data, count = (first, other), len(first.train)
    size = count // 2 - 1  # two whole batches, and a rest
    for drop, expected in ((False, [size, size, count - 2 * size]), (True, [size, size])):
        found = list(batches(data, engine(), {"task0": size, "other": size}, True, ("key",), drop))
        assert [len(batch["other"]) for batch in found] == expected


def test_common_inputs_are_refused_in_batches_of_different_sizes_before_teachers_are_trained() -> None:
    first = tiny_features(1).tasks[0]
    suite = Suite("two", (first, replace(first, task=first.task.changed(name="other"))))
    settings: dict[str, Any] = {"backbone": {"kind": "mlp", "hidden": [4]}, "epochs": 1, "decay_at": (), "threads": 1}
    settings |= {"batch": {"task0": 2, "other": 3}, "progress": False}
    seen: list[Any] = []
    with pytest.raises(InvalidInput, match=r"share their inputs need one size, received .* \(share_inputs=False\)"):
        pp.learn("multipath", suite, **settings, on_progress=seen.append)
    assert not seen
    pp.learn("multipath", suite, **settings, share_inputs=False)
