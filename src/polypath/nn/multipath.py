"""A multi-path network: a backbone cut at increasing depths, with heads at the cuts.

Components: `segment1`, `segment2`, ... (kind segment: the backbone from one cut to the next), `head.t0` (own: a task's
head at its branch) and, with exits="all", `head.t0.branch1`, ... at the branches before it. A task's path is the prefix
up to its branch, and its head; its exits are called after their branches.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Self

import torch
from pydantic import Field
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.config import Config
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.network import Network
from polypath.core.seeds import seeded_values
from polypath.core.task import InputSpec, Task
from polypath.nn.backbones import Backbone, backbone
from polypath.nn.fold import folded_copy


class MultiPathNetConfig(Config):
    """Shape of a multi-path network.

    Args:
        backbone: description, see `polypath.nn.backbones`.
        inputs: what every task's inputs are.
        cuts: names of backbone pieces, ascending; branch i lies after the i-th.
        exits: `own` a head at the task's branch; `all` one at every branch up to it.
        branches: task name -> its branch, 1 for the shallowest; tasks not named take the last.
        seed: of initial values, which do not depend on cuts, exits or branches.
    """

    backbone: dict[str, Any]
    inputs: InputSpec
    cuts: tuple[str, ...] = Field(min_length=1)
    exits: Literal["own", "all"] = "own"
    branches: dict[str, int] = Field(default_factory=dict)
    seed: int = 0


class MultiPathNet(Network):
    """See the module docstring.

    Raises:
        UnknownName: a cut that the backbone does not have; lists those it has.
        InvalidInput: cuts out of order, or a branch that does not exist.
    """

    def __init__(self, config: MultiPathNetConfig, *, _keep: Collection[str] | None = None) -> None:
        super().__init__()
        self.config = config
        with seeded_values(self.config.seed, "backbone"):
            made: Backbone = backbone(config.backbone, config.inputs)
        self._groups = segments(list(made.pieces), config.cuts)
        self._features = features_at(config.model_dump_json(include={"backbone", "inputs", "cuts"}))
        self.segments = nn.ModuleDict()
        for number, names in enumerate(self._groups, start=1):
            if _keep is None or segment_name(number) in _keep:
                self.segments[segment_name(number)] = nn.Sequential(*(made.pieces[name] for name in names))
        self.heads = nn.ModuleDict()
        for name, branch in config.branches.items():
            check_branch(branch, len(config.cuts), name)
        self._ids: dict[str, str] = {}
        self._branches: dict[str, int] = {}
        self.difficulty: dict[str, float] = {}
        self._added = 0
        self._components: dict[str, Component] | None = None

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """Configuration, tasks with their ids and branches, their measured difficulty, number of tasks ever added."""
        tasks = [
            {"id": self._ids[name], "task": task.to_json(), "branch": self._branches[name]}
            for name, task in self._tasks.items()
        ]
        plain = {"config": self.config.model_dump(mode="json"), "tasks": tasks, "added": self._added}
        return {**plain, "difficulty": dict(self.difficulty)}

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The network of a plan, on the meta device."""
        with torch.device("meta"):
            network = cls(MultiPathNetConfig.of(plan["config"]), _keep=keep)
            for entry in plan["tasks"]:
                network._admit(Task.of(entry["task"]), entry["id"], entry["branch"], keep)
        network._added, network.difficulty = plan["added"], dict(plan["difficulty"])
        return network

    # ---- tasks ------------------------------------------------------------------------------------------------

    @classmethod
    def plan_renamed(cls, plan: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
        """As in every network; the measured difficulty goes along."""
        difficulty = {new if name == old else name: value for name, value in plan["difficulty"].items()}
        return {**super().plan_renamed(plan, old, new), "difficulty": difficulty}

    def add_task(self, task: Task, branch: int | None = None) -> None:
        """Give the task a head at its branch, and with exits="all" at those before it.

        Args:
            task: a new one.
            branch: 1 for the shallowest; None takes the configuration's, else the last.

        Raises:
            InvalidInput: the name is taken, its inputs have another shape, or there is no such branch.
        """
        self.require_free(task.name)
        self.require_inputs(task, self.config.inputs, "this network takes")
        branch = branch or self.config.branches.get(task.name, len(self.config.cuts))
        check_branch(branch, len(self.config.cuts), task.name)
        self._admit(task, f"t{self._added}", branch, None)
        self._added += 1

    def place_task(self, task: str, branch: int) -> None:
        """Move a task to another branch; its heads start anew."""
        self.task_named(task)
        check_branch(branch, len(self.config.cuts), task)
        for name in self._own(task):
            del self.heads[key_of(name)]
        self._admit(self._tasks[task], self._ids[task], branch, None)

    def _admit(self, task: Task, task_id: str, branch: int, keep: Collection[str] | None) -> None:
        self._tasks[task.name], self._ids[task.name], self._branches[task.name] = task, task_id, branch
        device = next((p.device for p in self.parameters()), None)
        for number in range(1 if self.config.exits == "all" else branch, branch + 1):
            name = head_name(task_id, None if number == branch else number)
            if keep is None or name in keep:
                with seeded_values(self.config.seed, name):
                    head = nn.Linear(self._features[number - 1], task.target.outputs)
                self.heads[key_of(name)] = head if device is None or device.type == "meta" else head.to(device)
        self._components = None

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete the task's heads; segments that nobody uses any more start anew."""
        self.task_named(task)
        mine, freed = self.path(task).components, self._own(task)
        for name in freed:
            del self.heads[key_of(name)]
        del self._tasks[task], self._ids[task], self._branches[task]
        self.difficulty.pop(task, None)
        self._components = None
        still = {name for path in self.paths().values() for name in path.components}
        reset = [name for name in mine if name.startswith("segment") and name not in still]
        if reset:
            fresh = type(self)(self.config).segments
            for name in reset:
                device = next(self.segments[name].parameters()).device
                self.segments[name].load_state_dict(fresh[name].to(device).state_dict())
        return freed, reset

    def branch(self, task: str) -> int:
        """The task's branch, 1 for the shallowest."""
        self.task_named(task)
        return self._branches[task]

    # ---- components and paths ---------------------------------------------------------------------------------

    def components(self) -> dict[str, Component]:
        """Segments and heads."""
        if self._components is None:
            found = {}
            for name, segment in self.segments.items():
                tensors = {local: f"segments.{name}.{local}" for local in segment.state_dict()}
                found[name] = Component(name, "segment", tensors, capacity=True)
            for key, head in self.heads.items():
                tensors = {local: f"heads.{key}.{local}" for local in head.state_dict()}
                found[name_of(key)] = Component(name_of(key), "own", tensors)
            self._components = found
        return self._components

    def exits(self, task: str) -> tuple[str, ...]:
        """Branches where the task has a head, shallowest first; the last is its own."""
        last = self.branch(task)
        return tuple(f"branch{n}" for n in range(1 if self.config.exits == "all" else last, last + 1))

    def path(self, task: str, exit: str | None = None) -> Path:
        """The segments up to the task's branch, or to an earlier one where it has a head, and that head."""
        exits = self.exits(task)
        if exit is not None and exit not in exits:
            raise UnknownName(f"exit of task {task!r}", exit, exits)
        number = int((exit or exits[-1]).removeprefix("branch"))
        head = head_name(self._ids[task], None if number == self._branches[task] else number)
        return Path(task, (*((segment_name(n),) for n in range(1, number + 1)), (head,)), exit)

    def _own(self, task: str) -> list[str]:
        return [self.path(task, exit).steps[-1][0] for exit in self.exits(task)]

    # ---- computation ------------------------------------------------------------------------------------------

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """The encoded inputs themselves."""
        return inputs

    def step(self, value: Any, names: Sequence[str]) -> Any:
        """One segment, or a head on what the segment before it made; a value may lie inside a residual block."""
        if names[0].startswith("head."):
            return self.heads[key_of(names[0])](pooled(value))
        return self.segments[names[0]](value)

    def fuse(self, path: Path) -> nn.Module:
        """The path's segments and head one after the other, BatchNorm folded."""
        return nn.Sequential(*(self._fused(names[0]) for names in path.steps))

    def fuse_many(self, paths: Sequence[Path]) -> nn.Module:
        """One module for several paths, BatchNorm folded: encoded inputs in, a tuple of their outputs out.

        Every segment runs once, and none after the deepest of the paths.
        """
        names = dict.fromkeys(name for path in paths for step in path.steps for name in step)
        deepest = sorted((name for name in names if name.startswith("segment")), key=number_of)
        depths = [len(path.steps) - 1 for path in paths]
        heads = [self._fused(path.steps[-1][0]) for path in paths]
        return Branching([self._fused(name) for name in deepest], heads, depths)

    def _fused(self, name: str) -> nn.Module:
        if name.startswith("head."):
            return nn.Sequential(Pool(), folded_copy(self.heads[key_of(name)]))
        return nn.Sequential(*(folded_copy(piece) for piece in self.segments[name].children()))


class Pool(nn.Module):
    """Global average pooling of what a segment made."""

    def forward(self, value: Any) -> torch.Tensor:
        """(B, features)."""
        return pooled(value)


class Branching(nn.Module):
    """Segments in a row with a head after some of them."""

    def __init__(self, segments: Sequence[nn.Module], heads: Sequence[nn.Module], depths: Sequence[int]) -> None:
        super().__init__()
        self.segments, self.heads, self.depths = nn.ModuleList(segments), nn.ModuleList(heads), tuple(depths)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs of every head, in the order given."""
        values: list[Any] = [inputs]
        for segment in self.segments:
            values.append(segment(values[-1]))
        return tuple(head(values[depth]) for head, depth in zip(self.heads, self.depths, strict=True))


def pooled(value: Any) -> torch.Tensor:
    """Features (B, channels): maps are averaged over their positions; inside a residual block its first half counts."""
    inside: torch.Tensor = value[0] if isinstance(value, tuple) else value
    return inside.mean((2, 3)) if inside.ndim == 4 else inside


def segments(pieces: Sequence[str], cuts: Sequence[str]) -> list[list[str]]:
    """Names of the pieces between the cuts; what lies after the last cut is left out.

    Raises:
        UnknownName: a cut that is no piece.
        InvalidInput: cuts out of order or twice.
    """
    for cut in cuts:
        if cut not in pieces:
            raise InvalidInput(
                f"cuts: there is no place {cut!r} in this backbone. It can be cut after: {', '.join(pieces)}"
            )
    places = [pieces.index(cut) for cut in cuts]
    if places != sorted(set(places)):
        ordered = sorted(set(cuts), key=list(pieces).index)
        raise InvalidInput(f"cuts must lie deeper and deeper, each once: received {list(cuts)}, in order: {ordered}")
    starts = [0, *(place + 1 for place in places[:-1])]
    return [list(pieces[start : place + 1]) for start, place in zip(starts, places, strict=True)]


@lru_cache(maxsize=64)  # networks are planned, extracted and restored by the hundred
def features_at(description: str) -> tuple[int, ...]:
    """Length of the pooled features at every cut, from a forward pass without values.

    Args:
        description: JSON of the configuration's backbone, inputs and cuts.
    """
    config = MultiPathNetConfig.of(json.loads(description))
    with torch.device("meta"):
        shadow = backbone(unpretrained(config.backbone), config.inputs).eval()
    dtype = torch.int64 if config.inputs.kind == "tokens" else torch.float32
    value: Any = torch.zeros(1, *config.inputs.shape, dtype=dtype, device="meta")
    found = {}
    with torch.no_grad():
        for name, piece in shadow.pieces.items():
            value = piece(value)
            found[name] = int(pooled(value).shape[1])
            if name == config.cuts[-1]:
                break
    return tuple(found[cut] for cut in config.cuts)


def unpretrained(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same shape without published weights."""
    return {**config, "pretrained": False} if "pretrained" in config else dict(config)


def check_branch(branch: int, count: int, task: str) -> None:
    """InvalidInput unless 1 <= branch <= count."""
    if not 1 <= branch <= count:
        raise InvalidInput(f"task {task!r}: a branch from 1 to {count} (one a cut) is required, received {branch}")


def segment_name(number: int) -> str:
    """`segment2`."""
    return f"segment{number}"


def number_of(segment: str) -> int:
    """2 of `segment2`."""
    return int(segment.removeprefix("segment"))


def head_name(task_id: str, branch: int | None = None) -> str:
    """`head.t2`, or `head.t2.branch1` before the task's own branch."""
    return f"head.{task_id}" if branch is None else f"head.{task_id}.branch{branch}"


def key_of(name: str) -> str:
    """A head's key in a ModuleDict, which refuses dots."""
    return name.removeprefix("head.").replace(".", "-")


def name_of(key: str) -> str:
    """The head's component name, from its key."""
    return f"head.{key.replace('-', '.')}"
