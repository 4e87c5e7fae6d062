"""A network of immutable layers: every task's model is a list of them, shared by reference (mu2Net).

Components: `embedding.0`, `encoderblock_1.17`, `head.18` (kind layer): slot and a number that is never given twice.
The root's are capacity: they stay whoever uses them. A model enters by `retain` and is never changed afterwards; a task
that is learned again gets another model. `models[0]` is the root; every other belongs to one task. Momentum traces lie
in `memory`, beside the components.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from polypath.core.component import Path
from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.seeds import seeded_values
from polypath.core.task import InputSpec, Task
from polypath.nn.evolved import ROOT, Candidate, LayerRecord, Model, NewLayer
from polypath.nn.fold import folded_copy
from polypath.nn.outlined_layers import OutlinedLayers, layer_key
from polypath.nn.roots import HEAD, layer_of, root_of


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
        self._written: dict[Hashable, tuple[Config, dict[str, Any]]] = {}  # layers, models, tasks of the last plan
        if not _empty:
            self._plant()

    def _plant(self) -> None:
        """The root, the only model that is not trained here."""
        with seeded_values(self.config.seed, "root"):
            made = root_of(self.config.root, self.config.inputs)
        names = []
        for slot, module in made.layers.items():
            name = self._name(slot)
            self.layers[layer_key(name)] = module
            self._describe(name, LayerRecord(slot=slot, root=True), {})
            names.append((slot, name))
        self.models[ROOT] = Model(number=ROOT, task=None, layers=tuple(names))

    @property
    def next_model(self) -> int:
        """Number of the model that is retained next."""
        return self._next_model

    def _name(self, slot: str) -> str:
        self._next_layer += 1
        return f"{slot}.{self._next_layer - 1}"

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Configuration, tasks, models, what is known of every layer, shapes of the traces, counters."""
        return {
            "config": self.config.model_dump(mode="json"),
            "tasks": [
                {"task": self._plain(("task", name), task), "model": self._numbers[name]}
                for name, task in self._tasks.items()
            ],
            "models": [self._plain(number, model) for number, model in self.models.items()],
            "layers": {name: self._plain(name, record) for name, record in self.records.items()},
            "memory": {name: dict(self._traces[name]) for name in self.records if name in self._traces},
            "next": {"layer": self._next_layer, "model": self._next_model},
            "activations": self.activations,
        }

    def _plain(self, key: Hashable, held: Config) -> dict[str, Any]:
        """A record, a model or a task as JSON, made once."""
        known = self._written.get(key)
        if known is None or known[0] is not held:
            self._written[key] = known = held, held.model_dump(mode="json")
        return known[1]

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
            network._written[name] = network.records[name], record
        network.models = {model["number"]: Model.of(model) for model in plan["models"]}
        for model in plan["models"]:
            network._written[model["number"]] = network.models[model["number"]], model
        for entry in plan["tasks"]:
            task = Task.of(entry["task"])
            network._tasks[task.name], network._numbers[task.name] = task, entry["model"]
            network._written["task", task.name] = task, entry["task"]
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
            changes = {"task": name(model["task"]), "selections": keys(model["selections"]), "facts": facts}
            models.append({**model, **changes})
        layers = {
            component: {**record, "steps": keys(record["steps"]), "last": name(record["last"])}
            for component, record in plan["layers"].items()
        }
        return {**super().plan_renamed(plan, old, new), "models": models, "layers": layers}

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
        name = self._keep(HEAD, head, LayerRecord(slot=HEAD, outputs=task.target.outputs))
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
        self._drop_models([before])
        self._collect()
        return self.models[model.number]

    def count_selections(self, task: str, counts: Mapping[int, int]) -> None:
        """Write down how often each model was chosen as a parent for a task; numbers of no model are left out."""
        for number, count in counts.items():
            model = self.models.get(number)
            if model is not None and count != model.selections.get(task, 0):
                self.models[number] = model.model_copy(update={"selections": {**model.selections, task: count}})

    def groups_of(self, parent: Model, task: Task) -> tuple[str, ...]:
        """Access groups of a model that the task makes from `parent`: everything private that it descends from."""
        return tuple(sorted({*parent.groups, *(() if task.private_to is None else (task.private_to,))}))

    def permitted(self, model: Model, task: Task) -> bool:
        """Whether a task may make models from this one: all its private ancestors are of the task's own group."""
        return set(model.groups) <= {task.private_to}

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
        if not self.permitted(self.models[candidate.parent], task):
            raise InvalidInput(
                f"task {task.name!r} (private_to={task.private_to!r}) may not build on a model of "
                f"{self.models[candidate.parent].groups}"
            )

    def _grow(self, layer: NewLayer, task: str) -> str:
        module = self._structure(layer.slot, layer.outputs)
        device = self._device()
        module.load_state_dict({key: value.to(device) for key, value in layer.tensors.items()}, assign=True)
        steps = {name: int(count) for name, count in layer.steps.items()}
        record = LayerRecord(slot=layer.slot, outputs=layer.outputs, parent=layer.parent, steps=steps, last=task)
        name = self._keep(layer.slot, module, record)
        if layer.momentum:
            self._traces[name] = {local: list(trace.shape) for local, trace in layer.momentum.items()}
        for local, trace in layer.momentum.items():
            self.memory.hold(name, local, trace.to(device))
        return name

    def _keep(self, slot: str, module: nn.Module, record: LayerRecord) -> str:
        name = self._name(slot)
        self._put(name, module)
        self._describe(name, record, {})
        return name

    def _install(self, model: Model) -> Model:
        assert model.task is not None
        numbered = model.model_copy(update={"number": self._next_model})
        self._next_model += 1
        self.models[numbered.number] = numbered
        self._numbers[model.task] = numbered.number
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
        self._paths.pop(task, None)
        self._written.pop(("task", task), None)
        self._drop_models([model.number])
        for number, other in self.models.items():
            left = {name: count for name, count in other.selections.items() if name != task}
            self.models[number] = other.model_copy(update={"selections": left})
        freed = self._collect()
        used = {name for other in self.models.values() if other.task is not None for _, name in other.layers}
        reset = [name for _, name in model.layers if name in self.records and name not in used]
        return freed, reset

    def _drop_models(self, numbers: Iterable[int]) -> None:
        """Delete models; those made from them descend from the nearest ancestor that is left."""
        for number in numbers:
            gone = self.models.pop(number)
            self._written.pop(number, None)
            for key, model in self.models.items():
                if model.parent == number:
                    self.models[key] = model.model_copy(update={"parent": gone.parent})

    def _collect(self) -> list[str]:
        """Delete the layers that no model has; copies of them descend from the nearest ancestor that is left."""
        used = {name for model in self.models.values() for _, name in model.layers}
        freed = [name for name in self.records if name not in used]
        parents = {name: self.records[name].parent for name in freed}
        for name in freed:
            self._forget(name)
            self._written.pop(name, None)
        for name, record in self.records.items():
            parent = record.parent
            while parent is not None and parent in parents:
                parent = parents[parent]
            if parent != record.parent:
                self.records[name] = record.model_copy(update={"parent": parent})
        self._components = None
        return freed

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
