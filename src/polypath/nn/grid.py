"""PaRT's network: layers of interchangeable modules; a task is a choice of N modules in every layer.

Components: `layer3.module07` (kind module, capacity of the pool), `layer3.module07.norm.t2` (own: a task's BatchNorms
in that module, with norm="task"), `head.t2` (own: the task's rows of the output layer). With private=True modules are
`layer3.module07.t2`: nobody else's, with the initial values module 7 would have in a shared pool (single-task mode).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.network import Network
from polypath.core.seeds import generator, seeded_values
from polypath.core.task import Image, Task
from polypath.nn.layouts import LAYOUTS, GridModule


class GridConfig(Config):
    """Shape of a module grid.

    Args:
        layout: `cifar` (nine layers, ResNet-18 widths) or `resnet50` (stem and four stages).
        modules: modules a layer (M).
        selected: modules a task uses in every layer (N).
        width: channels of the first stage.
        channels: channels of the input images.
        norm: `shared` one BatchNorm a convolution and module; `task` one for every task as well.
        private: every task gets modules of its own.
        pretrained: name of a timm ResNet-50 whose ImageNet weights every module copy starts from, or None.
        paths: task name -> one row a layer of the modules it uses; tasks not named are drawn.
        seed: of initial values and drawn paths.
    """

    layout: Literal["cifar", "resnet50"] = "cifar"
    modules: int = Field(12, gt=0)
    selected: int = Field(4, gt=0)
    width: int = Field(64, gt=0)
    channels: int = Field(3, gt=0)
    norm: Literal["shared", "task"] = "shared"
    private: bool = False
    pretrained: str | None = None
    paths: dict[str, list[list[int]]] = Field(default_factory=dict)
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.selected > self.modules:
            raise ValueError(f"selected (N = {self.selected}) must not exceed modules (M = {self.modules})")
        if self.layout == "resnet50" and self.width < 2:
            # Channels-last 1x1 convolutions with stride 2 and fewer than 8 input channels write past their buffers on
            # CPUs with AVX2 and no AVX-512 (torch 2.14.1, backward).
            raise ValueError("layout='resnet50' needs width 2 or more")
        if self.pretrained and (self.layout != "resnet50" or self.width != 64 or self.channels != 3):
            raise ValueError("pretrained weights exist for layout='resnet50' with width 64 and 3 channels only")
        for task, rows in self.paths.items():
            check_rows(rows, LAYOUTS[self.layout].depth, self.modules, self.selected, task)
        return self


def check_rows(rows: Sequence[Sequence[int]], depth: int, modules: int, selected: int, task: str) -> None:
    """ValueError unless there is one row a layer, each with `selected` different modules below `modules`."""
    if len(rows) != depth:
        raise ValueError(f"path of {task!r}: {depth} rows required (one a layer), received {len(rows)}")
    for layer, row in enumerate(rows, start=1):
        if len(row) != selected or len(set(row)) != selected or not all(0 <= j < modules for j in row):
            raise ValueError(
                f"path of {task!r}, layer {layer}: {selected} different modules out of 0..{modules - 1} required, "
                f"received {list(row)}"
            )


def drawn_rows(seed: int, position: int, depth: int, modules: int, selected: int) -> list[list[int]]:
    """Rows of the task at `position`: uniform N-subsets, all tasks drawn one after the other from one generator."""
    stream = generator(seed, "paths")
    rows: list[list[int]] = []
    for _ in range(position + 1):
        rows = [
            sorted(torch.randperm(modules, generator=stream, device="cpu")[:selected].tolist()) for _ in range(depth)
        ]
    return rows


class Grid(Network):
    """A module grid; see the module docstring for its components."""

    def __init__(self, config: GridConfig, *, _modules: Collection[str] | None = None) -> None:
        super().__init__()
        self.config = config
        self.layout = LAYOUTS[config.layout](config.width, config.channels)
        self.pool, self.norms, self.heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self._ids: dict[str, str] = {}
        self._rows: dict[str, list[list[int]]] = {}
        self._added = 0  # positions given so far
        self._reserved: dict[str, int] = {}
        self._components: dict[str, Component] | None = None
        if not config.private:
            for layer in range(1, self.layout.depth + 1):
                for number in range(config.modules):
                    name = module_name(layer, number)
                    if _modules is None or name in _modules:
                        self._add_module(name, layer, number)

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Configuration, tasks with their ids and rows, number of positions given, those of tasks still to come."""
        tasks = [
            {"id": self._ids[name], "task": task.to_json(), "rows": self._rows[name]}
            for name, task in self._tasks.items()
        ]
        plan = {"config": self.config.model_dump(mode="json"), "tasks": tasks, "added": self._added}
        return {**plan, "reserved": dict(self._reserved)} if self._reserved else plan

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The grid of a plan, on the meta device."""
        with torch.device("meta"):
            grid = cls(GridConfig.of(plan["config"]), _modules=keep)
            for entry in plan["tasks"]:
                grid._admit(Task.of(entry["task"]), entry["id"], entry["rows"], keep)
        grid._added, grid._reserved = plan["added"], dict(plan.get("reserved", {}))
        return grid

    # ---- tasks ------------------------------------------------------------------------------------------------

    def reserve(self, names: Sequence[str]) -> None:
        """Fix the positions of tasks that will be added: their paths and heads do not depend on who comes first.

        Args:
            names: in the order in which they would be added; those that have a position keep it.
        """
        new = [name for name in names if name not in self._reserved]
        self._reserved |= {name: self._added + place for place, name in enumerate(new)}
        self._added += len(new)

    def add_task(self, task: Task, rows: list[list[int]] | None = None) -> None:
        """Give the task its path, its head and, where configured, its BatchNorms or modules.

        Args:
            task: a new one.
            rows: its path, one row a layer; None takes the configuration's, or draws one.

        Raises:
            InvalidInput: the name is taken, the task is not one of images with the grid's channels, its images are too
                small, or `rows` does not fit the grid.
        """
        self.require_free(task.name)
        if not isinstance(task.inputs, Image) or task.inputs.channels != self.config.channels:
            raise InvalidInput(
                f"task {task.name!r}: this grid takes images with {self.config.channels} channel(s), "
                f"received {task.inputs!r}"
            )
        config, least = self.config, self.layout.smallest
        if min(task.inputs.height, task.inputs.width) < least:
            raise InvalidInput(
                f"task {task.name!r}: the {config.layout} grid needs images of {least} x {least} pixels or more, "
                f"received {task.inputs.height} x {task.inputs.width}; give larger images (size=8 in the suite) or "
                "another layout"
            )
        rows = rows or config.paths.get(task.name)
        if rows is not None:
            try:
                check_rows(rows, self.layout.depth, config.modules, config.selected, task.name)
            except ValueError as error:
                raise InvalidInput(str(error)) from None
        self.reserve([task.name])
        position = self._reserved.pop(task.name)
        rows = rows or drawn_rows(config.seed, position, self.layout.depth, config.modules, config.selected)
        self._admit(task, f"t{position}", [sorted(row) for row in rows], None)

    def _admit(self, task: Task, task_id: str, rows: list[list[int]], keep: Collection[str] | None) -> None:
        self._tasks[task.name], self._ids[task.name], self._rows[task.name] = task, task_id, rows
        for layer, row in enumerate(rows, start=1):
            for number in row:
                name = self._module_of(layer, number, task_id)
                if keep is not None and name not in keep:
                    continue
                if self.config.private:
                    self._add_module(name, layer, number)
                if self.config.norm == "task" and (keep is None or norm_name(name, task_id) in keep):
                    self.norms[key_of(norm_name(name, task_id))] = self._initial_norms(layer, self._module(name))
        if keep is None or head_name(task_id) in keep:
            with seeded_values(self.config.seed, "head", task_id):
                self.heads[task_id] = nn.Linear(self.layout.features, task.target.outputs)
        self._components = None

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete the task's own components; reset modules of the pool that nobody uses any more."""
        self.task_named(task)
        mine = self.path(task).components
        task_id = self._ids[task]
        del self._tasks[task], self._ids[task], self._rows[task]
        still = {name for path in self.paths().values() for name in path.components}
        parts = self.components_of_pool()
        freed = [name for name in mine if name not in still and not parts.get(name, False)]
        reset = [name for name in mine if name not in still and parts.get(name, False)]
        for name in freed:
            if name == head_name(task_id):
                del self.heads[task_id]
            else:
                del (self.norms if ".norm." in name else self.pool)[key_of(name)]
        for name in reset:
            layer, number = position_of(name)
            fresh = self._initial_module(layer, number)
            device = next(self.pool[key_of(name)].parameters()).device
            self.pool[key_of(name)].load_state_dict(fresh.to(device).state_dict())
        self._components = None
        return freed, reset

    # ---- components and paths ---------------------------------------------------------------------------------

    def components_of_pool(self) -> dict[str, bool]:
        """Pool module -> whether it is capacity (shared pool) or a task's own copy."""
        return {name_of(key): not self.config.private for key in self.pool}

    def components(self) -> dict[str, Component]:
        """Modules, per-task BatchNorms and heads."""
        if self._components is None:
            found = {}
            for room, prefix in ((self.pool, "pool"), (self.norms, "norms"), (self.heads, "heads")):
                for key, module in room.items():
                    name = head_name(key) if room is self.heads else name_of(key)
                    shared = room is self.pool and not self.config.private
                    tensors = {local: f"{prefix}.{key}.{local}" for local in module.state_dict()}
                    found[name] = Component(name, "module" if shared else "own", tensors, capacity=shared)
            self._components = found
        return self._components

    def path(self, task: str, exit: str | None = None) -> Path:
        """One step a layer (modules in ascending order, then the task's BatchNorms), then the head."""
        self.require_only_exit(task, exit)
        task_id = self._ids[task]
        steps = []
        for layer, row in enumerate(self._rows[task], start=1):
            names = [self._module_of(layer, number, task_id) for number in row]
            norms = [norm_name(name, task_id) for name in names] if self.config.norm == "task" else []
            steps.append((*names, *norms))
        return Path(task, (*steps, (head_name(task_id),)))

    def rows(self, task: str) -> list[list[int]]:
        """Modules the task uses, one row a layer."""
        self.task_named(task)
        return [list(row) for row in self._rows[task]]

    # ---- computation ------------------------------------------------------------------------------------------

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """The images themselves, (B, C, H, W)."""
        return inputs

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """Sum over modules and the layer's tail, or the head."""
        if names[0].startswith("head."):
            logits: torch.Tensor = self.heads[names[0].removeprefix("head.")](value)
            return logits
        outputs = list(self.step_outputs(value, names).values())
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return self.layout.tail(position_of(names[0])[0], total, value)

    def step_outputs(self, value: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Module -> its own output before the sum; the head's logits for the last step."""
        if names[0].startswith("head."):
            return {names[0]: self.step(value, names)}
        return {module: self._module(module).run(value, norms) for module, norms in self._pairs(names)}

    def fuse(self, path: Path) -> nn.Module:
        """A chain of merged layers and the head, BatchNorm folded."""
        layers: list[nn.Module] = []
        for names in path.steps[:-1]:
            layer = position_of(names[0])[0]
            layers.append(self.layout.merge(layer, [(self._module(m), norms) for m, norms in self._pairs(names)]))
        source = self.heads[path.steps[-1][0].removeprefix("head.")]
        assert isinstance(source, nn.Linear)
        head = nn.Linear(source.in_features, source.out_features, device="meta")
        head.weight = nn.Parameter(source.weight.detach().float().clone())
        head.bias = nn.Parameter(source.bias.detach().float().clone())
        return nn.Sequential(*layers, head)

    def _pairs(self, names: Sequence[str]) -> list[tuple[str, nn.ModuleDict]]:
        own = {name.partition(".norm.")[0]: name for name in names if ".norm." in name}
        pairs = []
        for name in names:
            if ".norm." not in name:
                norms = self.norms[key_of(own[name])] if own else self._module(name).get_submodule("norms")
                assert isinstance(norms, nn.ModuleDict)
                pairs.append((name, norms))
        return pairs

    # ---- initial values ---------------------------------------------------------------------------------------

    def _module(self, name: str) -> GridModule:
        module = self.pool[key_of(name)]
        assert isinstance(module, GridModule)
        return module

    def _module_of(self, layer: int, number: int, task_id: str) -> str:
        name = module_name(layer, number)
        return f"{name}.{task_id}" if self.config.private else name

    def _add_module(self, name: str, layer: int, number: int) -> None:
        self.pool[key_of(name)] = self._initial_module(layer, number)
        self._components = None

    def _initial_module(self, layer: int, number: int) -> GridModule:
        with seeded_values(self.config.seed, "module", layer, number):
            module = self.layout.make(layer)
        if self.config.pretrained:
            from polypath.nn.pretrained import load_convolutions

            load_convolutions(module, layer, self.config.pretrained)
        if self.config.norm == "shared":
            module.add_module("norms", self._initial_norms(layer, module))
        return module

    def _initial_norms(self, layer: int, module: GridModule) -> nn.ModuleDict:
        norms = nn.ModuleDict({name: nn.BatchNorm2d(size) for name, size in module.norm_sizes().items()})
        if self.config.pretrained:
            from polypath.nn.pretrained import load_norms

            load_norms(norms, layer, self.config.pretrained)
        return norms


def module_name(layer: int, number: int) -> str:
    """`layer3.module07`."""
    return f"layer{layer}.module{number:02d}"


def norm_name(module: str, task_id: str) -> str:
    """`layer3.module07.norm.t2`."""
    return f"{module}.norm.{task_id}"


def head_name(task_id: str) -> str:
    """`head.t2`."""
    return f"head.{task_id}"


def key_of(name: str) -> str:
    """A component's key in a ModuleDict, which refuses dots."""
    return name.replace(".", "-")


def name_of(key: str) -> str:
    """The component's name, from its key."""
    return key.replace("-", ".")


def position_of(name: str) -> tuple[int, int]:
    """(layer, number) of a module or one of its BatchNorm sets."""
    layer, module = name.split(".")[:2]
    return int(layer.removeprefix("layer")), int(module.removeprefix("module"))


def read_paths(file: str | FilePath) -> dict[str, list[list[int]]]:
    """Saved paths: a JSON object of task name -> rows, as `polypath inspect --paths` writes it.

    Raises:
        InvalidInput: the file is missing, is not JSON or holds something else.
    """
    import json

    try:
        found = json.loads(FilePath(file).read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"paths file {str(file)!r} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(rows, list) for rows in found.values()):
        raise InvalidInput(f"paths file {str(file)!r}: an object of task name -> list of rows is required")
    return found
