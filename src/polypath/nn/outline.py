"""Outlines: what a component's tensors look like, for components whose modules are not made yet.

A network of separate columns is described by them: modules are made for the columns that are asked for, so that opening
a system of many tasks, adding one and answering one take what that one task takes.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.network import Network
from polypath.core.task import InputSpec, Task
from polypath.nn.backbones import Backbone, kind_of
from polypath.nn.column_names import head_name, key_of, piece_name, place_of, split_name
from polypath.nn.memory import Memory

Outline = Mapping[str, torch.Tensor]
"""Local name -> tensor on the meta device, a Parameter where the module has one."""


def outline(module: nn.Module) -> dict[str, torch.Tensor]:
    """The outline of a module that lies on the meta device."""
    return {local: tensor for local, tensor in module.state_dict(keep_vars=True).items()}


class Outlines:
    """Outlines of sets of modules that are made alike, each set made once, on the meta device.

    They hold for the configuration of one network and are shared by its copies.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[dict[str, dict[str, torch.Tensor]], int]] = {}

    def __deepcopy__(self, memo: object) -> Outlines:
        """Itself: an outline never changes."""
        return self

    def of(
        self, key: Hashable, make: Callable[[], tuple[Mapping[str, nn.Module], int]]
    ) -> tuple[dict[str, dict[str, torch.Tensor]], int]:
        """Module name -> outline, and the number that `make` returned with the modules.

        Args:
            key: modules with equal keys have equal outlines.
            make: makes the modules.
        """
        if key not in self._made:
            with torch.device("meta"):
                modules, number = make()
            self._made[key] = {name: outline(module) for name, module in modules.items()}, number
        return self._made[key]


N = TypeVar("N", bound=Network)


def hollow(network: N, own: Mapping[str, Any]) -> N:
    """A network like this one that has no modules yet: what it knows is copied, what it would fetch is not asked for.

    Its mappings and sets are copies, and what lies in them is the same: a network replaces it and never changes it.

    Args:
        network: which stays as it is.
        own: attributes that the copy does not have in common with it.
    """
    made = copy.copy(network)
    for key, value in vars(network).items():
        vars(made)[key] = own[key] if key in own else value.copy() if isinstance(value, dict | set) else value
    made._modules = {}
    made.fetch = None
    return made


class OutlinedColumns(Network):
    """The half of `polypath.nn.columns.Columns` that describes columns without building them."""

    outlining: ClassVar[bool] = False
    """Whether this class takes part; a subclass whose components are drawn in another way does not."""

    config: Any
    columns: nn.ModuleDict
    heads: nn.ModuleDict
    memory: Memory
    _ids: dict[str, str]
    _features: dict[str, int]
    _pieces: dict[str, list[str]]
    _plans: dict[str, dict[str, Any]]
    _paths: dict[str, Path]
    _components: dict[str, Component] | None

    def __init__(self) -> None:
        super().__init__()
        self._outlines = Outlines()
        self._parts: dict[str, Component] = {}
        self._outlined: dict[str, dict[str, Outline]] = {}  # task id -> component of its own -> outline

    @classmethod
    @abstractmethod
    def _restored(cls, plan: Mapping[str, Any], keep: Collection[str] | None, *, build: bool) -> Self:
        """The columns of a plan, built or only described."""

    @abstractmethod
    def _make_column(self, inputs: InputSpec) -> Backbone:
        """A column for inputs of a shape."""

    @abstractmethod
    def _column(self, key: str) -> nn.ModuleDict:
        """The pieces of a column that are built."""

    @abstractmethod
    def _module(self, name: str) -> nn.Module:
        """The module of a component."""

    @property
    def _outlining(self) -> bool:
        """Whether components are known from outlines, not from modules: where every column stands for itself."""
        return self.outlining and self.config.share == "none"

    @property
    def lazy(self) -> bool:
        """True where nothing is shared, unless a method keeps a memory beside the components."""
        return self._outlining and not self.memory.size

    @classmethod
    def described(cls, plan: Mapping[str, Any]) -> Self:
        """The columns of a plan, none of them built where nothing is shared."""
        separate = cls.outlining and plan["config"]["share"] == "none" and not plan.get("memory")
        return cls._restored(plan, None, build=False) if separate else cls.restore(plan)

    def _outline(self, task: Task, task_id: str, keep: Collection[str] | None) -> None:
        def column() -> tuple[Mapping[str, nn.Module], int]:
            made = self._make_column(task.inputs)
            return dict(made.pieces.items()), made.features

        pieces, features = self._outlines.of(task.inputs, column)
        outputs = task.target.outputs
        make = kind_of(self.config.backbone).head
        head, _ = self._outlines.of((features, outputs), lambda: ({"head": make(features, outputs)}, outputs))
        self._pieces[task_id], self._features[task_id] = list(pieces), features
        found = {piece_name(piece, task_id): held for piece, held in pieces.items()}
        found[head_name(task_id)] = head["head"]
        kept: dict[str, Outline] = {name: held for name, held in found.items() if keep is None or name in keep}
        self._outlined[task_id] = kept
        if self._components is not None:  # the new ones come last: what is known of the others stays
            self._components = {**self._components, **{name: self._part(name, held) for name, held in kept.items()}}

    def affected_by(self, changed: Iterable[str]) -> tuple[str, ...]:
        """As `Network.affected_by`; where nothing is shared a component's name says whose it is."""
        if not self._outlining:
            return super().affected_by(changed)
        keys = {key_of(name) for name in changed}
        return tuple(task for task, key in self._ids.items() if key in keys)

    def paths(self) -> dict[str, Path]:
        """As `Network.paths`."""
        if not self._outlining:
            return super().paths()
        if list(self._paths) == list(self._tasks):
            return dict(self._paths)
        for task in self._tasks.keys() - self._paths.keys():
            self.path(task)
        return dict(zip(self._tasks, map(self._paths.__getitem__, self._tasks), strict=True))

    def reaches(self) -> dict[str, Path]:
        """As `Network.reaches`; there are no other exits."""
        return self.paths() if self._outlining else super().reaches()

    def _outlined_components(self) -> dict[str, Component]:
        # Task by task: what is added comes last, in a manifest's pages too.
        return {name: self._part(name, held) for own in self._outlined.values() for name, held in own.items()}

    def _part(self, name: str, tensors: Outline) -> Component:
        part = self._parts.get(name)
        if part is None or self.memory.size or part.auxiliary:
            extra, place = self.memory.auxiliary_of(name), place_of(name)
            if part is None or part.auxiliary != extra:
                part = Component(name, "own", {local: f"{place}.{local}" for local in tensors}, extra)
                self._parts[name] = part
        return part

    def tensors(self, names: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
        """As `Network.tensors`; outlines of components that are not built."""
        wanted = list(names)
        absent = {name for name in wanted if not self._has(name)} if self._outlining else set()
        held = super().tensors([name for name in wanted if name not in absent])
        return {name: dict(self._outlined[key_of(name)][name]) if name in absent else held[name] for name in wanted}

    def _has(self, name: str) -> bool:
        """Whether the module of a component is built."""
        if name.startswith("head."):
            return name.removeprefix("head.") in self.heads
        piece, column = split_name(name)
        return column in self.columns and piece in self._column(column)

    def built(self) -> Collection[str]:
        """Names of the components whose modules exist."""
        if not self._outlining:
            return super().built()
        pieces = [piece_name(piece, key) for key in self.columns for piece in self._column(key)]
        return dict.fromkeys([*pieces, *(head_name(key) for key in self.heads)]).keys()

    def build(self, names: Iterable[str]) -> None:
        """Make columns and heads on the meta device."""
        wanted: dict[str, list[str]] = {}
        for name in names if self._outlining else ():
            if not self._has(name):
                wanted.setdefault(key_of(name), []).append(name)
        by_id = {self._ids[name]: task for name, task in self._tasks.items()} if wanted else {}
        for key, missing in wanted.items():
            task = by_id[key]
            with torch.device("meta"):
                column = self._make_column(task.inputs)
                head = kind_of(self.config.backbone).head(self._features[key], task.target.outputs)
            for name in missing:
                self._put(name, head if name == head_name(key) else column.pieces[split_name(name)[0]])

    def _put(self, name: str, module: nn.Module) -> None:
        module.train(self.training)
        if name.startswith("head."):
            self.heads[name.removeprefix("head.")] = module
            return
        piece, column = split_name(name)
        if column not in self.columns:
            self.columns[column] = nn.ModuleDict().train(self.training)
        self._column(column)[piece] = module

    def fork(self, names: Collection[str]) -> Self:
        """Columns with copies of these pieces and heads, where they are built here; others are described."""
        if not self._outlining:
            return super().fork(names)
        return self._shell({}, names)

    def _shell(self, own: Mapping[str, Any], names: Iterable[str]) -> Self:
        """A network like this one with copies of these components, where they are built, and no other modules.

        Args:
            own: attributes that it does not have in common with this one.
            names: components.
        """
        made = hollow(self, {"_components": self._components, **own})  # replaced where it changes, so not copied
        made.columns, made.heads, made.memory = nn.ModuleDict(), nn.ModuleDict(), copy.deepcopy(self.memory)
        known = self.components()
        for name in names:
            if name in known and self._has(name):
                made._put(name, copy.deepcopy(self._module(name)))
        return made

    def take(self, other: Self, names: Iterable[str]) -> None:
        """Hold the pieces and heads that another network has of components described here."""
        for name in names:
            if other._has(name) and not self._has(name):
                self._put(name, other._module(name))

    def excerpt(self, names: Collection[str]) -> Self:
        """Copies of these pieces and heads, and the tasks that they belong to."""
        if not self._outlining:
            return super().excerpt(names)
        kept = {key_of(name) for name in names}
        tasks = [task for task, key in self._ids.items() if key in kept]
        own: dict[str, Any] = {
            key: {task: held[task] for task in tasks if task in held}
            for key, held in (("_tasks", self._tasks), ("_ids", self._ids), ("_plans", self._plans))
        }
        for key, sizes in (("_pieces", self._pieces), ("_features", self._features)):
            own[key] = {column: sizes[column] for column in kept if column in sizes}
        own["_outlined"] = {
            key: {name: held for name, held in self._outlined[key].items() if name in names} for key in kept
        }
        own["_parts"] = {name: self._parts[name] for name in names if name in self._parts}
        return self._shell({**own, "_paths": {}, "_components": None}, names)
