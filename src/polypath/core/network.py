"""A network whose state is partitioned into components and whose tasks are paths through them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from polypath.core.component import Component, Path, digest
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.task import InputSpec, Task


class Network(nn.Module, ABC):
    """State = tensors + one JSON `plan()`.

    A network writes the abstract methods; walking, freezing, extracting and hashing are written here, once. State
    keys use ids, never task names. The same class with the same plan always has the same components.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[str, Task] = {}
        self._frozen: set[str] = set()
        self.fetch: Callable[[Iterable[str]], None] | None = None

    # ---- what each network writes -----------------------------------------------------------------------------

    @abstractmethod
    def plan(self) -> dict[str, Any]:
        """JSON that together with the tensors is the whole network: configuration, tasks, paths, counters."""

    @classmethod
    @abstractmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The network of a plan on the meta device, without values; `assign` gives them.

        Args:
            plan: what `plan()` returned.
            keep: build only these components (an extracted path); None builds all.
        """

    @abstractmethod
    def add_task(self, task: Task) -> None:
        """Enter the task in `_tasks` and give it a path and the components that are its own."""

    @abstractmethod
    def components(self) -> dict[str, Component]:
        """All components by name; together they hold every state entry exactly once."""

    @abstractmethod
    def path(self, task: str, exit: str | None = None) -> Path:
        """The path of a task, to its last exit unless another is named."""

    @abstractmethod
    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the first step receives, from encoded inputs (n, ...)."""

    @abstractmethod
    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """One step: the components `names`, used together, applied to the value of the step before."""

    @abstractmethod
    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Take a task out of `_tasks`: (names of components deleted, names of those reset to their initial values)."""

    @abstractmethod
    def fuse(self, path: Path) -> nn.Module:
        """An ordinary module that computes the path in eval mode within 1e-5 of `walk`, as fast as it can.

        Its parameters are new tensors: training it does not change the network.
        """

    def fuse_many(self, paths: Sequence[Path]) -> nn.Module:
        """One module for several paths: encoded inputs in, a tuple of their outputs out; networks may share work."""
        return Several([self.fuse(path) for path in paths])

    # ---- what networks write that may hold more tasks than memory ---------------------------------------------

    @property
    def lazy(self) -> bool:
        """Whether modules are made when they are needed; then the methods below are written, too.

        A lazy network describes all its components (`components`, `path`, `plan`, and `tensors` on the meta device),
        but has modules for those that were built alone. What goes over all modules (moving to a device, training mode,
        a state dictionary) then takes the time of what is built, not of the whole network.
        """
        return False

    @classmethod
    def described(cls, plan: Mapping[str, Any]) -> Self:
        """The network of a plan with as few modules built as it can do with."""
        return cls.restore(plan)

    def built(self) -> Collection[str]:
        """Names of the components whose modules exist."""
        return self.components().keys()

    def build(self, names: Iterable[str]) -> None:
        """Make the modules of components that are only described, on the meta device; `assign` gives them values."""

    def fork(self, names: Collection[str]) -> Self:
        """A network that may be trained, grown and shrunk without a change of this one.

        Args:
            names: components of which it holds copies, where they are built here; a lazy network leaves all others
                out, any other network copies everything.
        """
        return copy.deepcopy(self)

    def take(self, other: Self, names: Iterable[str]) -> None:
        """Hold the modules that another network has built of components described here: the same, not copies."""

    def excerpt(self, names: Collection[str]) -> Self:
        """A network of these components alone, with copies of their tensors: what an extracted path runs in."""
        made = type(self).restore(self.plan(), keep=names)
        copies = {
            name: {local: tensor.detach().clone() for local, tensor in held.items()}
            for name, held in self.tensors(names).items()
        }
        made.assign(copies)
        return made

    def require(self, names: Iterable[str]) -> None:
        """Have the values of components here, before a method reads those that it did not announce as `needs`."""
        if self.fetch is not None:
            self.fetch(names)

    # ---- what is written once ---------------------------------------------------------------------------------

    def walk(self, inputs: torch.Tensor, path: Path) -> torch.Tensor:
        """Outputs (n, outputs) of any path, also of one that is no task's."""
        value = self.start(inputs)
        for names in path.steps:
            value = self.step(value, names)
        return value

    def forward(self, inputs: torch.Tensor, task: str) -> torch.Tensor:
        """Outputs (n, outputs) of one task for encoded inputs (n, ...)."""
        return self.walk(inputs, self.path(task))

    @property
    def tasks(self) -> dict[str, Task]:
        """Task name -> task, in the order they were added."""
        return dict(self._tasks)

    def forward_many(self, inputs: torch.Tensor, tasks: Iterable[str]) -> dict[str, torch.Tensor]:
        """Outputs of several tasks on the same inputs; steps of equal prefixes run once."""
        paths = {task: self.path(task) for task in tasks}
        return dict(zip(paths, self.walk_many(inputs, paths.values()), strict=True))

    def walk_many(self, inputs: torch.Tensor, paths: Iterable[Path]) -> list[torch.Tensor]:
        """Outputs of several paths (tasks, or exits of one) on the same inputs; steps of equal prefixes run once."""
        wanted = list(paths)
        done: dict[tuple[tuple[str, ...], ...], torch.Tensor] = {(): self.start(inputs)}
        for path in wanted:
            for depth in range(1, len(path.steps) + 1):
                prefix = path.steps[:depth]
                if prefix not in done:
                    done[prefix] = self.step(done[prefix[:-1]], prefix[-1])
        return [done[path.steps] for path in wanted]

    def exits(self, task: str) -> tuple[str, ...]:
        """Names of the task's exits, cheapest first, the last being its default; none where it has but one."""
        self.task_named(task)
        return ()

    def reach(self, task: str) -> Path:
        """Everything that is the task's to use: its path, and the other exits' components as further steps.

        Not to be walked: it says what removing the task frees, and whom a change of a component can touch.
        """
        path = self.path(task)
        more = [step for exit in self.exits(task) for step in self.path(task, exit).steps if step not in path.steps]
        return Path(task, (*path.steps, *more))

    def reaches(self) -> dict[str, Path]:
        """Task name -> everything that is the task's to use."""
        return {name: self.reach(name) for name in self.tasks}

    def task_named(self, name: str) -> Task:
        """The task called `name`; UnknownName offers the nearest."""
        if name not in self._tasks:
            raise UnknownName("task", name, self._tasks)
        return self._tasks[name]

    @classmethod
    def plan_renamed(cls, plan: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
        """The plan with a task under another name; components, and so their names and values, stay.

        Overridden where a plan names tasks elsewhere than in the `task` of its `tasks`.

        Args:
            plan: what `plan()` returned.
            old: what the task is called.
            new: what it will be called; no other is called so.
        """
        tasks = [
            {**entry, "task": {**entry["task"], "name": new}} if entry["task"]["name"] == old else entry
            for entry in plan["tasks"]
        ]
        return {**plan, "tasks": tasks}

    def require_free(self, name: str) -> None:
        """Raise InvalidInput where a task is already called so."""
        if name in self.tasks:
            raise InvalidInput(f"task {name!r} is already in the system; choose another name or remove it first")

    def require_inputs(self, task: Task, wanted: InputSpec, who: str) -> None:
        """Raise InvalidInput where a task's inputs are not those that `who` ("the root was built for") wants."""
        if task.inputs != wanted:
            raise InvalidInput(
                f"task {task.name!r}: {who} {wanted!r}, received {task.inputs!r}; bring its inputs to that shape"
            )

    def require_only_exit(self, task: str, exit: str | None) -> None:
        """Raise UnknownName for an unknown task, InvalidInput where an exit is named of a task that has just one."""
        self.task_named(task)
        if exit is not None:
            raise InvalidInput(f"task {task!r} has one exit; exit={exit!r} cannot be asked for")

    def components_of(self, tasks: Iterable[str]) -> list[str]:
        """Every component that is these tasks' to use, each once, in order of first use."""
        return list(dict.fromkeys(name for task in tasks for name in self.reach(task).components))

    def affected_by(self, changed: Iterable[str]) -> tuple[str, ...]:
        """Tasks whose outputs a change of the named components can touch, in the order they were added."""
        moved = frozenset(changed)
        if not moved:
            return ()
        return tuple(task for task, path in self.reaches().items() if not moved.isdisjoint(path.components))

    def paths(self) -> dict[str, Path]:
        """Task name -> path to its last exit."""
        return {name: self.path(name) for name in self.tasks}

    def tensors(self, names: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
        """Component -> {local name: tensor}; the live tensors, not copies."""
        parts = self.components()
        return {name: {local: self.entry(key) for local, key in parts[name].tensors.items()} for name in names}

    def parameter_counts(self) -> dict[str, int]:
        """Component -> trainable values in it (BatchNorm statistics are state, not parameters)."""
        held = self.tensors(self.components())
        return {name: parameters_in(tensors.values()) for name, tensors in held.items()}

    def entry(self, key: str) -> torch.Tensor:
        """The live tensor of one state key, found without a look at the others.

        Raises:
            KeyError: the network has no such entry.
        """
        owner, _, leaf = key.rpartition(".")
        try:
            module = self.get_submodule(owner)
        except AttributeError as error:
            raise KeyError(key) from error
        found: torch.Tensor | None = module._parameters.get(leaf)
        if found is None:
            found = module._buffers[leaf]
        if found is None:
            raise KeyError(key)
        return found

    def digests(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Component -> sha256 of its contents; all components unless named."""
        wanted = self.components() if names is None else names
        return {name: digest(values) for name, values in self.tensors(wanted).items()}

    def assign(self, values: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Take the given tensors as the state of the named components, without copying them.

        Raises:
            KeyError: a component or local name the network does not have.
        """
        parts = self.components()
        state = {parts[name].tensors[local]: tensor for name, held in values.items() for local, tensor in held.items()}
        self.build(values)
        self.receive(state)

    def receive(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take tensors as the entries of the state, by their keys, without copying them.

        Raises:
            KeyError: the network has no such entry.
            RuntimeError: a tensor of another shape.
        """
        for key, tensor in state.items():
            now = self.entry(key)
            if now.shape != tensor.shape:
                raise RuntimeError(f"{key} has shape {tuple(now.shape)}, received {tuple(tensor.shape)}")
            owner, _, leaf = key.rpartition(".")
            if isinstance(now, nn.Parameter) and not isinstance(tensor, nn.Parameter):
                tensor = nn.Parameter(tensor, requires_grad=now.requires_grad)
            setattr(self.get_submodule(owner), leaf, tensor)

    def trainable(self, names: Iterable[str]) -> list[nn.Parameter]:
        """Parameters of the named components that are not frozen: the only source of an optimizer's parameters.

        An optimizer that holds nothing else cannot move anything else, whatever its momentum or weight decay.
        """
        parts = self.components()
        keys = dict.fromkeys(key for name in names if name not in self._frozen for key in parts[name].tensors.values())
        found = [self.entry(key) for key in keys]
        return list(dict.fromkeys(tensor for tensor in found if isinstance(tensor, nn.Parameter)))

    def freeze(self, names: Iterable[str]) -> None:
        """Hold the named components still: no gradients, and eval mode inside `train()` (BatchNorm statistics)."""
        self._frozen |= set(names)
        self._apply_frozen()

    def thaw(self) -> None:
        """Let everything learn again."""
        held, self._frozen = self._frozen, set()
        parameters = dict(self.named_parameters())
        parts = self.components()
        for name in held & parts.keys():
            for key in parts[name].tensors.values():
                if key in parameters:
                    parameters[key].requires_grad_(True)
        self.train(self.training)

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the components that are held still."""
        return frozenset(self._frozen)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; frozen components stay in evaluation."""
        super().train(mode)
        if mode and self._frozen:
            self._apply_frozen()
        return self

    def _apply_frozen(self) -> None:
        parts = self.components()
        modules = dict(self.named_modules())
        parameters = dict(self.named_parameters())
        for name in self._frozen & parts.keys() & set(self.built()):
            for key in parts[name].tensors.values():
                if key in parameters:
                    parameters[key].requires_grad_(False)
                modules[key.rpartition(".")[0]].training = False

    def extract(self, task: str, *, fused: bool = True, exit: str | None = None) -> nn.Module:
        """The task's path alone as an ordinary module in eval mode: encoded inputs in, outputs out.

        Args:
            task: which task.
            fused: merge what can be merged (BatchNorm into convolutions, sums into wide layers): same outputs within
                1e-5 relative in float32. False: the same operations on copies of the path's tensors, bit-identical.
            exit: which exit, for tasks that have several.
        """
        path = self.path(task, exit)
        if fused:
            with torch.no_grad():
                return self.fuse(path).eval()
        return Extracted(self, path).eval()


class Extracted(nn.Module):
    """One path, unfused: only its own components, copied; forward is bit-identical to the network's."""

    def __init__(self, network: Network, path: Path) -> None:
        super().__init__()
        self.network, self.path = network.excerpt(set(path.components)), path

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs (n, outputs) for encoded inputs (n, ...)."""
        return self.network.walk(inputs, self.path)


class Several(nn.Module):
    """Modules that answer the same inputs, one after the other."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(modules)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of all of them."""
        return tuple(module(inputs) for module in self.members)


def parameters_in(tensors: Iterable[torch.Tensor]) -> int:
    """Trainable values among these."""
    return sum(tensor.numel() for tensor in tensors if isinstance(tensor, nn.Parameter))
