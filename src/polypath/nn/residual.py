"""What networks made of one ResNet-18's residual blocks have in common: the blocks, tasks, heads, plan and release."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import nn

from polypath.core.component import Component
from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.network import Network
from polypath.core.seeds import seeded_values
from polypath.core.task import InputSpec, Task
from polypath.nn.backbones import backbone


class ResidualConfig(Config):
    """Shape of a network of residual blocks.

    Args:
        backbone: a description of kind `resnet18`.
        inputs: what every task's inputs are.
        seed: of initial values.
    """

    backbone: dict[str, Any]
    inputs: InputSpec
    seed: int = 0


class Block(nn.Module):
    """A basic block with its shortcut apart: conv-BN-ReLU-conv-BN, and identity or conv1x1-BN."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(first.conv, first.norm, nn.ReLU(), second.conv, second.norm)
        self.shortcut = second.shortcut

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """ReLU of both added."""
        return torch.relu(self.body(value) + self.shortcut(value))


def residual_blocks(description: Mapping[str, Any], inputs: InputSpec, method: str) -> tuple[nn.Module, list[Block]]:
    """Stem and the eight blocks of a ResNet-18 with the values that the backbone `resnet18` would have.

    Raises:
        InvalidInput: another kind of backbone.
    """
    if description["kind"] != "resnet18":
        raise InvalidInput(
            f"{method} is defined on residual blocks: backbone must be of kind 'resnet18', received "
            f"{description['kind']!r}"
        )
    pieces = dict(backbone(description, inputs).pieces.items())
    names = [f"layer{stage}_{block}" for stage in range(1, 5) for block in range(2)]
    return pieces["stem"], [Block(pieces[f"{name}_conv1"], pieces[name]) for name in names]


class ResidualNetwork(Network):
    """Tasks with heads on parts that all share (kind base) and parts of their own.

    Subclasses fill `parts` (component name with dashes -> module) in `_build` and `_admit_parts`.
    """

    config_class: ClassVar[type[ResidualConfig]] = ResidualConfig
    method: ClassVar[str]

    def __init__(self, config: ResidualConfig, *, _keep: Collection[str] | None = None) -> None:
        super().__init__()
        self.config, self._keep = config, _keep
        self.parts = nn.ModuleDict()
        self._ids: dict[str, str] = {}
        self._added = 0
        self._components: dict[str, Component] | None = None
        with seeded_values(self.config.seed, "backbone"):
            self.features = self._build()
        self._keep = None

    @abstractmethod
    def _build(self) -> int:
        """Add everybody's parts; returns the length of the vector that heads read."""

    @abstractmethod
    def _admit_parts(self, task: Task, task_id: str) -> None:
        """Add the parts that are the task's own, heads left out."""

    @abstractmethod
    def _task_plan(self, task: str) -> dict[str, Any]:
        """What the plan says of a task beyond its definition."""

    @abstractmethod
    def _restore_task(self, task: str, plan: Mapping[str, Any]) -> None:
        """Take in what `_task_plan` said, before the task is admitted."""

    def _put(self, name: str, module: nn.Module) -> None:
        if (self._keep is None or name in self._keep) and any(True for _ in module.state_dict()):
            self.parts[key_of(name)] = module

    def part(self, name: str) -> nn.Module:
        """The module of a component."""
        return self.parts[key_of(name)]

    def plan(self) -> dict[str, Any]:
        """Configuration, tasks with their ids, number of tasks ever added."""
        tasks = [
            {"id": self._ids[name], "task": task.to_json(), **self._task_plan(name)}
            for name, task in self._tasks.items()
        ]
        return {"config": self.config.model_dump(mode="json"), "tasks": tasks, "added": self._added}

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The network of a plan, on the meta device."""
        with torch.device("meta"):
            network = cls(cls.config_class.of(plan["config"]), _keep=keep)
            network._keep = keep
            for entry in plan["tasks"]:
                task = Task.of(entry["task"])
                network._restore_task(task.name, entry)
                network._admit(task, entry["id"])
            network._keep = None
        network._added = plan["added"]
        return network

    def add_task(self, task: Task) -> None:
        """Give the task its head and the parts that are its own.

        Raises:
            InvalidInput: the name is taken, or its inputs have another shape.
        """
        self.require_free(task.name)
        self.require_inputs(task, self.config.inputs, "this network takes")
        self._admit(task, f"t{self._added}")
        self._added += 1

    def _admit(self, task: Task, task_id: str) -> None:
        self._tasks[task.name], self._ids[task.name] = task, task_id
        with seeded_values(self.config.seed, "own", task_id):
            self._admit_parts(task, task_id)
        with seeded_values(self.config.seed, "head", task_id):
            self._put(f"head.{task_id}", nn.Linear(self.features, task.target.outputs))
        self._components = None

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete what is the task's own; what all share starts anew when nobody uses it any more."""
        self.task_named(task)
        mine, parts = self.path(task).components, self.components()
        del self._tasks[task], self._ids[task]
        freed = [name for name in mine if parts[name].kind == "own"]
        for name in freed:
            del self.parts[key_of(name)]
        self._components = None
        still = {name for path in self.paths().values() for name in path.components}
        reset = [name for name in mine if name not in still and name not in freed]
        if reset:
            fresh = type(self)(self.config)
            for name in reset:
                device = next(self.part(name).parameters()).device
                self.part(name).load_state_dict(fresh.part(name).to(device).state_dict())
        return freed, reset

    def components(self) -> dict[str, Component]:
        """Shared parts, parts of tasks, heads."""
        if self._components is None:
            found = {}
            for key, module in self.parts.items():
                name = key.replace("-", ".")
                own = name.rpartition(".")[2] in self._ids.values()
                tensors = {local: f"parts.{key}.{local}" for local in module.state_dict()}
                found[name] = Component(name, "own" if own else "base", tensors, capacity=not own)
            self._components = found
        return self._components


def key_of(name: str) -> str:
    """A component's key in a ModuleDict, which refuses dots."""
    return name.replace(".", "-")
