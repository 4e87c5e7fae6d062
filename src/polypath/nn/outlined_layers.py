"""The half of a layered network that describes layers without building them.

A layer's structure follows from its slot and, of a head, its outputs, so that outlines stand for layers whose modules
are not made: opening a system of many tasks, answering one and evolving another read the layers that are asked for.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
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
        self._named: dict[str, str] = {}  # key in the state -> component
        self._outlines = Outlines()
        self._parts: dict[str, tuple[LayerRecord, Component]] = {}
        self._components: dict[str, Component] | None = None
        self._paths: dict[str, tuple[tuple[tuple[str, str], ...], Path]] = {}  # task -> layers of its model, path

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
        self._named[layer_key(name)] = name
        if traces:
            self._traces[name] = traces
        self._components = None

    def _forget(self, name: str) -> None:
        """Know a layer no more."""
        key = layer_key(name)
        del self.records[name]
        for held in (self._traces, self._parts):
            held.pop(name, None)
        self._named.pop(key, None)
        if key in self.layers:
            del self.layers[key]
        self.memory.drop(name)
        self._components = None

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
        return {name: self._outlined(name)[1] for name in self.records}

    def components(self) -> dict[str, Component]:
        """Every layer, with its traces beside it."""
        if self._components is None:
            self._components = {name: self._component(name, record) for name, record in self.records.items()}
        return self._components

    def _component(self, name: str, record: LayerRecord) -> Component:
        known = self._parts.get(name)
        if known is not None and known[0] is record:
            return known[1]
        key = layer_key(name)
        part = Component(
            name,
            "layer",
            {local: f"layers.{key}.{local}" for local in self._outline_of(name)},
            {local: f"memory.{memory_key(name, local)}" for local in self._traces.get(name, ())},
            capacity=record.root,
            parent=record.parent,
            builds_on=tuple(record.steps),
        )
        self._parts[name] = record, part
        return part

    def tensors(self, names: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
        """As `Network.tensors`; outlines of layers that are not built."""
        wanted = list(names)
        held = super().tensors([name for name in wanted if self._has(name)])
        return {name: held[name] if name in held else dict(self._outline_of(name)) for name in wanted}

    # ---- what is built ----------------------------------------------------------------------------------------

    def _has(self, name: str) -> bool:
        return layer_key(name) in self.layers

    def built(self) -> Collection[str]:
        """Names of the layers whose modules exist."""
        return dict.fromkeys(self._named[key] for key in self.layers).keys()

    def build(self, names: Iterable[str]) -> None:
        """Make layers on the meta device; their traces are made when they are received."""
        for name in names:
            if not self._has(name):
                record = self.records[name]
                self._put(name, self._structure(record.slot, record.outputs))

    def _put(self, name: str, module: nn.Module) -> None:
        self.layers[layer_key(name)] = module.train(self.training)

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
                self.layers[layer_key(name)] = other.layers[layer_key(name)]
                for local, held in other.memory.entries(name).items():
                    self.memory.hold(name, local, held)

    def excerpt(self, names: Collection[str]) -> Self:
        """Copies of these layers alone, without their traces."""
        records = {name: self.records[name] for name in self.records if name in names}
        own = {"records": records, "_traces": {}, "_parts": {}}
        return self._shell({**own, "_components": None}, names)

    def _shell(self, own: Mapping[str, Any], names: Iterable[str]) -> Self:
        """A network like this one with copies of these layers, where they are here, and no others.

        Args:
            own: attributes that it does not have in common with this one.
            names: layers.
        """
        made = hollow(self, own)
        made.layers, made.memory = nn.ModuleDict().train(self.training), Memory()
        for name in dict.fromkeys(names):
            if name in made.records and self._has(name):
                made.layers[layer_key(name)] = copy.deepcopy(self.layers[layer_key(name)])
                for local, held in self.memory.entries(name).items() if name in made._traces else ():
                    made.memory.hold(name, local, held.detach().clone())
        return made

    # ---- paths ------------------------------------------------------------------------------------------------

    def path(self, task: str, exit: str | None = None) -> Path:
        """One step a layer."""
        self.require_only_exit(task, exit)
        layers = self.models[self._numbers[task]].layers
        known = self._paths.get(task)
        if known is None or known[0] is not layers:
            self._paths[task] = known = layers, Path(task, tuple((name,) for _, name in layers))
        return known[1]

    def reach(self, task: str) -> Path:
        """The path: there are no other exits."""
        return self.path(task)
