"""Networks that can grow wider without renumbering a weight: all layers have their last width from the start.

A weight's position never changes, so neither do the components of earlier tasks when the network grows. Units beyond
the present width have no weights: nothing is stored for them but a bit a position, and extracted paths leave them out.
Training computes the full width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from polypath.core.errors import InvalidInput
from polypath.nn.nested import Nested
from polypath.nn.spaces import Space, Template

SCALED: dict[str, tuple[str, ...]] = {
    "mlp": ("hidden",),
    "conv": ("blocks", "dense"),
    "resnet18": ("width",),
}
"""Kind of backbone -> the settings that hold widths."""


def wider(described: Mapping[str, Any], factor: float, asked: str) -> dict[str, Any]:
    """The description of a backbone with every layer `factor` times as wide (rounded).

    Args:
        described: a whole description, with its defaults.
        factor: at least 1.
        asked: which setting asks for it, for the error.

    Raises:
        InvalidInput: a kind whose layers cannot be widened by its description.
    """
    if factor == 1:
        return dict(described)
    names = SCALED.get(str(described["kind"]))
    if names is None:
        raise InvalidInput(
            f"{asked}: layers of a {described['kind']!r} backbone cannot be widened; use one of {sorted(SCALED)}, or "
            f"{asked}=1"
        )
    return {**described, **{name: _times(described[name], factor) for name in names}}


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, (list, tuple)):
        return [_times(item, factor) for item in value]
    return round(value * factor) if isinstance(value, int) else value * factor


class Widths:
    """Which weights lie inside each width of a network.

    Args:
        template: spaces of the network at its last width.
        factors: widths as multiples of the first, increasing from 1.
    """

    def __init__(self, template: Template, factors: Sequence[float]) -> None:
        self.factors = tuple(factors)
        with torch.device("cpu"):
            self._nested = Nested(template, [self.part(level) for level in range(len(factors))])

    @property
    def last(self) -> int:
        """Number of the greatest width."""
        return len(self.factors) - 1

    def part(self, level: int) -> float:
        """A width as a part of the last."""
        return self.factors[level] / self.factors[-1]

    def inside(self, space: Space, entry: str, level: int) -> torch.Tensor:
        """(size,) bool: weights between units that the width has; of a head, those that read its units."""
        with torch.device("cpu"):
            if space.name.startswith("head"):
                return self._nested.head(space, level)
            return self._nested.widths(space, entry) <= level

    def level(self, space: Space, entry: str, positions: torch.Tensor) -> int:
        """The width that the weights at these positions of a backbone's layer need."""
        if not len(positions):
            return 0
        with torch.device("cpu"):
            return int(self._nested.widths(space, entry)[positions.cpu()].max())
