"""Shape of a network of subnetworks: its backbone, what its tasks own of it and what they read of each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.task import InputSpec, Task

Share = float | dict[str, float]


class SubnetConfig(Config):
    """Shape of a network of subnetworks.

    Args:
        backbone: description, see `polypath.nn.backbones`.
        inputs: what its shared pieces take; tasks with other inputs get first pieces of their own.
        layers: patterns of the layers whose weights are owned in parts; the others stay dense, a copy for every task.
        share: part of every layer's weights that a task owns, in (0, 1]; for all tasks, or task by task (`default`
            for those not named).
        slots: piece pattern -> task -> name of the owner that it is a user of; tasks with one owner share its weights.
        heads: `shared` one layer for tasks with equally many outputs, positions disjoint; `masked` a layer for each
            task, of which it owns its share; `dense` a layer for each task, whole.
        mask_bias: biases are owned in parts like weights.
        init: `normal` N(0, 0.05) for owned weights and 0 for their biases (the authors'), or `backbone` the
            backbone's own initial values.
        reads: owners whose weights a later task uses too: `none`, `earlier` all of them, `chosen` a choice.
        dense: biases and norms: each `task`'s own, or the `first` owner's for all.
        levels: cumulative parts of every layer's units, where tasks are nested levels of channels, see
            `polypath.nn.nested`: says what an extracted level leaves out.
        seed: of initial values.
    """

    backbone: dict[str, Any]
    inputs: InputSpec = Field(...)
    layers: tuple[str, ...] = ("*",)
    share: Share = 0.2
    slots: dict[str, dict[str, str]] = Field(default_factory=dict)
    heads: Literal["shared", "masked", "dense"] = "shared"
    mask_bias: bool = False
    init: Literal["normal", "backbone"] = "normal"
    reads: Literal["none", "earlier", "chosen"] = "none"
    dense: Literal["task", "first"] = "task"
    levels: tuple[float, ...] = ()
    seed: int = 0

    @field_validator("slots")
    @classmethod
    def _owners(cls, slots: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for pattern, owners in slots.items():
            for owner in owners.values():
                if (
                    not re.fullmatch(r"[A-Za-z_]\w*", owner)
                    or re.fullmatch(r"t\d+", owner)
                    or hasattr(nn.ModuleDict, owner)
                ):
                    raise ValueError(
                        f"slots, {pattern!r}: an owner's name has letters, digits and _ and is not t0, t1, ..., which "
                        f"are tasks' own; received {owner!r}"
                    )
        return slots

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dense == "first" and self.reads == "none":
            raise ValueError("dense='first' needs reads='earlier' or 'chosen': the first owner's biases are on no path")
        return self


def share_of(share: Share, task: str) -> float:
    """The share of one task.

    Raises:
        InvalidInput: not named and no default, or not in (0, 1].
    """
    value = share if isinstance(share, (int, float)) else share.get(task, share.get("default"))
    if value is None:
        raise InvalidInput(f"share: none for task {task!r} and no 'default'; received {share}")
    if not 0 < value <= 1:
        raise InvalidInput(f"share of task {task!r}: a number above 0 and at most 1 is required, received {value}")
    return float(value)


def common_shape(tasks: Sequence[Task]) -> InputSpec:
    """The input shape that most tasks have: what the shared pieces take (the first such, where several are equal)."""
    shapes = [str(task.inputs) for task in tasks]
    found: InputSpec = max(tasks, key=lambda task: shapes.count(str(task.inputs))).inputs
    return found


def increasing(ratios: tuple[float, ...]) -> tuple[float, ...]:
    """The ratios, once it is certain that they grow and stay in (0, 1]; ValueError otherwise."""
    grows = all(low < high for low, high in zip((0.0, *ratios), ratios, strict=False))
    if not ratios or not grows or ratios[-1] > 1:
        raise ValueError(
            "one number or more above 0 and at most 1 is required, each larger than the one before; "
            f"received {list(ratios)}"
        )
    return ratios
