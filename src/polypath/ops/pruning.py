"""Schedules of gradual pruning, and how nested levels share the units of a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cubic_sparsity(start: float, end: float, progress: float) -> float:
    """Sparsity at a point of a pruning stretch: end + (start - end)(1 - progress)^3.

    Args:
        start: sparsity before, 0..1.
        end: sparsity after.
        progress: part of the stretch that is done; held in 0..1.

    Source: Zhu and Gupta, To prune, or not to prune (2017), equation 1; used by CPG and NestedNet.
    """
    left = 1.0 - min(max(progress, 0.0), 1.0)
    return end + (start - end) * left**3


def nested_units(ratios: Sequence[float]) -> tuple[float, ...]:
    """Cumulative parts of the units for which level k holds `ratios[k]` of the weights of the whole nested network.

    Units reach from lower to the same or higher groups only, so groups 1..k hold the sum over g <= k of
    (C_g - C_{g-1}) C_g of a layer's weights; the whole, where C = 1, holds T. From C_k^2 - C_{k-1} C_k =
    (r_k - r_{k-1}) T every C is a multiple of sqrt(T), which C = 1 at r = 1 fixes.

    Args:
        ratios: increasing, in (0, 1].
    """
    ends = [*ratios] if ratios[-1] == 1 else [*ratios, 1.0]
    scaled, before, last = [], 0.0, 0.0
    for ratio in ends:
        last = (last + math.sqrt(last * last + 4 * (ratio - before))) / 2
        scaled.append(last)
        before = ratio
    return tuple(value / scaled[-1] for value in scaled[: len(ratios)])
