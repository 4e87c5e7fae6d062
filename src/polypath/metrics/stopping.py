"""Early stopping: when a validation loss no longer falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EarlyStopping:
    """Stop after `patience` values in a row that do not improve on the best by more than `min_delta`.

    The state is a plain dict that travels in checkpoints, so that a resumed run stops where the unbroken one does.

    Args:
        patience: values without an improvement before stopping; 0 never stops.
        min_delta: how much lower a value must be to count as an improvement.
    """

    patience: int
    min_delta: float = 0.0

    @staticmethod
    def start() -> dict[str, Any]:
        """The state before the first value."""
        return {"best": None, "waited": 0, "epoch": -1, "values": 0}

    def improved(self, state: dict[str, Any], value: float) -> bool:
        """Take in a value (lower is better; NaN never improves); whether it is the new best."""
        best = state["best"]
        better = not math.isnan(value) and (best is None or value < best - self.min_delta)
        if better:
            state.update(best=value, waited=0, epoch=state["values"])
        else:
            state["waited"] += 1
        state["values"] += 1
        return better

    def over(self, state: dict[str, Any]) -> bool:
        """Whether to stop."""
        return self.patience > 0 and state["waited"] >= self.patience
