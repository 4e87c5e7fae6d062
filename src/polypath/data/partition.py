"""Which classes make which task: pure functions over class numbers."""

from __future__ import annotations

from typing import Literal

import torch

from polypath.core.errors import InvalidInput
from polypath.core.seeds import generator

Order = Literal["consecutive", "random"]


def sizes(classes: int, tasks: int | None, classes_per_task: int | None) -> tuple[int, int]:
    """Number of tasks and of classes in each.

    Raises:
        InvalidInput: neither is given, or they do not fit the number of classes.
    """
    if tasks is None and classes_per_task is None:
        raise InvalidInput(f"tasks or classes_per_task is required for {classes} classes")
    if classes_per_task is None:
        assert tasks is not None
        if tasks <= 0 or classes % tasks:
            fitting = [n for n in range(1, classes // 2 + 1) if classes % n == 0]
            raise InvalidInput(
                f"tasks={tasks}: {classes} classes cannot be dealt out evenly; take one of {fitting} or give "
                "classes_per_task (left-over classes are not used)"
            )
        classes_per_task = classes // tasks
    if tasks is None:
        tasks = classes // classes_per_task
    if classes_per_task < 2:
        raise InvalidInput(f"classes_per_task={classes_per_task}: a task needs at least two classes")
    if tasks < 1 or tasks * classes_per_task > classes:
        raise InvalidInput(
            f"{tasks} tasks of {classes_per_task} classes need more than the {classes} classes there are"
        )
    return tasks, classes_per_task


def deal(classes: int, tasks: int, classes_per_task: int, order: Order, seed: int) -> list[list[int]]:
    """Disjoint class numbers of every task.

    Args:
        classes: how many there are.
        tasks: how many.
        classes_per_task: of each.
        order: consecutive numbers, or dealt out at random from `seed`.
        seed: of the random order.
    """
    numbers = list(range(classes))
    if order == "random":
        numbers = torch.randperm(classes, generator=generator(seed, "classes")).tolist()
    return [numbers[task * classes_per_task : (task + 1) * classes_per_task] for task in range(tasks)]


def lookup(chosen: list[int], classes: int) -> torch.Tensor:
    """Table from stored class number to the task's own 0..k-1, -1 for classes of other tasks.

    A table, not substitution in place: a number already renumbered can never be hit again (the published PaRT code
    merged classes that way, in 20 of 50 of its tasks).
    """
    table = torch.full((classes,), -1, dtype=torch.int64)
    table[torch.tensor(chosen)] = torch.arange(len(chosen))
    return table
