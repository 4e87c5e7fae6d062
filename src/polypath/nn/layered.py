"""A network of immutable layers: every task's model is a list of them, shared by reference (mu2Net).

Components: `embedding.0`, `encoderblock_1.17`, `head.18` (kind layer): slot and a number that is never given twice.
The root's are capacity: they stay whoever uses them. A model enters by `retain` and is never changed afterwards; a task
that is learned again gets another model. `models[0]` is the root; every other belongs to one task. Momentum traces lie
in `memory`, beside the components. Whatever grows with the system is updated in the places that change, and its plan
lists what is new at the end: adding a task must not take longer where there are many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress, filterfalse
from operator import attrgetter
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import nn

from polypath.core.component import Path
from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.seeds import seeded_values
from polypath.core.task import InputSpec, Task
from polypath.nn.evolved import ROOT, Candidate, LayerRecord, Model, NewLayer
from polypath.nn.fold import folded_copy
from polypath.nn.outlined_layers import OutlinedLayers, Shapes, layer_key
from polypath.nn.roots import HEAD, layer_of, root_of
from polypath.nn.told import Told

K = TypeVar("K", int, str)


class LayeredConfig(Config):
    """Shape of a layered network.

    Args:
        root: description, see `polypath.nn.roots`.
        inputs: what the root takes; every task's inputs.
        seed: of the root's initial values.
    """

    root: dict[str, Any]
    inputs: InputSpec
    seed: int = 0


class Layered(OutlinedLayers):
    """See the module docstring."""

    config_class: ClassVar[type[LayeredConfig]] = LayeredConfig

    def __init__(self, config: LayeredConfig, *, _empty: bool = False) -> None:
        super().__init__()
        self.config = config
        self._numbers: dict[str, int] = {}  # task -> its model
        self._next_layer, self._next_model = 0, ROOT + 1
        self.activations = 0
        self._selections: dict[str, list[list[int]]] = {}  # task -> [model, how often it was a parent for it]
        self._users: dict[str, tuple[int, ...]] = {}  # layer -> models that have it, the root included
        self._plans: dict[str, dict[str, Any]] = {}  # task -> its entry in the plan, once that was asked for
        self._told_models, self._told_layers = Told[int](), Told[str]()
        if not _empty:
            self._plant()

    def _plant(self) -> None:
        """The root, the only model that is not trained here."""
        with seeded_values(self.config.seed, "root"):
            made = root_of(self.config.root, self.config.inputs)
        names = []
        for slot, module in made.layers.items():
            name = self._name(slot)
            self._hold(name, module)
            self._describe(name, LayerRecord(slot=slot, root=True), {})
            names.append((slot, name))
        self.models[ROOT] = Model(number=ROOT, task=None, layers=tuple(names))
        self._users = dict.fromkeys(self.records, (ROOT,))

    @property
    def next_model(self) -> int:
        """Number of the model that is retained next."""
        return self._next_model

    def _name(self, slot: str) -> str:
        self._next_layer += 1
        return f"{slot}.{self._next_layer - 1}"

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Configuration, tasks, models, selections, what is known of every layer, shapes of the traces, counters."""
        for name in filterfalse(self._plans.__contains__, self._tasks):
            self._plans[name] = {"task": self._tasks[name].model_dump(mode="json"), "model": self._numbers[name]}
        return {
            "config": self.config.model_dump(mode="json"),
            "tasks": list(map(self._plans.__getitem__, self._tasks)),
            "models": list(self._told_models.plain(self.models).values()),
            "selections": dict(self._selections),
            "layers": self._told_layers.plain(self.records),
            "memory": dict(self._traces),
            "next": {"layer": self._next_layer, "model": self._next_model},
            "activations": self.activations,
        }

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The layers of a plan, on the meta device."""
        network = cls.described(plan)
        if keep is not None:
            network = network.excerpt(keep)
        network.build(network.records)
        for name in network._traces:
            network._make_trace(name)
        return network

    @classmethod
    def described(cls, plan: Mapping[str, Any]) -> Self:
        """The layers of a plan, none of them built."""
        network = cls(cls.config_class.of(plan["config"]), _empty=True)
        for name, record in plan["layers"].items():
            network._describe(name, LayerRecord.of(record), plan["memory"].get(name, {}))
        network.models = {model["number"]: Model.of(model) for model in plan["models"]}
        users: dict[str, list[int]] = {}
        for number, model in network.models.items():
            for _, name in model.layers:
                users.setdefault(name, []).append(number)
        network._users = {name: tuple(numbers) for name, numbers in users.items()}
        for entry in plan["tasks"]:
            task, layers = Task.of(entry["task"]), network.models[entry["model"]].layers
            network._tasks[task.name], network._numbers[task.name] = task, entry["model"]
            network._paths[task.name] = _straight(task.name, layers)
        network._selections = dict(plan["selections"])
        network._told_layers.know(network.records, plan["layers"].values())
        network._told_models.know(network.models, plan["models"])
        network._plans = dict(zip(network._tasks, plan["tasks"], strict=True))
        network._next_layer, network._next_model = plan["next"]["layer"], plan["next"]["model"]
        network.activations = plan["activations"]
        return network

    @classmethod
    def plan_renamed(cls, plan: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
        """As in every network; models and lineage name the task too."""

        def keys(counts: Mapping[str, Any]) -> dict[str, Any]:
            return {new if name == old else name: value for name, value in counts.items()}

        def name(task: str | None) -> str | None:
            return new if task == old else task

        models = []
        for model in plan["models"]:
            facts = {key: keys(value) if key == "trained" else value for key, value in model["facts"].items()}
            models.append({**model, "task": name(model["task"]), "facts": facts})
        layers = {
            component: {**record, "steps": keys(record["steps"]), "last": name(record["last"])}
            for component, record in plan["layers"].items()
        }
        renamed = {"models": models, "selections": keys(plan["selections"]), "layers": layers}
        return {**super().plan_renamed(plan, old, new), **renamed}

    def _structure(self, slot: str, outputs: int | None) -> nn.Module:
        return layer_of(self.config.root, self.config.inputs, slot, outputs)

    # ---- tasks and models -------------------------------------------------------------------------------------

    def model_of(self, task: str) -> Model:
        """The task's retained model."""
        self.task_named(task)
        return self.models[self._numbers[task]]

    def add_task(self, task: Task) -> None:
        """Give the task the root's layers and a head of zeros, until it has learned a model.

        Raises:
            InvalidInput: the name is taken, or the inputs are not the root's.
        """
        self.require_free(task.name)
        self.require_inputs(task, self.config.inputs, "the root was built for")
        head = self._structure(HEAD, task.target.outputs)
        if torch.get_default_device().type != "meta":
            head.to_empty(device=self._device())
            head.load_state_dict({key: torch.zeros_like(value) for key, value in head.state_dict().items()})
        name = self._keep(HEAD, head, LayerRecord(slot=HEAD, outputs=task.target.outputs), {})
        self._tasks[task.name] = task
        groups = () if task.private_to is None else (task.private_to,)
        root = self.models[ROOT]
        self._install(Model(number=0, task=task.name, layers=(*root.layers, (HEAD, name)), parent=ROOT, groups=groups))

    def retain(self, candidate: Candidate) -> Model:
        """Take a candidate as its task's model, in the place of the one before.

        Layers that nobody uses any more go, those of the root stay. Existing layers are never touched.

        Raises:
            InvalidInput: the head's outputs are not the task's, a layer that is shared does not exist, or the parent
                may not be used by the task.
        """
        task = self.task_named(candidate.task)
        self._check(candidate, task)
        parent, before = self.models[candidate.parent], self._numbers[task.name]
        layers = []
        for layer in candidate.layers:
            name = layer if isinstance(layer, str) else self._grow(layer, task.name)
            layers.append((self.records[name].slot, name))
        model = self._install(
            Model(
                number=0,
                task=task.name,
                layers=tuple(layers),
                hyperparameters=dict(candidate.hyperparameters),
                score=candidate.score,
                parent=parent.number,
                groups=self.groups_of(parent, task),
                facts=dict(candidate.facts),
            )
        )
        self._drop_model(before)
        return self.models[model.number]

    def count_selections(self, task: str, counts: Mapping[int, int]) -> None:
        """Write down how often each model was chosen as a parent for a task; numbers of no model are left out."""
        known = {n: count for n, count in counts.items() if count and n in self.models}
        if known:
            self._selections[task] = [list(pair) for pair in {**self.selected(task), **known}.items()]

    def selected(self, task: str) -> dict[int, int]:
        """Number of a model -> how often it was chosen as a parent for a task; those that never were are left out."""
        return {number: count for number, count in self._selections.get(task, ())}

    def affected_by(self, changed: Iterable[str]) -> tuple[str, ...]:
        """As `Network.affected_by`: a layer knows its models."""
        numbers = {number for name in changed for number in self._users.get(name, ())}
        tasks = {self.models[number].task for number in numbers}
        return tuple(filter(tasks.__contains__, self._tasks))

    def own_layers(self, task: str) -> list[str]:
        """Layers of the task's model that no other model has, nor the root."""
        return [name for _, name in self.model_of(task).layers if len(self._users[name]) == 1]

    def groups_of(self, parent: Model, task: Task) -> tuple[str, ...]:
        """Access groups of a model that the task makes from `parent`: everything private that it descends from."""
        return tuple(sorted({*parent.groups, *(() if task.private_to is None else (task.private_to,))}))

    def permitted(self, model: Model, task: Task) -> bool:
        """Whether a task may make models from this one: all its private ancestors are of the task's own group."""
        return model.groups in ((), (task.private_to,))

    def permitted_models(self, task: Task) -> tuple[list[Model], list[Model]]:
        """The task's own model if it has learned, and the root and all other learned models that it may build on."""
        learned = [m for m in self.models.values() if m.score is not None or m.task is None]
        usable = [m for m in learned if self.permitted(m, task)]
        own = self.models[self._numbers[task.name]]
        return [m for m in usable if m is own], [m for m in usable if m is not own]

    def _check(self, candidate: Candidate, task: Task) -> None:
        absent = [name for name in candidate.layers if isinstance(name, str) and name not in self.records]
        if absent or candidate.parent not in self.models:
            wrong = absent or f"parent {candidate.parent}"
            raise InvalidInput(f"task {task.name!r}: the model names {wrong}, which do not exist")
        head = candidate.layers[-1]
        outputs = self.records[head].outputs if isinstance(head, str) else head.outputs
        if outputs != task.target.outputs:
            raise InvalidInput(
                f"task {task.name!r} has {task.target.outputs} outputs, but the model's head was made for {outputs}; "
                "only a head of the same number of classes can be cloned"
            )
        parent = self.models[candidate.parent]
        if parent.task is not None and parent.score is None:
            raise InvalidInput(f"task {task.name!r}: the parent, a model of {parent.task!r}, has not learned yet")
        if not self.permitted(parent, task):
            raise InvalidInput(
                f"task {task.name!r} (private_to={task.private_to!r}) may not build on a model of {parent.groups}"
            )

    def _grow(self, layer: NewLayer, task: str) -> str:
        module = self._structure(layer.slot, layer.outputs)
        device = self._device()
        module.load_state_dict({key: value.to(device) for key, value in layer.tensors.items()}, assign=True)
        steps = {name: int(count) for name, count in layer.steps.items()}
        record = LayerRecord(slot=layer.slot, outputs=layer.outputs, parent=layer.parent, steps=steps, last=task)
        name = self._keep(layer.slot, module, record, {local: list(t.shape) for local, t in layer.momentum.items()})
        for local, trace in layer.momentum.items():
            self.memory.hold(name, local, trace.to(device))
        return name

    def _keep(self, slot: str, module: nn.Module, record: LayerRecord, traces: Shapes) -> str:
        name = self._name(slot)
        self._put(name, module)
        self._describe(name, record, traces)
        return name

    def _install(self, model: Model) -> Model:
        assert model.task is not None
        numbered = model.model_copy(update={"number": self._next_model})
        self._next_model += 1
        self.models[numbered.number] = numbered
        self._numbers[model.task] = numbered.number
        self._plans.pop(model.task, None)
        self._paths[model.task] = _straight(model.task, model.layers)
        for _, name in numbered.layers:
            self._users[name] = (*self._users.get(name, ()), numbered.number)
        return numbered

    def _device(self) -> torch.device:
        here = next(self.parameters(), None)
        return torch.device("cpu") if here is None else here.device

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete the task's model and the layers that nobody else uses.

        Layers of the root that nobody uses any more are named as reset: they never moved.
        """
        model = self.model_of(task)
        del self._tasks[task], self._numbers[task]
        self._plans.pop(task, None)
        self._paths.pop(task, None)
        self._selections.pop(task, None)
        freed = self._drop_model(model.number)
        idle = {name for _, name in self.models[ROOT].layers if self._users[name] == (ROOT,)}
        return freed, [name for _, name in model.layers if name in idle]

    def _drop_model(self, number: int) -> list[str]:
        """Delete a model and the layers that no other has; returns those.

        What was made from it, and copies of its layers, descend from the nearest ancestor that is left.
        """
        gone = self.models.pop(number)
        for _, name in gone.layers:
            self._users[name] = tuple(other for other in self._users[name] if other != number)
        freed = [name for _, name in gone.layers if not self._users[name]]
        parents = {name: self.records[name].parent for name in freed}
        for name in freed:
            self._forget(name)
            del self._users[name]
        if gone.score is not None:  # else it never was a parent
            self._bypass(gone, parents)
        return freed

    def _bypass(self, gone: Model, freed: Mapping[str, str | None]) -> None:
        """Have what was made from a model and from layers (layer -> parent) descend from what is left."""
        for number in _where(self.models, "parent", {gone.number}):
            self.models[number] = self.models[number].model_copy(update={"parent": gone.parent})
        for task, counts in self._selections.items():
            if any(number == gone.number for number, _ in counts):
                self._selections[task] = [pair for pair in counts if pair[0] != gone.number]
        for name in _where(self.records, "parent", freed):
            record = self.records[name]
            parent = record.parent
            while parent is not None and parent in freed:
                parent = freed[parent]
            self._describe(name, record.model_copy(update={"parent": parent}), self._traces.get(name, {}))

    # ---- computation ------------------------------------------------------------------------------------------

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """The encoded inputs themselves."""
        return inputs

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """One layer."""
        out: torch.Tensor = self.layers[layer_key(names[-1])](value)
        return out

    def fuse(self, path: Path) -> nn.Module:
        """Copies of the layers one after the other, BatchNorm folded."""
        return nn.Sequential(*(folded_copy(self.layers[layer_key(names[-1])]) for names in path.steps))


def _straight(task: str, layers: Iterable[tuple[str, str]]) -> Path:
    """The path along (slot, component)."""
    return Path(task, tuple((name,) for _, name in layers))


def _where(held: Mapping[K, Config], field: str, values: Collection[Any]) -> list[K]:
    """Keys of what has one of the values; of many, without a line of Python for each."""
    return list(compress(held, map(values.__contains__, map(attrgetter(field), held.values()))))
