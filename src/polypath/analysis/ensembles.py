"""Tasks that answer one question about one test set, asked together."""

from __future__ import annotations

from typing import Any

import torch

from polypath.core.examples import Suite, TaskData
from polypath.core.network import Network
from polypath.metrics import details, ensemble, measure
from polypath.metrics.evaluation import outputs_of


def ensembles(network: Network, suite: Suite, *, batch_size: int = 256) -> list[dict[str, Any]]:
    """One record for every group of tasks with the same labels and the same test examples.

    The common answer is the class with the largest sum of softmax outputs; with k tasks it costs k passes. It is
    recorded, nothing is selected by it.

    Args:
        network: trained.
        suite: tasks the network has, with test data.
        batch_size: examples walked at a time.

    Returns:
        Records `{"tasks": names, "test": {metric: value}, "f1": {label: F1}, "members": {task: {metric: value}}}`;
        none where no two tasks belong together.
    """
    found = []
    for group in _groups(suite):
        first = group[0]
        assert first.test is not None
        examples = first.test.unseal()
        outputs = {}
        for data in group:
            module = network.extract(data.name)
            device = next((p.device for p in module.parameters()), torch.device("cpu"))
            outputs[data.name] = outputs_of(module, data.task, examples, device, batch_size)
        common = ensemble(list(outputs.values()))
        found.append(
            {
                "tasks": [data.name for data in group],
                "test": measure(first.task, common, examples.targets),
                "f1": details(first.task, common, examples.targets)["f1"],
                "members": {name: measure(first.task, values, examples.targets) for name, values in outputs.items()},
            }
        )
    return found


def _groups(suite: Suite) -> list[list[TaskData]]:
    """Classification tasks with equal labels and equal test rows, two or more at a time."""
    groups: list[list[TaskData]] = []
    for data in suite:
        if data.test is None or data.task.target.kind != "classification":
            continue
        for group in groups:
            if _alike(group[0], data):
                group.append(data)
                break
        else:
            groups.append([data])
    return [group for group in groups if len(group) > 1]


def _alike(one: TaskData, other: TaskData) -> bool:
    assert one.test is not None and other.test is not None
    a, b = one.test.unseal(), other.test.unseal()
    return (
        one.task.target == other.task.target
        and a.source is b.source
        and torch.equal(a.index, b.index)
        and torch.equal(a.targets, b.targets)
    )
