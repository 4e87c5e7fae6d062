"""Which task goes to which branch: in the order given, by classes, by measured difficulty, at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from polypath.core.errors import NeedsValidation
from polypath.core.examples import TaskData
from polypath.core.network import Network
from polypath.core.task import Task
from polypath.data.batches import scaled
from polypath.metrics.evaluation import outputs_of


def spread(names: Sequence[str], count: int) -> dict[str, int]:
    """Task -> branch 1..count, in the order given; as evenly as it goes, and the last task always on the last branch.

    With as many tasks as branches the k-th takes branch k; with more, neighbours share a branch; with fewer, the first
    takes branch 1 and some in between stay empty. One task alone takes the last branch.
    """
    tasks = len(names)
    if tasks == 1:
        return {names[0]: count}
    if tasks <= count:
        return {name: 1 + round(k * (count - 1) / (tasks - 1)) for k, name in enumerate(names)}
    return {name: 1 + k * count // tasks for k, name in enumerate(names)}


def by_classes(tasks: Sequence[Task]) -> list[str]:
    """Task names by number of outputs, fewest first; equal ones stay in the order given."""
    return [task.name for task in sorted(tasks, key=lambda task: task.target.outputs)]


def shuffled(names: Sequence[str], stream: torch.Generator) -> list[str]:
    """Task names in a random order."""
    return [names[i] for i in torch.randperm(len(names), generator=stream, device="cpu").tolist()]


def by_difficulty(losses: Mapping[str, float]) -> list[str]:
    """Task names by validation loss, lowest first."""
    return sorted(losses, key=lambda name: losses[name])


def validation_losses(network: Network, data: Sequence[TaskData], device: torch.device) -> dict[str, float]:
    """Mean loss of every task on its validation examples.

    Raises:
        NeedsValidation: a task has no validation split.
    """
    found = {}
    for item in data:
        if item.val is None:
            raise NeedsValidation(
                f"task {item.name!r} has no validation split, but its difficulty is to be measured on it; build the "
                "suite with validation=0.1 or so, or assign branches in another way"
            )
        module = network.extract(item.name).to(device)
        outputs = outputs_of(module, item.task, item.val, device)
        found[item.name] = float(item.task.loss_of(outputs, scaled(item, item.val.targets), weighted=False))
    return found
