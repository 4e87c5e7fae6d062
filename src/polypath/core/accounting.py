"""Everything that follows from components and paths alone, computed once for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.errors import InvalidInput
from polypath.core.network import Network
from polypath.core.task import Task


@dataclass(frozen=True)
class Cost:
    """What one task costs.

    Args:
        parameters: trainable values on its path; of components it uses in part, those it uses.
        added_parameters: those that no task added earlier uses.
        activated: parameters / all parameters of the network, 0..1.
        flops: 2 x multiply-accumulates of one forward pass at batch 1, on the dense extracted path.
        size_bytes: bytes of the path's tensors, statistics included.
    """

    parameters: int
    added_parameters: int
    activated: float
    flops: int
    size_bytes: int


@dataclass(frozen=True)
class Removal:
    """What removing tasks does.

    Args:
        removed: the tasks that go.
        freed: components deleted because only these tasks used them.
        reset: capacity put back to its initial values because nobody uses it any more.
        residue: kept components that the removed tasks' data helped to shape.
    """

    removed: tuple[str, ...]
    freed: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    residue: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sharing:
    """Who uses what.

    Args:
        users: component -> tasks whose path holds it.
        profile: number of components used by k tasks, k = 0..number of tasks (own components left out).
    """

    users: dict[str, tuple[str, ...]]
    profile: list[int] = field(default_factory=list)


def total_parameters(network: Network) -> int:
    """Trainable values of the whole network, auxiliary state left out."""
    return sum(network.parameter_counts().values())


def byte_counts(network: Network) -> dict[str, int]:
    """Component -> bytes of its tensors."""
    return {name: bytes_of(held) for name, held in network.tensors(network.components()).items()}


def bytes_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of a component's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def users_of(paths: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """Component -> tasks that use it, in the order of `paths`."""
    users: dict[str, list[str]] = {}
    for task, path in paths.items():
        for name in path.components:
            users.setdefault(name, []).append(task)
    return {name: tuple(tasks) for name, tasks in users.items()}


def sharing(components: Mapping[str, Component], paths: Mapping[str, Path]) -> Sharing:
    """Who uses what, and the histogram over components that could be shared (every kind but `own`)."""
    used = users_of(paths)
    users = {name: used.get(name, ()) for name in components}
    profile = [0] * (len(paths) + 1)
    for name, part in components.items():
        if part.kind != "own":
            profile[len(users[name])] += 1
    return Sharing(users, profile)


def dependencies(paths: Mapping[str, Path], components: Mapping[str, Component]) -> dict[str, tuple[str, ...]]:
    """Task -> other tasks that use a component which is the task's own, or which its data helped to make.

    Those are the tasks that break when this one is removed (a network that reads another task's weights, copies of
    its layers); sharing pool modules is no dependency, because they stay.
    """
    users = users_of(paths)
    first_user = {name: tasks[0] for name, tasks in users.items()}
    made: dict[str, list[str]] = {task: [] for task in paths}
    for name, task in first_user.items():
        if name in components and components[name].kind == "own":
            made[task].append(name)
    for name, part in components.items():
        for task in part.builds_on if name in users else ():
            made.setdefault(task, []).append(name)
    return {
        task: tuple(dict.fromkeys(other for name in made[task] for other in users[name] if other != task))
        for task in paths
    }


def tasks_to_remove(
    network: Network, task: str, cascade: bool, shaped: Callable[[str], Iterable[str]] = lambda name: ()
) -> tuple[str, ...]:
    """The task and, with `cascade`, every task that cannot stay without it, in the order they were added.

    Args:
        network: which has the task.
        task: that goes.
        cascade: whether others may go with it.
        shaped: of a task that goes, further tasks that must go as well: those that use what its data trained.

    Raises:
        InvalidInput: others build on the task, or on what its data trained where that must go, and `cascade` is
            False; names them.
    """
    network.task_named(task)
    depends = dependencies(network.reaches(), network.components())
    going, queue, trained = {task}, [task], set()
    while queue:
        name = queue.pop()
        for other in (*depends[name], *shaped(name)):
            if other not in going:
                going.add(other)
                queue.append(other)
                if other not in depends[name]:
                    trained.add(other)
    others = [name for name in network.tasks if name in going and name != task]
    if others and not cascade:
        why = f"{others} build on it" if not trained else f"{others} build on it or on what its data trained"
        way = ", or keep what is shared as residue (--keep-residue)" if set(others) == trained else ""
        raise InvalidInput(
            f"task {task!r} cannot be removed: {why}; remove them first or ask to cascade (--cascade){way}"
        )
    return tuple(name for name in network.tasks if name in going)


def cost(network: Network, task: str, exit: str | None = None) -> Cost:
    """What one task costs, at its last exit unless another is named; builds the fused path once to count operations."""
    path, counts = network.path(task, exit), network.parameter_counts()
    earlier: set[str] = set()
    for other in network.tasks:
        if other == task:
            break
        earlier |= set(network.path(other).components)
    total = sum(counts.values())
    selected = dict(path.selected)
    used = sum(selected.get(name, counts[name]) for name in path.components)
    return Cost(
        parameters=used,
        added_parameters=sum(counts[name] for name in path.components if name not in earlier),
        activated=used / total if total else 0.0,
        flops=flops(network.extract(task, fused=True, exit=exit), network.task_named(task)),
        size_bytes=sum(map(bytes_of, network.tensors(path.components).values())),
    )


def flops(module: nn.Module, task: Task) -> int:
    """2 x multiply-accumulates of one forward pass on one example, by torch's counter, on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    dtype = torch.int64 if task.inputs.kind == "tokens" else torch.float32
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.to("meta")(torch.zeros(1, *task.inputs.shape, dtype=dtype, device="meta"))
    return int(counter.get_total_flops())


def check_partition(network: Network) -> list[str]:
    """Sentences about state entries that no component or more than one component holds; empty when all is well."""
    held: dict[str, list[str]] = {}
    for name, part in network.components().items():
        for key in (*part.tensors.values(), *part.auxiliary.values()):
            held.setdefault(key, []).append(name)
    keys = set(network.state_dict())
    problems = [f"state entry {key!r} belongs to no component" for key in sorted(keys - held.keys())]
    problems += [
        f"component(s) {held[key]} name {key!r}, which is no state entry" for key in sorted(held.keys() - keys)
    ]
    problems += [f"state entry {key!r} belongs to {names}" for key, names in sorted(held.items()) if len(names) > 1]
    return problems
