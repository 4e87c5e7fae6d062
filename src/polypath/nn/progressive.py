"""Progressive networks: a column of pieces for every task that also reads the columns of the tasks before it.

Components: `trunk.conv2.t1` and `lateral.conv2.t1` (segment: later tasks read them too), dense pieces and `head.t1`
(own). A column never moves once its task is learned. Pieces that begin with a convolution take lateral input: for
every earlier column c, a scalar times its features, a 1x1 convolution to few channels, ReLU, and a convolution like
the piece's own, all added to the piece's own convolution. Source: Rusu et al. 2016, section 2 (adapters), with the
widths of the DF-CNN authors' code; dense pieces have no laterals there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from polypath.core.component import Component, Path
from polypath.core.errors import InvalidInput
from polypath.core.seeds import seeded_values
from polypath.core.task import Task
from polypath.nn.backbones import backbone
from polypath.nn.columns import Columns, ColumnsConfig, head_name, piece_name
from polypath.nn.small_cnn import paper_values_


class Lateral(nn.Module):
    """What one convolution of a column receives from the columns before it.

    Args:
        like: that convolution.
        sources: how many columns come before.
    """

    def __init__(self, like: nn.Conv2d, sources: int) -> None:
        super().__init__()
        narrow = max(1, like.in_channels // (2 * (sources + 1)))
        self.gains = nn.Parameter(torch.empty(sources))
        nn.init.trunc_normal_(self.gains, std=0.05, a=-0.1, b=0.1)
        self.reduce = nn.ModuleList(nn.Conv2d(like.in_channels, narrow, 1) for _ in range(sources))
        self.expand = nn.ModuleList(
            nn.Conv2d(narrow, like.out_channels, like.kernel_size, like.stride, like.padding, like.dilation, bias=False)  # type: ignore[arg-type]
            for _ in range(sources)
        )

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sum over the earlier columns, added to the pre-activation."""
        parts = [
            expand(torch.relu(reduce(gain * feature)))
            for gain, reduce, expand, feature in zip(self.gains, self.reduce, self.expand, features, strict=True)
        ]
        total: torch.Tensor = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
        return total


class Level(nn.Module):
    """One piece of several columns side by side; features of the columns lie one after the other in the channels.

    Args:
        pieces: of the columns in order.
        laterals: of each column, None where it has none.
    """

    def __init__(self, pieces: Sequence[nn.Module], laterals: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self.pieces = nn.ModuleList(pieces)
        self.laterals = nn.ModuleDict({str(n): m for n, m in enumerate(laterals) if m is not None})

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Features of all columns, or of the last one."""
        return run_level(value, list(self.pieces), [self._lateral(n) for n in range(len(self.pieces))])

    def _lateral(self, number: int) -> nn.Module | None:
        return self.laterals[str(number)] if str(number) in self.laterals else None


def run_level(value: torch.Tensor, pieces: Sequence[nn.Module], laterals: Sequence[nn.Module | None]) -> torch.Tensor:
    """The pieces of the last `len(pieces)` columns on features of all columns (n, columns * c, h, w).

    A lateral takes as many columns as stand before its own.
    """
    if len(laterals) == 1 and laterals[0] is None:
        only: torch.Tensor = pieces[0](value)
        return only
    reads = [0 if lateral is None else len(lateral.gains) for lateral in laterals]  # type: ignore[arg-type]
    features = value.chunk(max(reads) + 1, dim=1)
    out = []
    for piece, lateral, before in zip(pieces, laterals, reads, strict=True):
        assert isinstance(piece, nn.Sequential)
        total = piece[0](features[before])
        if lateral is not None:
            total = total + lateral(features[:before])
        for layer in piece[1:]:
            total = layer(total)
        out.append(total)
    return out[0] if len(out) == 1 else torch.cat(out, dim=1)


class Progressive(Columns):
    """See the module docstring. Every column that was there when a task was added is read by it."""

    config_class: ClassVar[type[ColumnsConfig]] = ColumnsConfig

    def _make_shared(self, keep: Collection[str] | None) -> None:
        config = self.config
        if config.inputs is None:
            raise InvalidInput("a progressive network needs the shape of its inputs")
        with torch.device("meta"):
            template = backbone(config.backbone, config.inputs)
        firsts = {piece: m[0] if isinstance(m, nn.Sequential) else m for piece, m in template.pieces.items()}
        self._levels = [piece for piece, first in firsts.items() if isinstance(first, nn.Conv2d)]
        if not self._levels or list(template.pieces)[: len(self._levels)] != self._levels:
            raise InvalidInput(
                f"backbone {config.backbone['kind']!r}: progressive networks need one whose pieces begin with "
                "convolutions, dense ones after them ('dfcnn', 'conv')"
            )
        self.laterals = nn.ModuleDict()
        self._order: list[str] = []  # columns that exist, of removed tasks too while others read them
        self._reads: dict[str, list[str]] = {}

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """As `Columns.plan`, with the columns that exist, which each reads, and the pieces that are left of it."""
        columns = {key: {"reads": self._reads[key], "pieces": list(self._column(key))} for key in self._order}
        return {**super().plan(), "columns": columns}

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        """The columns of a plan, on the meta device."""
        with torch.device("meta"):
            network = cls(cls.config_class.of(plan["config"]))
            entries = {entry["id"]: Task.of(entry["task"]) for entry in plan["tasks"]}
            network._reads = {key: list(column["reads"]) for key, column in plan["columns"].items()}
            for key, column in plan["columns"].items():
                if key in entries:
                    network._admit(entries[key], key, keep)
                else:
                    left = {name(piece, key) for piece in column["pieces"] for name in (piece_name, lateral_name)}
                    network._grow(key, left if keep is None else left & set(keep))
            if keep is None:
                network.memory.restore(plan["memory"])
        network._added, network.epochs = plan["added"], plan["epochs"]
        return network

    # ---- tasks ------------------------------------------------------------------------------------------------

    def _admit(self, task: Task, task_id: str, keep: Collection[str] | None, *, build: bool = True) -> None:
        self._grow(task_id, keep)
        super()._admit(task, task_id, keep)

    def _add_column(self, key: str, inputs: Any, keep: Collection[str] | None) -> None:
        if key not in self.columns:
            super()._add_column(key, inputs, keep)

    def _grow(self, key: str, keep: Collection[str] | None) -> None:
        """A column and its laterals; the dense pieces of a removed task's column are gone."""
        assert self.config.inputs is not None
        if key not in self._reads:
            self._reads[key] = list(self._order)
        self._order.append(key)
        self._add_column(key, self.config.inputs, None)
        column = self._column(key)
        for piece in self._levels[1:] if self._reads[key] else ():
            if keep is None or lateral_name(piece, key) in keep:
                first = column[piece][0]  # type: ignore[index]
                assert isinstance(first, nn.Conv2d)
                with seeded_values(self.config.seed, "lateral", piece, key):
                    made = Lateral(first, len(self._reads[key]))
                    if self.config.backbone["kind"] == "dfcnn" and self.config.backbone.get("initial") != "torch":
                        made.apply(paper_values_)
                self.laterals[f"{piece}-{key}"] = made
        for piece in list(column) if keep is not None else ():
            if piece_name(piece, key) not in keep:  # type: ignore[operator]
                del column[piece]
        self._components = None

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """Delete the task's dense pieces and head, and every column that nobody reads any more."""
        self.task_named(task)
        task_id = self._ids[task]
        names = self._found_components()
        del self._tasks[task], self._ids[task]
        used = {name for other in self._tasks for name in self.path(other).components}
        freed = [name for name in names if name not in used]
        for name in freed:
            kind, _, rest = name.partition(".")
            if kind == "head":
                del self.heads[rest]
            elif kind == "lateral":
                del self.laterals[rest.replace(".", "-")]
            else:
                piece, _, key = rest.partition(".")
                del self._column(key)[piece]
            self.memory.drop(name)
        for key in [key for key in self._order if not len(self._column(key))]:
            self._order.remove(key)
            del self.columns[key], self._pieces[key], self._features[key], self._reads[key]
        self._components = None
        assert task_id not in self._order or self._column(task_id)
        return freed, []

    # ---- components and paths ---------------------------------------------------------------------------------

    def _found_components(self) -> dict[str, Component]:
        found = {}
        for name, part in super()._found_components().items():
            reads = name.startswith("trunk.") and name.split(".")[1] in self._levels[:-1]
            found[name] = Component(name, "segment" if reads else part.kind, part.tensors, part.auxiliary)
        for key, lateral in self.laterals.items():
            piece, _, task_id = key.partition("-")
            name = lateral_name(piece, task_id)
            tensors = {local: f"laterals.{key}.{local}" for local in lateral.state_dict()}
            kind = "segment" if piece != self._levels[-1] else "own"
            found[name] = Component(name, kind, tensors, self.memory.auxiliary_of(name))
        return found

    def path(self, task: str, exit: str | None = None) -> Path:
        """One step a piece: those of all columns it reads and its own, with their laterals; then the head."""
        self.require_only_exit(task, exit)
        key = self._ids[task]
        steps: list[tuple[str, ...]] = []
        for piece in self._pieces[key]:
            if piece not in self._levels:
                steps.append((piece_name(piece, key),))
                continue
            # what follows the last convolution has no laterals: there only the task's own column goes on
            columns = [key] if piece == self._levels[-1] else [*self._reads[key], key]
            laterals = [lateral_name(piece, c) for c in columns if piece != self._levels[0] and self._reads[c]]
            steps.append((*laterals, *(piece_name(piece, c) for c in columns)))
        return Path(task, (*steps, (head_name(key),)))

    def own(self, task: str) -> list[str]:
        """Components that learning the task moves: its column, its laterals, its head."""
        key = self._ids[task]
        return [name for name in self.path(task).components if name.rpartition(".")[2] == key]

    # ---- computation ------------------------------------------------------------------------------------------

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """The piece of all columns of a step, or a dense piece, or the head."""
        if not names[-1].startswith("trunk.") or names[-1].split(".")[1] not in self._levels:
            return super().step(value, names)
        pieces, laterals = self._side_by_side(names)
        return run_level(value, pieces, laterals)

    def _side_by_side(self, names: Sequence[str]) -> tuple[list[nn.Module], list[nn.Module | None]]:
        there = {name.removeprefix("lateral."): name for name in names if name.startswith("lateral.")}
        trunk = [name.removeprefix("trunk.") for name in names if name.startswith("trunk.")]
        laterals = [self.laterals[name.replace(".", "-")] if name in there else None for name in trunk]
        return [self._module(f"trunk.{name}") for name in trunk], laterals

    def fuse(self, path: Path) -> nn.Module:
        """The path's levels one after the other, copied."""
        import copy

        parts: list[nn.Module] = []
        for names in path.steps:
            if names[-1].startswith("trunk.") and names[-1].split(".")[1] in self._levels:
                pieces, laterals = self._side_by_side(names)
                parts.append(copy.deepcopy(Level(pieces, laterals)))
            else:
                parts.append(copy.deepcopy(self._module(names[-1])))
        return nn.Sequential(*parts)


def lateral_name(piece: str, key: str) -> str:
    """`lateral.conv2.t1`."""
    return f"lateral.{piece}.{key}"
