"""A trunk that grows: units added for a task stand in a group of their own, and earlier tasks never see them.

Weights are kept in blocks, one for each pair of groups of a layer and the layer before. Components: `unit.conv2.g1`
(base: biases of the units of group 1 and their weights from groups up to 1), `late.conv2.g0.from1` (base: weights of
older units from newer ones), `head.t2` (own). A task's path holds the groups that existed when it was learned: its time
stamp. Source: Yoon et al. 2018 (DEN), section 3; convolutions by filters.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.network import Network
from polypath.core.seeds import seeded_values
from polypath.core.task import InputSpec, Task
from polypath.nn.backbones import backbone
from polypath.nn.small_cnn import BIAS, WEIGHT_DEVIATION


class ExpandingConfig(Config):
    """Shape of a growing trunk.

    Args:
        backbone: its first group of units.
        inputs: what it takes.
        seed: of initial values.
    """

    backbone: dict[str, Any]
    inputs: InputSpec
    seed: int = 0


class Layer:
    """One weighted layer of the backbone with what stands before and after it in its piece.

    Args:
        piece: its modules.
        name: of the piece.
        before: units of the layer before, 0 for the inputs.
    """

    def __init__(self, piece: nn.Module, name: str, before: int) -> None:
        modules = list(piece) if isinstance(piece, nn.Sequential) else [piece]
        weighted = [n for n, m in enumerate(modules) if isinstance(m, (nn.Conv2d, nn.Linear))]
        loaded = [m for m in modules if any(True for _ in m.parameters())]
        if len(weighted) != 1 or len(loaded) != 1:
            raise InvalidInput(
                f"growing networks need pieces of one convolution or dense layer without BatchNorm; {name!r} is not: "
                "take 'mlp', 'dfcnn', or 'conv' with norm='none'"
            )
        self.name, self.first = name, before == 0
        self.module = modules[weighted[0]]
        self.before = nn.Sequential(*modules[: weighted[0]])
        self.after = nn.Sequential(*modules[weighted[0] + 1 :])
        conv = isinstance(self.module, nn.Conv2d)
        if isinstance(self.module, nn.Conv2d):
            self.units, inputs = self.module.out_channels, self.module.in_channels
        else:
            assert isinstance(self.module, nn.Linear)
            self.units, inputs = self.module.out_features, self.module.in_features
        self.inputs = inputs  # of the first layer; elsewhere it follows from the groups
        self.positions = 1 if conv or self.first else inputs // before  # inputs of a dense layer for each unit

    def apply(self, value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The piece with the given weights."""
        value, module = self.before(value), self.module
        if isinstance(module, nn.Conv2d):
            value = F.conv2d(value, weight, bias, module.stride, module.padding, module.dilation)
        else:
            value = F.linear(value, weight, bias)
        out: torch.Tensor = self.after(value)
        return out

    def shape(self, units: int, inputs: int) -> tuple[int, ...]:
        """Shape of a block."""
        kernel = self.module.kernel_size if isinstance(self.module, nn.Conv2d) else ()
        return (units, inputs if self.first else inputs * self.positions, *kernel)


class Expanding(Network):
    """See the module docstring."""

    def __init__(self, config: ExpandingConfig, groups: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):  # its shapes only: weights lie in blocks
            made = backbone(config.backbone, config.inputs)
        self.layers: list[Layer] = []
        for name, piece in made.pieces.items():
            self.layers.append(Layer(piece, name, self.layers[-1].units if self.layers else 0))
        last = self.layers[-1].units
        self._spread = made.features // last  # features of a unit of the last layer
        self._paper = config.backbone.get("kind") == "dfcnn" and config.backbone.get("initial") != "torch"
        self.blocks, self.heads = nn.ParameterDict(), nn.ModuleDict()
        self._after = nn.ModuleDict({layer.name: nn.Sequential(layer.before, layer.after) for layer in self.layers})
        self.groups: list[list[int]] = []
        self.epochs = 0
        self._ids: dict[str, str] = {}
        self._stamps: dict[str, int] = {}
        self._added = 0
        self._components: dict[str, Component] | None = None
        for widths in groups if groups is not None else [[layer.units for layer in self.layers]]:
            self.grow(widths)

    # ---- growing ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def grow(self, widths: Sequence[int]) -> int:
        """A new group with so many units in every layer; returns its number."""
        group = len(self.groups)
        self.groups.append(list(widths))
        for place, layer in enumerate(self.layers):
            with seeded_values(self.config.seed, "group", layer.name, group):
                if widths[place]:
                    self.blocks[f"{layer.name}-g{group}-bias"] = nn.Parameter(
                        torch.full((widths[place],), BIAS if self._paper else 0.0)
                    )
                    for source in range(group + 1):
                        self._block(place, group, source)
                for old in range(group):
                    self._block(place, old, group)
        self._components = None
        return group

    def _block(self, place: int, group: int, source: int) -> None:
        layer, units = self.layers[place], self.groups[group][place]
        inputs = (layer.inputs if source == 0 else 0) if layer.first else self.groups[source][place - 1]
        if not units or not inputs:
            return
        weight = torch.empty(layer.shape(units, inputs))
        fan = sum(self.groups[g][place - 1] for g in range(len(self.groups))) if not layer.first else layer.inputs
        limit = 1.0 / (fan * weight[0].numel() / inputs) ** 0.5  # torch's, for all inputs that a unit reads
        if self._paper:
            nn.init.trunc_normal_(weight, std=WEIGHT_DEVIATION, a=-2 * WEIGHT_DEVIATION, b=2 * WEIGHT_DEVIATION)
        else:
            weight.uniform_(-limit, limit)
        self.blocks[f"{layer.name}-g{group}-from{source}"] = nn.Parameter(weight)

    @torch.no_grad()
    def shrink(self, group: int, keep: Sequence[torch.Tensor]) -> None:
        """Delete units of the newest group: `keep` has a boolean row a layer."""
        assert group == len(self.groups) - 1
        for place, layer in enumerate(self.layers):
            rows = keep[place].nonzero().flatten()
            for key in [k for k in self.blocks if k.startswith(f"{layer.name}-g{group}-")]:
                self._replace(key, self.blocks[key][rows])
            if place + 1 < len(self.layers):
                columns = self._columns(place + 1, rows)
                for key in [k for k in self.blocks if k.startswith(f"{self.layers[place + 1].name}-g")]:
                    if key.endswith(f"-from{group}"):
                        self._replace(key, self.blocks[key][:, columns])
            self.groups[group][place] = len(rows)
        self._keep_features(group, keep[-1])
        self._components = None

    def _keep_features(self, group: int, keep: torch.Tensor) -> None:
        """Heads that see the newest group read what is left of it."""
        older = self._spread * sum(widths[-1] for widths in self.groups[:group])
        columns = torch.cat([torch.ones(older, dtype=torch.bool), keep.repeat_interleave(self._spread)])
        for task, stamp in self._stamps.items():
            head = self.heads[self._ids[task]]
            if stamp == group:
                assert isinstance(head, nn.Linear)
                new = nn.Linear(int(columns.sum()), head.out_features, device="meta")
                new.weight = nn.Parameter(head.weight[:, columns].clone())
                new.bias = nn.Parameter(head.bias.clone())
                self.heads[self._ids[task]] = new

    def _columns(self, place: int, units: torch.Tensor) -> torch.Tensor:
        """Columns of a block of layer `place` that read the given units of the layer before."""
        positions = self.layers[place].positions
        return (units[:, None] * positions + torch.arange(positions)).flatten()

    def head_of(self, task: str) -> nn.Linear:
        """A task's output layer."""
        head = self.heads[self._ids[task]]
        assert isinstance(head, nn.Linear)
        return head

    def _replace(self, key: str, value: torch.Tensor) -> None:
        if value.numel():
            self.blocks[key] = nn.Parameter(value.clone())
        else:
            del self.blocks[key]

    def stamp(self, task: str, features: bool = True) -> None:
        """The task sees every group that is there now; its head takes their features, old columns kept."""
        task_id, last = self._ids[task], len(self.groups) - 1
        self._stamps[task] = last
        old = self.heads[task_id] if task_id in self.heads else None
        size = self._spread * sum(widths[-1] for widths in self.groups)
        with seeded_values(self.config.seed, "head", task_id, last):
            new = nn.Linear(size, self._tasks[task].target.outputs)
        if isinstance(old, nn.Linear) and features:
            with torch.no_grad():
                new.weight[:, : old.in_features].copy_(old.weight)
                new.bias.copy_(old.bias)
        self.heads[task_id] = new
        self._components = None

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Configuration, groups, tasks with ids and time stamps."""
        tasks = [{"id": self._ids[n], "task": t.to_json(), "stamp": self._stamps[n]} for n, t in self._tasks.items()]
        shape = {"groups": [list(widths) for widths in self.groups], "epochs": self.epochs}
        return {"config": self.config.model_dump(mode="json"), "tasks": tasks, "added": self._added, **shape}

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The network of a plan, on the meta device."""
        with torch.device("meta"):
            network = cls(ExpandingConfig.of(plan["config"]), plan["groups"])
            for entry in plan["tasks"]:
                task = Task.of(entry["task"])
                network._tasks[task.name], network._ids[task.name] = task, entry["id"]
                network._stamps[task.name] = entry["stamp"]
                size = network._spread * sum(widths[-1] for widths in network.groups[: entry["stamp"] + 1])
                network.heads[entry["id"]] = nn.Linear(size, task.target.outputs)
        for name, part in network.components().items() if keep is not None else ():
            if name not in keep:  # type: ignore[operator]
                network._drop(name, part)
        network._added, network.epochs = plan["added"], plan["epochs"]
        network._components = None
        return network

    def _drop(self, name: str, part: Component) -> None:
        if name.startswith("head."):
            del self.heads[name.removeprefix("head.")]
        for key in part.tensors.values() if not name.startswith("head.") else ():
            del self.blocks[key.removeprefix("blocks.")]

    # ---- tasks ------------------------------------------------------------------------------------------------

    def add_task(self, task: Task) -> None:
        """Give the task a head on all units that there are.

        Raises:
            InvalidInput: the name is taken, or the inputs are not the trunk's.
        """
        self.require_free(task.name)
        self.require_inputs(task, self.config.inputs, "the backbone was built for")
        self._tasks[task.name], self._ids[task.name] = task, f"t{self._added}"
        self._added += 1
        self.stamp(task.name)

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete the task's head and the newest groups that nobody sees any more; a trunk without tasks starts anew."""
        self.task_named(task)
        before = self.components()
        freed = [head_name(self._ids[task])]
        del self.heads[self._ids[task]], self._tasks[task], self._ids[task], self._stamps[task]
        seen = max(self._stamps.values(), default=0)
        for group in range(len(self.groups) - 1, seen, -1):
            freed += [name for name in before if f".g{group}" in name or name.endswith(f".from{group}")]
            self.groups.pop()
        for name in dict.fromkeys(freed[1:]):
            self._drop(name, before[name])
        self._components = None
        if self._tasks:
            return list(dict.fromkeys(freed)), []
        self.epochs, fresh = 0, type(self)(self.config)
        device = next(self.blocks.parameters()).device
        for key, value in fresh.blocks.items():
            self.blocks[key] = nn.Parameter(value.detach().to(device))
        return list(dict.fromkeys(freed)), list(self.components())

    # ---- components and paths ---------------------------------------------------------------------------------

    def components(self) -> dict[str, Component]:
        """Units by group, late connections, heads."""
        if self._components is None:
            held: dict[str, dict[str, str]] = {}
            for key in self.blocks:
                layer, group, what = key.rsplit("-", 2)
                late = what.startswith("from") and int(what[4:]) > int(group[1:])
                name = f"late.{layer}.{group}.{what}" if late else f"unit.{layer}.{group}"
                held.setdefault(name, {})[what] = f"blocks.{key}"
            found = {
                name: Component(name, "base", tensors, capacity=name.startswith("unit.") and name.endswith(".g0"))
                for name, tensors in held.items()
            }
            for task_id, head in self.heads.items():
                tensors = {local: f"heads.{task_id}.{local}" for local in head.state_dict()}
                found[head_name(task_id)] = Component(head_name(task_id), "own", tensors)
            self._components = found
        return self._components

    def path(self, task: str, exit: str | None = None) -> Path:
        """One step a layer: its groups up to the task's stamp; then the head."""
        self.require_only_exit(task, exit)
        stamp = self._stamps[task]
        steps = [tuple(self._names(place, stamp)) for place in range(len(self.layers))]
        return Path(task, (*steps, (head_name(self._ids[task]),)))

    def _names(self, place: int, stamp: int) -> Iterator[str]:
        layer = self.layers[place].name
        for group in range(stamp + 1):
            if not self.groups[group][place]:
                continue
            yield f"unit.{layer}.g{group}"
            for source in range(group + 1, stamp + 1) if place else ():
                if self.groups[source][place - 1]:
                    yield f"late.{layer}.g{group}.from{source}"

    # ---- computation ------------------------------------------------------------------------------------------

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """The encoded inputs themselves."""
        return inputs

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """One layer with the weights of its blocks, or the head."""
        if names[0].startswith("head."):
            out: torch.Tensor = self.heads[names[0].removeprefix("head.")](torch.flatten(value, 1))
            return out
        weight, bias, layer = self._assembled(names)
        return layer.apply(value, weight, bias)

    def _assembled(self, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, Layer]:
        """Weight and bias over all groups of a step."""
        place = next(n for n, layer in enumerate(self.layers) if layer.name == names[0].split(".")[1])
        layer = self.layers[place]
        late: dict[int, list[int]] = {}
        for name in names:
            if name.startswith("late."):
                late.setdefault(int(name.split(".")[2][1:]), []).append(int(name.rpartition("from")[2]))
        rows, biases = [], []
        for name in names:
            if name.startswith("unit."):
                group = int(name.rpartition("g")[2])
                sources = [s for s in range(group + 1) if f"{layer.name}-g{group}-from{s}" in self.blocks]
                blocks = [self.blocks[f"{layer.name}-g{group}-from{s}"] for s in (*sources, *late.get(group, ()))]
                rows.append(torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0])
                biases.append(self.blocks[f"{layer.name}-g{group}-bias"])
        if len(rows) == 1:
            return rows[0], biases[0], layer
        return torch.cat(rows), torch.cat(biases), layer

    def fuse(self, path: Path) -> nn.Module:
        """Ordinary layers of the widths that the task sees."""
        parts: list[nn.Module] = []
        for names in path.steps[:-1]:
            weight, bias, layer = self._assembled(names)
            parts += [*copy.deepcopy(layer.before), _plain(layer, weight, bias), *copy.deepcopy(layer.after)]
        head = self.heads[path.steps[-1][0].removeprefix("head.")]
        assert isinstance(head, nn.Linear)
        plain = nn.Linear(head.in_features, head.out_features, device="meta")
        plain.weight, plain.bias = (nn.Parameter(p.detach().clone()) for p in (head.weight, head.bias))
        return nn.Sequential(*parts, nn.Flatten(), plain)


def _plain(layer: Layer, weight: torch.Tensor, bias: torch.Tensor) -> nn.Module:
    module: nn.Module
    if isinstance(layer.module, nn.Conv2d):
        old = layer.module
        shape = (weight.shape[1], weight.shape[0], old.kernel_size, old.stride, old.padding, old.dilation)
        module = nn.Conv2d(*shape, device="meta")  # type: ignore[arg-type]
    else:
        module = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    module.weight, module.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
    return module


def head_name(task_id: str) -> str:
    """`head.t2`."""
    return f"head.{task_id}"
