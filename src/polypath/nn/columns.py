"""Plain networks for many tasks: a column of pieces for every task, or one trunk for all; a linear head a task.

Components: `trunk.fc1` (base: everybody's) or `trunk.fc1.t0` (own: a column's piece), `head.t0` (own). One step of a
path is one piece of the backbone. Of a shared trunk the pieces that the backbone names as `task_pieces` are a task's
own all the same. `memory` holds what learning needs beside components; `epochs` counts
those it was trained for since it had no task.

Where nothing is shared the network is lazy: a column is described by its layout, which all columns of one backbone and
one shape of inputs have in common, and its modules are made when they are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.seeds import seeded_values
from polypath.core.task import InputSpec, Task
from polypath.nn.backbones import Backbone, backbone, kind_of
from polypath.nn.column_names import head_name, piece_name, split_name
from polypath.nn.fold import folded_copy
from polypath.nn.memory import Memory
from polypath.nn.outline import OutlinedColumns


class ColumnsConfig(Config):
    """Shape of a set of columns.

    Args:
        backbone: description, see `polypath.nn.backbones`.
        share: `none` a column for each task, for inputs of its own shape; `trunk` one for all.
        inputs: what the shared trunk takes; None where nothing is shared.
        seed: of initial values.
    """

    backbone: dict[str, Any]
    share: Literal["none", "trunk"] = "none"
    inputs: InputSpec | None = Field(None)
    seed: int = 0


class Columns(OutlinedColumns):
    """See the module docstring."""

    config_class: ClassVar[type[ColumnsConfig]] = ColumnsConfig
    config: ColumnsConfig
    outlining: ClassVar[bool] = True

    def __init_subclass__(cls, **values: Any) -> None:
        """A subclass draws its components in another way, unless it says that it does not."""
        super().__init_subclass__(**values)
        if "outlining" not in vars(cls):
            cls.outlining = False

    def __init__(self, config: ColumnsConfig, *, _keep: Collection[str] | None = None) -> None:
        super().__init__()
        self.config = config
        self.columns, self.heads = nn.ModuleDict(), nn.ModuleDict()
        self._features: dict[str, int] = {}
        self._pieces: dict[str, list[str]] = {}
        self._ids: dict[str, str] = {}
        self._plans: dict[str, dict[str, Any]] = {}
        self._paths: dict[str, Path] = {}
        self._added = 0
        self.epochs = 0
        self.memory = Memory()
        self._components: dict[str, Component] | None = None
        self._memory_size = 0
        # Pieces of a shared trunk that every task has for itself.
        self._task_pieces = kind_of(config.backbone).task_pieces(config.backbone) if config.share == "trunk" else ()
        self._make_shared(_keep)

    def _make_shared(self, keep: Collection[str] | None) -> None:
        """What is there before any task."""
        if self.config.share == "trunk":
            if self.config.inputs is None:
                raise InvalidInput("columns: a shared trunk needs the shape of its inputs")
            self._add_column("shared", self.config.inputs, keep)

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Configuration, tasks with their ids, number of tasks ever added and of epochs, shapes of the memory."""
        for name in self._tasks.keys() - self._plans.keys():
            self._plans[name] = {"id": self._ids[name], "task": self._tasks[name].to_json()}
        tasks = [self._plans[name] for name in self._tasks]
        plan = {"config": self.config.model_dump(mode="json"), "tasks": tasks, "added": self._added}
        return {**plan, "epochs": self.epochs, "memory": self.memory.plan()}

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The columns of a plan, on the meta device."""
        return cls._restored(plan, keep, build=True)

    @classmethod
    def _restored(cls, plan: Mapping[str, Any], keep: Collection[str] | None, *, build: bool) -> Self:
        with torch.device("meta"):
            network = cls(cls.config_class.of(plan["config"]), _keep=keep)
            for entry in plan["tasks"]:
                task = Task.of(entry["task"])
                network._admit(task, entry["id"], keep, build=build)
                network._plans[task.name] = entry
            if keep is None:
                network.memory.restore(plan.get("memory", {}))
        network._added, network.epochs = plan["added"], plan.get("epochs", 0)
        return network

    # ---- tasks ------------------------------------------------------------------------------------------------

    def add_task(self, task: Task) -> None:
        """Give the task its head, and a column where none is shared.

        Raises:
            InvalidInput: the name is taken, or the inputs are not those of the shared trunk.
        """
        self.require_free(task.name)
        if self.config.inputs is not None:
            self.require_inputs(task, self.config.inputs, "the backbone was built for")
        self._admit(task, f"t{self._added}", None)
        self._added += 1

    def _admit(self, task: Task, task_id: str, keep: Collection[str] | None, *, build: bool = True) -> None:
        self._tasks[task.name], self._ids[task.name] = task, task_id
        if self._outlining:
            self._outline(task, task_id, keep)
        if not build:
            return
        if self.config.share == "none" or self._task_pieces:
            self._add_column(task_id, task.inputs, keep)
        if keep is None or head_name(task_id) in keep:
            with seeded_values(self.config.seed, "head", task_id):
                features = self._features[task_id if task_id in self._features else "shared"]
                self.heads[task_id] = kind_of(self.config.backbone).head(features, task.target.outputs)
        self._look_again()

    def _add_column(self, key: str, inputs: InputSpec, keep: Collection[str] | None) -> None:
        with seeded_values(self.config.seed, "column", key):
            made: Backbone = self._make_column(inputs)
        self._features[key], self._pieces[key] = made.features, list(made.pieces)
        for piece in self._pieces[key]:
            here = self._column_of(piece, key) == key and not (key == "shared" and piece in self._task_pieces)
            if not here or (keep is not None and piece_name(piece, key) not in keep):
                del made.pieces[piece]
        self.columns[key] = made.pieces
        self._look_again()

    def _look_again(self) -> None:
        """Modules were made: where components are known from them, there may be new ones."""
        if not self._outlining:
            self._components = None

    def _make_column(self, inputs: InputSpec) -> Backbone:
        return backbone(self.config.backbone, inputs)

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete the task's head and its column; a shared trunk that nobody uses any more starts anew."""
        self.task_named(task)
        task_id = self._ids[task]
        freed = [head_name(task_id)]
        if self._outlining:
            freed = list(self._outlined[task_id])
        elif task_id in self.columns:
            freed = [*(piece_name(piece, task_id) for piece in self._column(task_id)), *freed]
        for modules in (self.columns, self.heads):
            if task_id in modules:
                del modules[task_id]
        for sizes in (self._pieces, self._features):
            sizes.pop(task_id, None)
        del self._tasks[task], self._ids[task]
        for held in (self._plans, self._paths):
            held.pop(task, None)
        for name in self._outlined.pop(task_id, {}):
            self._parts.pop(name, None)
        self._components = None
        reset = []
        if not self._tasks:
            reset, self.epochs = self._reset_shared(), 0
        for name in (*freed, *reset):
            self.memory.drop(name)
        self._components = None
        return freed, reset

    def _reset_shared(self) -> list[str]:
        """Put what nobody uses any more back to its initial values; its components."""
        if self.config.share == "none":
            return []
        device = next(self.columns["shared"].parameters()).device
        self._make_shared(None)
        self.columns["shared"].to(device)
        return [piece_name(piece, "shared") for piece in self._column("shared")]

    def _column(self, key: str) -> nn.ModuleDict:
        pieces = self.columns[key]
        assert isinstance(pieces, nn.ModuleDict)
        return pieces

    def _column_of(self, piece: str, key: str) -> str:
        """Where a piece of the column `key` lies."""
        return "shared" if self.config.share == "trunk" and piece not in self._task_pieces else key

    # ---- components and paths ---------------------------------------------------------------------------------

    def components(self) -> dict[str, Component]:
        """Pieces and heads, with the memory beside them; the memory may have grown since the last call."""
        if self._components is None or self.memory.size != self._memory_size:
            self._memory_size = self.memory.size
            self._components = self._found_components()
        return self._components

    def _found_components(self) -> dict[str, Component]:
        if self._outlining:
            return self._outlined_components()
        found = {}
        for column, pieces in self.columns.items():
            shared = column == "shared"
            for piece, module in pieces.items():  # type: ignore[operator]
                name = piece_name(piece, column)
                tensors = {local: f"columns.{column}.{piece}.{local}" for local in module.state_dict()}
                extra = self.memory.auxiliary_of(name)
                found[name] = Component(name, "base" if shared else "own", tensors, extra, capacity=shared)
        for task_id, head in self.heads.items():
            name = head_name(task_id)
            tensors = {local: f"heads.{task_id}.{local}" for local in head.state_dict()}
            found[name] = Component(name, "own", tensors, self.memory.auxiliary_of(name))
        return found

    def path(self, task: str, exit: str | None = None) -> Path:
        """One step a piece, then the head."""
        if exit is None and task in self._paths:
            return self._paths[task]
        self.require_only_exit(task, exit)
        task_id = self._ids[task]
        pieces = self._pieces[task_id if task_id in self._pieces else "shared"]
        steps = [self._names(piece, self._column_of(piece, task_id)) for piece in pieces]
        self._paths[task] = Path(task, (*steps, (head_name(task_id),)))
        return self._paths[task]

    def reach(self, task: str) -> Path:
        """The path: there are no other exits."""
        return self.path(task)

    def _names(self, piece: str, column: str) -> tuple[str, ...]:
        """Components of one step; the piece itself is the last."""
        return (piece_name(piece, column),)

    # ---- computation ------------------------------------------------------------------------------------------

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """The encoded inputs themselves."""
        return inputs

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """One piece, or the head."""
        out: torch.Tensor = self._module(names[-1])(value)
        return out

    def fuse(self, path: Path) -> nn.Module:
        """Copies of the pieces one after the other, BatchNorm folded."""
        return nn.Sequential(*(folded_copy(self._plain(self._module(names[-1]))) for names in path.steps))

    def _plain(self, module: nn.Module) -> nn.Module:
        """A piece as ordinary modules."""
        return module

    def _module(self, name: str) -> nn.Module:
        if name.startswith("head."):
            return self.heads[name.removeprefix("head.")]
        piece, column = split_name(name)
        return self.columns[column][piece]  # type: ignore[index]


__all__ = ["Columns", "ColumnsConfig", "head_name", "piece_name", "split_name"]
