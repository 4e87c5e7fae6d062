"""Examples of a task and how they are kept: decoded tensors, an index into them, test labels under seal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, SealedError, UnknownName, collect
from polypath.core.preprocess import ImagePreprocess, TablePreprocess
from polypath.core.task import Classification, MultiLabel, Task


@runtime_checkable
class Source(Protocol):
    """Decoded examples by position. A tensor in memory, a memory-mapped cache, or files decoded when asked for.

    `streams` says that `take` is slow (decodes files), so that batches are fetched ahead by worker processes.
    """

    @property
    def streams(self) -> bool:
        """Whether `take` is slow, so that batches are fetched ahead by worker processes."""
        ...

    def __len__(self) -> int: ...

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Rows `index` (int64, any order, repeats allowed), stacked."""
        ...


@dataclass(frozen=True, eq=False)
class TensorSource:
    """Examples that lie in one tensor, in memory or memory-mapped."""

    values: torch.Tensor
    streams: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Rows `index`, stacked."""
        return self.values.index_select(0, index)  # several times as fast as values[index], the same rows


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """Inputs and targets; `index` picks and orders rows of `source`, so that many tasks share one source.

    Args:
        source: decoded inputs.
        targets: one row for each entry of `index`: int64 (n,) classes, float (n, size) or 0/1 (n, labels).
        index: int64 (n,) positions in `source`.
    """

    source: Source
    targets: torch.Tensor
    index: torch.Tensor

    def __repr__(self) -> str:
        return f"<{len(self)} examples>"

    @staticmethod
    def of(inputs: torch.Tensor | Source, targets: torch.Tensor) -> Examples:
        """Examples that use every row of `inputs` in order."""
        source = TensorSource(inputs) if isinstance(inputs, torch.Tensor) else inputs
        return Examples(source, targets, torch.arange(len(source)))

    def __len__(self) -> int:
        return len(self.index)

    def inputs(self, rows: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """Decoded inputs of the given rows."""
        return self.source.take(self.index[rows])

    def select(self, rows: torch.Tensor) -> Examples:
        """The examples at `rows`; shares the source."""
        return replace(self, targets=self.targets[rows], index=self.index[rows])


class Sealed:
    """Test examples: inputs are open, targets only inside `Run.record_test` and `System.evaluate`."""

    def __init__(self, examples: Examples) -> None:
        self.__examples = examples

    def __len__(self) -> int:
        return len(self.__examples)

    def inputs(self, rows: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """Decoded inputs of the given rows."""
        return self.__examples.inputs(rows)

    @property
    def targets(self) -> torch.Tensor:
        """Always raises: test labels must not reach a method."""
        raise SealedError(
            "test labels are sealed: use run.record_test(...) or system.evaluate(); read validation examples to select"
        )

    def unseal(self) -> Examples:
        """The examples with their targets. For the engine's recorder and for evaluation only, never for a method."""
        return self.__examples


class Perspective(Config):
    """Random four-point perspective: each corner moves inwards by up to scale / 2 of a side, with probability p."""

    kind: Literal["perspective"] = "perspective"
    p: float = Field(0.75, ge=0, le=1)
    scale: float = Field(0.2, ge=0, lt=1)


class HorizontalFlip(Config):
    """Mirror left to right with probability p."""

    kind: Literal["flip"] = "flip"
    p: float = Field(0.5, ge=0, le=1)


class PadCrop(Config):
    """Pad by `padding` black pixels on every side and cut the original size at a random place."""

    kind: Literal["pad_crop"] = "pad_crop"
    padding: int = Field(4, gt=0)


class ResizedCrop(Config):
    """Cut a random area (`scale` of the image, `ratio` of the sides) and resize it to the original size."""

    kind: Literal["resized_crop"] = "resized_crop"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)


class Cutout(Config):
    """Set a random square of `size` pixels (clipped at the border) to the mean colour."""

    kind: Literal["cutout"] = "cutout"
    size: int = Field(16, gt=0)


Augment = Annotated[Perspective | HorizontalFlip | PadCrop | ResizedCrop | Cutout, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False, repr=False)
class TaskData:
    """A task with its examples.

    Args:
        task: what is learned.
        train, val, test: examples; val is None where the method selects nothing, test None where unknown.
        augment: applied in this order to training batches, on the device, between decode and encode.
        facts: what preparation found out and the report shows (counts, duplicates between train and test).
    """

    task: Task
    train: Examples
    val: Examples | None = None
    test: Sealed | None = None
    augment: tuple[Augment, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = check_examples(self.task, self.train, "train")
        if self.val is not None:
            problems += check_examples(self.task, self.val, "val")
        if self.test is not None:
            problems += check_examples(self.task, self.test.unseal(), "test")
        collect(problems, f"task {self.task.name!r}")

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    def __repr__(self) -> str:
        splits = {"train": self.train, "val": self.val, "test": self.test}
        sizes = ", ".join(f"{len(split)} {name}" for name, split in splits.items() if split is not None)
        return f"<task {self.name!r}, {self.task.target.kind}: {sizes}>"


def check_examples(task: Task, examples: Examples, split: str) -> list[str]:
    """Sentences about what is wrong with the targets and the first input of one split; empty where all is well.

    Inputs of a source that streams were checked where it was made; decoding one takes time.
    """
    targets = examples.targets
    if len(examples) == 0:
        return [f"{split} is empty; at least one example is required"]
    if len(targets) != len(examples):
        return [f"{split} has {len(examples)} inputs but {len(targets)} targets"]
    low, high = int(examples.index.min()), int(examples.index.max())
    if low < 0 or high >= len(examples.source):
        return [f"{split} picks row {low if low < 0 else high} of its source, which has {len(examples.source)} rows"]
    if not examples.source.streams and (wrong := _check_row(task, examples.inputs(slice(1)), split)):
        return wrong
    if targets.is_floating_point() and not torch.isfinite(targets).all():
        bad = (~torch.isfinite(targets)).reshape(len(targets), -1).any(1).nonzero().flatten()[:5].tolist()
        return [f"{split} has NaN or infinite targets at rows {bad}"]
    if isinstance(task.target, Classification):
        return _check_classes(task.target, targets, split)
    wanted = (len(targets), task.target.outputs)
    if tuple(targets.reshape(len(targets), -1).shape) != wanted:
        return [f"{split} targets must have shape {wanted}, received {tuple(targets.shape)}"]
    if isinstance(task.target, MultiLabel) and not ((targets == 0) | (targets == 1)).all():
        return [f"{split} targets of a multi-label task must be 0 or 1"]
    return []


def _check_row(task: Task, row: torch.Tensor, split: str) -> list[str]:
    """Whether a decoded row, (1, ...), is what the task's preprocess keeps, and encoded what its network takes."""
    preprocess, received = task.preprocess, f"{tuple(row.shape[1:])} {row.dtype}"
    types: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.int64, torch.int32)  # encode makes floats
    if isinstance(preprocess, ImagePreprocess):
        shape: tuple[int, ...] = (preprocess.channels, preprocess.height, preprocess.width)
        types = (torch.uint8, torch.float32)
    elif isinstance(preprocess, TablePreprocess):
        shape = (len(preprocess.columns),)
    else:
        shape, types = (preprocess.length,), (torch.int64, torch.int32)
    if tuple(row.shape[1:]) != shape or row.dtype not in types:
        kinds = " or ".join(str(kind).removeprefix("torch.") for kind in types)
        remedy = f"task.preprocess.decode(...) makes them from {preprocess.kind} data"
        return [f"{split} inputs must be rows of shape {shape}, {kinds}, received {received}; {remedy}"]
    made = tuple(preprocess.encode(row).shape[1:])
    if made != task.inputs.shape:
        return [f"inputs of the task have shape {task.inputs.shape}, but its preprocess makes {made}; make them equal"]
    return []


def _check_classes(target: Classification, targets: torch.Tensor, split: str) -> list[str]:
    if targets.dtype != torch.int64 or targets.ndim != 1:
        received = f"{tuple(targets.shape)} {targets.dtype}"
        return [f"{split} targets must be class indices, shape (n,), int64 (tensor.long()), received {received}"]
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= target.outputs:
        bad = low if low < 0 else high
        return [f"{split} has class index {bad}, outside the {target.outputs} labels (0..{target.outputs - 1})"]
    if split == "train":
        counts = torch.bincount(targets, minlength=target.outputs)
        absent = [target.labels[i] for i in (counts == 0).nonzero().flatten().tolist()]
        empty = [label for label in absent if label not in target.unused]
        if empty:
            return [f"train has no example of class(es) {empty}; remove the label or add examples"]
    return []


@dataclass(frozen=True, eq=False, repr=False)
class Suite:
    """An ordered list of tasks with their data.

    Args:
        name: shown in reports and records.
        tasks: unique names, in learning order.
        seed: what task definitions, shuffles and carve-outs were drawn from.
        config: how to build it again (JSON values); empty for suites made from tensors by hand.
    """

    name: str
    tasks: tuple[TaskData, ...]
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InvalidInput(f"suite {self.name!r}: at least one task is required")
        names = [data.name for data in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(f"suite {self.name!r}: task names must differ, these occur twice: {twice}")

    def __repr__(self) -> str:
        return f"<suite {self.name!r}: {', '.join(map(repr, self.tasks))}>"

    def __iter__(self) -> Iterator[TaskData]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, name: str) -> TaskData:
        for data in self.tasks:
            if data.name == name:
                return data
        raise UnknownName("task", name, self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Task names in order."""
        return tuple(data.name for data in self.tasks)

    def only(self, names: Sequence[str]) -> Suite:
        """The same suite with the named tasks, in the order asked for."""
        return replace(self, tasks=tuple(self[name] for name in names))


@dataclass(frozen=True, eq=False)
class Batch:
    """One mini-batch on the device.

    Args:
        inputs: (n, ...) encoded, as the network sees them.
        targets: (n,) or (n, outputs); regression targets scaled.
    """

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)
