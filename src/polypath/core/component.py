"""Components and paths: the two ideas that every system here is made of.

A component is a named set of whole state entries; a path is the list of components one task passes through. Everything
that can be said from these two alone (costs, sharing, removal, proof of isolation) is said once, in `core.accounting`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

KINDS = ("module", "own", "base", "segment", "layer")


@dataclass(frozen=True)
class Component:
    """A named set of whole state entries, never slices.

    Args:
        name: opaque, unique in its network, stable for ever.
        kind: `module` (one of several interchangeable ones), `own` (belongs to one task), `base` (used by all),
            `segment` (a stretch of a backbone), `layer` (immutable once retained).
        tensors: local name -> key of the network's state. Local names are what is hashed, so components with equal
            contents have equal digests wherever they stand.
        auxiliary: local name -> state key of what only learning needs (momentum): saved apart, never counted.
        capacity: stays when no task uses it (a free module of a pool).
        parent: nearest retained ancestor, for systems that copy and mutate.
    """

    name: str
    kind: str
    tensors: Mapping[str, str]
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    capacity: bool = False
    parent: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"component {self.name!r}: kind must be one of {KINDS}, received {self.kind!r}")

    def __deepcopy__(self, memo: object) -> Component:
        """Itself: nothing in it changes, and a copied network describes the same components."""
        return self


@dataclass(frozen=True)
class Path:
    """One task and one exit: steps, each a tuple of components used together in this order.

    The order inside a step matters: sums of floats depend on it. Several exits of a task are several paths with a
    common prefix. Names are opaque.

    Args:
        task: whose path it is.
        steps: components of each step.
        exit: which exit, where there are several.
        selected: (component, number of its parameters that this path uses), for components of which it uses only a
            part (a choice of another task's weights); all others are used whole.
    """

    task: str
    steps: tuple[tuple[str, ...], ...]
    exit: str | None = None
    selected: tuple[tuple[str, int], ...] = ()

    @cached_property
    def components(self) -> tuple[str, ...]:
        """Every component on the path once, in order of first use."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step))


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over sorted (local name, dtype, shape, bytes): a component's address and the proof of its contents.

    Memory layout does not matter: channels-last and contiguous tensors with equal values have equal digests.
    Cost: reads every byte once (about 1 GB/s a core), copies tensors that are not contiguous or not on the CPU.
    """
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        sha.update(json.dumps([name, str(value.dtype).removeprefix("torch."), list(value.shape)]).encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return sha.hexdigest()
