"""What learning needs beyond the network: tensors beside components, saved with them, never counted or extracted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


def memory_key(component: str, local: str) -> str:
    """An entry's key in the memory's state, where no dots are allowed."""
    return f"{component}--{local}".replace(".", "-")


class Memory(nn.Module):
    """Named tensors that belong to components: running squares, Fisher matrices, old weights.

    A network holds one under the attribute `memory`, puts `plan()` into its plan and `auxiliary_of(name)` into its
    components. An entry belongs to one component and goes with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, dict[str, str]] = {}

    def keep(self, component: str, local: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The entry `local` of a component, made when it is not there yet."""
        if not self.has(component, local):
            self.hold(component, local, make())
        tensor = self.get_buffer(self._keys[component][local])
        return tensor

    def hold(self, component: str, local: str, tensor: torch.Tensor) -> None:
        """Make this tensor the entry `local` of a component, where there is none yet."""
        held = self._keys.setdefault(component, {})
        if local not in held:
            held[local] = memory_key(component, local)
            self.register_buffer(held[local], tensor)

    def entries(self, component: str) -> dict[str, torch.Tensor]:
        """Everything beside a component, by local name."""
        return {local: self.get_buffer(key) for local, key in self._keys.get(component, {}).items()}

    @property
    def size(self) -> int:
        """Number of entries."""
        return sum(len(held) for held in self._keys.values())

    def has(self, component: str, local: str) -> bool:
        """Whether a component has that entry."""
        return local in self._keys.get(component, {})

    def drop(self, component: str) -> None:
        """Forget everything beside a component."""
        for key in self._keys.pop(component, {}).values():
            delattr(self, key)

    def auxiliary_of(self, component: str, prefix: str = "memory") -> dict[str, str]:
        """Local name -> state key, for `Component.auxiliary`."""
        return {local: f"{prefix}.{key}" for local, key in self._keys.get(component, {}).items()}

    def plan(self) -> dict[str, Any]:
        """Component -> local name -> shape: enough to make the same memory without values."""
        return {
            component: {local: list(self.get_buffer(key).shape) for local, key in held.items()}
            for component, held in self._keys.items()
            if held
        }

    def restore(self, plan: Mapping[str, Mapping[str, list[int]]]) -> None:
        """Make the entries of a plan, without values where the device is meta."""
        for component, held in plan.items():
            for local, shape in held.items():
                self.hold(component, local, torch.empty(shape))
