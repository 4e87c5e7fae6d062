"""What is sent to whoever trains child models: tensors and plain values, nothing else.

`Shared` is the same for all children of a generation and shipped once; a `Job` is one child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch

from polypath.core.component import digest
from polypath.core.examples import TaskData
from polypath.core.seeds import generator
from polypath.core.task import InputSpec
from polypath.data import batches
from polypath.search.evolution import Gene
from polypath.search.hyperparameters import Value

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Source:
    """A component that children share or clone.

    Args:
        slot: which layer of the root it is.
        outputs: of a head.
        tensors: local name -> value, on any device.
        momentum: local name -> trace.
    """

    slot: str
    outputs: int | None
    tensors: Tensors
    momentum: Tensors = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """sha256 of what the tensors hold: computed once for all children that share the component."""
        return digest(self.tensors)


@dataclass(frozen=True)
class Shared:
    """What all children of a generation have in common.

    Args:
        root: description of the root.
        inputs: of the root.
        data: the active task with its training and validation examples, without test examples.
        validation: rows of the validation examples that score a child.
        sources: component -> what it holds.
        cycles: of training and validation.
        samples: training examples between validations, at most one pass.
        batch: examples a step.
        clip: largest norm of all gradients together; 0 leaves them.
        accumulator: type in which momentum is kept.
        random_head: new heads are drawn, not zero.
        fresh: seed of every new layer; None: the job's own.
        device: where to train.
        precision: of a `RunConfig`, resolved.
        threads: CPU threads.
        latency: (base, unit, examples) of the measured term of the score; None where it is off.
        cache_bytes: memory in which a process keeps what frozen prefixes make of the examples, for all its children.
    """

    root: Mapping[str, Any]
    inputs: InputSpec
    data: TaskData
    validation: torch.Tensor
    sources: Mapping[str, Source]
    cycles: int
    samples: int
    batch: int
    clip: float = 1.0
    accumulator: Literal["bfloat16", "float32"] = "bfloat16"
    random_head: bool = False
    fresh: int | None = None
    device: str = "cpu"
    precision: str = "32-true"
    threads: int = 1
    latency: tuple[float, float, int] | None = None
    cache_bytes: int = 0


@dataclass(frozen=True)
class Job:
    """One child.

    Args:
        number: of the child.
        seed: of everything random in it.
        genes: its layers in order.
        hyperparameters: see `polypath.search.hyperparameters`.
        threshold: a state counts where its score is at least this; None: any.
        factor: what quality is multiplied with to give the score (parameters and operations).
    """

    number: int
    seed: int
    genes: tuple[Gene, ...]
    hyperparameters: Mapping[str, Value]
    threshold: float | None = None
    factor: float = 1.0


def steps_of(examples: int, samples: int, batch: int) -> int:
    """Optimizer steps of one cycle."""
    return len(batches.parts(torch.arange(min(examples, samples)), batch))


def validation_rows(count: int, most: int, *key: object) -> torch.Tensor:
    """Rows of the validation examples that score children: all, or `most` drawn once and for all."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=generator(0, "validation", *key))[:most].sort().values


def names_of(genes: Sequence[Gene]) -> list[str]:
    """Components that genes share or clone."""
    return [gene.origin for gene in genes if gene.origin is not None]
