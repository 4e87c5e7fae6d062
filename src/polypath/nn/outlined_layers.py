"""The half of a layered network that describes layers without building them.

A layer's structure follows from its slot and, of a head, its outputs, so that outlines stand for layers whose modules
are not made: opening a system of many tasks, answering one and evolving another read the layers that are asked for.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from itertools import filterfalse
from typing import Any, Self

import torch
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.network import Network, parameters_in
from polypath.nn.evolved import LayerRecord, Model
from polypath.nn.memory import Memory, memory_key
from polypath.nn.outline import Outline, Outlines, hollow

Shapes = Mapping[str, list[int]]
"""Local name of a trace -> its shape."""


def layer_key(name: str) -> str:
    """A component's key in the state, where no dots are allowed."""
    return name.replace(".", "-")


class OutlinedLayers(Network):
    """Layers by name, of which only those that were asked for have modules; see the module docstring."""

    layers: nn.ModuleDict
    memory: Memory
    records: dict[str, LayerRecord]
    models: dict[int, Model]
    _numbers: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.memory = nn.ModuleDict(), Memory()
        self.records, self.models = {}, {}
        self._traces: dict[str, Shapes] = {}  # of all layers, built or not
        self._named: dict[str, str] = {}  # key in the state -> component, of those that are built
        self._outlines = Outlines()
        self._parts: dict[str, Component] | None = None  # None before anybody asked
        self._parts_shared = False  # whether somebody else may hold them
        self._sizes: dict[str, int] = {}  # parameters of those that were counted
        self._paths: dict[str, Path] = {}

    @abstractmethod
    def _structure(self, slot: str, outputs: int | None) -> nn.Module:
        """One layer, on the meta device."""

    @property
    def lazy(self) -> bool:
        """Always: layers never change, so that which of them are here makes no difference."""
        return True

    # ---- what is described ------------------------------------------------------------------------------------

    def _describe(self, name: str, record: LayerRecord, traces: Shapes) -> None:
        """Know a layer that may be built later."""
        self.records[name] = record
        if traces:
            self._traces[name] = traces
        if (parts := self._own_parts()) is not None:
            parts[name] = self._component(name, record)

    def _forget(self, name: str) -> None:
        """Know a layer no more."""
        del self.records[name]
        for held in (self._traces, self._sizes, self._own_parts()):
            if held is not None:
                held.pop(name, None)
        if self._named.pop(layer_key(name), None) is not None:
            del self.layers[layer_key(name)]
        self.memory.drop(name)

    def _own_parts(self) -> dict[str, Component] | None:
        """The components, if anybody asked for them yet, as a mapping that nobody else holds."""
        if self._parts_shared and self._parts is not None:
            self._parts, self._parts_shared = dict(self._parts), False
        return self._parts

    def _outline_of(self, name: str) -> Outline:
        return self._outlined(name)[0]

    def _outlined(self, name: str) -> tuple[Outline, int]:
        """A layer's outline and the number of its parameters; layers of one slot have the same."""
        record = self.records[name]

        def make() -> tuple[Mapping[str, nn.Module], int]:
            layer = self._structure(record.slot, record.outputs)
            return {"": layer}, parameters_in(layer.parameters())

        outlines, parameters = self._outlines.of((record.slot, record.outputs), make)
        return outlines[""], parameters

    def parameter_counts(self) -> dict[str, int]:
        """As `Network.parameter_counts`, without a look at every tensor."""
        for name in filterfalse(self._sizes.__contains__, self.records):
            self._sizes[name] = self._outlined(name)[1]
        return dict(self._sizes)

    def components(self) -> dict[str, Component]:
        """Every layer, with its traces beside it."""
        if self._parts is None:
            self._parts = {name: self._component(name, record) for name, record in self.records.items()}
        self._parts_shared = True
        return self._parts

    def _component(self, name: str, record: LayerRecord) -> Component:
        key = layer_key(name)
        return Component(
            name,
            "layer",
            {local: f"layers.{key}.{local}" for local in self._outline_of(name)},
            {local: f"memory.{memory_key(name, local)}" for local in self._traces.get(name, ())},
            capacity=record.root,
            parent=record.parent,
            builds_on=tuple(record.steps),
        )

    def tensors(self, names: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
        """As `Network.tensors`; outlines of layers that are not built."""
        wanted = list(names)
        held = super().tensors([name for name in wanted if self._has(name)])
        return {name: held[name] if name in held else dict(self._outline_of(name)) for name in wanted}

    # ---- what is built ----------------------------------------------------------------------------------------

    def _has(self, name: str) -> bool:
        return layer_key(name) in self._named

    def built(self) -> Collection[str]:
        """Names of the layers whose modules exist."""
        return dict.fromkeys(self._named.values()).keys()

    def build(self, names: Iterable[str]) -> None:
        """Make layers on the meta device; their traces are made when they are received."""
        for name in names:
            if not self._has(name):
                record = self.records[name]
                self._put(name, self._structure(record.slot, record.outputs))

    def _put(self, name: str, module: nn.Module) -> None:
        self._hold(name, module.train(self.training))

    def _hold(self, name: str, module: nn.Module) -> None:
        self._named[layer_key(name)] = name
        self.layers[layer_key(name)] = module

    def receive(self, state: Mapping[str, torch.Tensor]) -> None:
        """As `Network.receive`; a trace may be received that had no place yet."""
        for key in state:
            if key.startswith("memory."):
                self._make_trace(self._named[key.removeprefix("memory.").partition("--")[0]])
        super().receive(state)

    def _make_trace(self, name: str) -> None:
        with torch.device("meta"):
            self.memory.restore({name: self._traces[name]})

    # ---- copies -----------------------------------------------------------------------------------------------

    def fork(self, names: Collection[str]) -> Self:
        """A network with copies of these layers and their traces, where they are here; others are described."""
        return self._shell({}, names)

    def take(self, other: Self, names: Iterable[str]) -> None:
        """Hold the layers and traces that another network has of components described here."""
        for name in names:
            if other._has(name) and not self._has(name):
                self._hold(name, other.layers[layer_key(name)])
                for local, held in other.memory.entries(name).items():
                    self.memory.hold(name, local, held)

    def excerpt(self, names: Collection[str]) -> Self:
        """Copies of these layers alone, without their traces."""
        records = {name: self.records[name] for name in self.records if name in names}
        return self._shell({"records": records, "_traces": {}, "_sizes": {}, "_parts": None}, names)

    def _shell(self, own: Mapping[str, Any], names: Iterable[str]) -> Self:
        """A network like this one with copies of these layers, where they are here, and no others.

        Args:
            own: attributes that it does not have in common with this one.
            names: layers.
        """
        self._parts_shared = True  # the other one has the same, until one of the two is changed
        made = hollow(self, {"_parts": self._parts, "_named": {}, **own})
        made.layers, made.memory = nn.ModuleDict().train(self.training), Memory()
        for name in dict.fromkeys(names):
            if name in made.records and self._has(name):
                made._hold(name, copy.deepcopy(self.layers[layer_key(name)]))
                for local, held in self.memory.entries(name).items() if name in made._traces else ():
                    made.memory.hold(name, local, held.detach().clone())
        return made

    # ---- paths ------------------------------------------------------------------------------------------------

    def path(self, task: str, exit: str | None = None) -> Path:
        """One step a layer."""
        if exit is not None or task not in self._paths:
            self.require_only_exit(task, exit)
        return self._paths[task]

    def reach(self, task: str) -> Path:
        """The path: there are no other exits."""
        return self.path(task)

    def paths(self) -> dict[str, Path]:
        """As `Network.paths`."""
        return dict(self._paths)

    def reaches(self) -> dict[str, Path]:
        """The paths: there are no other exits."""
        return self.paths()
