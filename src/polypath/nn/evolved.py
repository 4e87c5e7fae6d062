"""What a layered network knows about its layers and models, and what a search hands to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field

from polypath.core.config import Config

ROOT = 0
"""Number of the root model."""


class LayerRecord(Config):
    """What is known about one component.

    Args:
        slot: which layer of the architecture it is.
        outputs: of a head.
        parent: component it was copied from, or the nearest ancestor of it that still exists.
        steps: task -> optimizer steps on its data, in this component and in all its ancestors.
        last: task that trained it last; None for the root's.
        root: it belongs to the root.
    """

    slot: str
    outputs: int | None = None
    parent: str | None = None
    steps: dict[str, int] = Field(default_factory=dict)
    last: str | None = None
    root: bool = False


class Model(Config):
    """A retained model, or the root.

    Args:
        number: never given twice; a higher one is more recent.
        task: whose it is; None for the root.
        layers: (slot, component), from the input to the head.
        hyperparameters: with which it was trained.
        score: None for the root and for a task that is not learned yet.
        parent: number of the model it was made from, or of the nearest ancestor of that which still exists.
        groups: access groups of every private task whose models are among its ancestors, and its own.
        facts: how it came about (iteration, generation, mutations, scores), for reports.
    """

    number: int
    task: str | None
    layers: tuple[tuple[str, str], ...]
    hyperparameters: dict[str, bool | int | float] = Field(default_factory=dict)
    score: float | None = None
    parent: int | None = None
    groups: tuple[str, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class NewLayer:
    """A layer that a candidate trained.

    Args:
        slot: which layer it is.
        tensors: local name -> value; taken, not copied.
        momentum: local name -> trace.
        outputs: of a head.
        parent: retained component it descends from.
        steps: task -> optimizer steps, ancestors included.
    """

    slot: str
    tensors: Mapping[str, torch.Tensor]
    momentum: Mapping[str, torch.Tensor] = field(default_factory=dict)
    outputs: int | None = None
    parent: str | None = None
    steps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A model that a search found, to be retained.

    Args:
        task: whose model.
        layers: from the input to the head: a component's name where it is shared, else what was trained.
        hyperparameters: see `Model`, like the rest.
        score: of its task.
        parent: number of a retained model.
        facts: for reports.
    """

    task: str
    layers: tuple[str | NewLayer, ...]
    hyperparameters: Mapping[str, Any]
    score: float
    parent: int
    facts: Mapping[str, Any] = field(default_factory=dict)
