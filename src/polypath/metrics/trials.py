"""One number from several trials: mean, spread and how sure of the mean we are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from polypath.core.errors import InvalidInput


@dataclass(frozen=True)
class Trials:
    """Several trials of one figure.

    Args:
        n: how many trials.
        mean: their mean.
        std: sample standard deviation (n - 1); None for one trial, which has no spread.
        confidence: half width of the confidence interval of the mean; None for one trial.
        level: of that interval.
    """

    n: int
    mean: float
    std: float | None
    confidence: float | None
    level: float = 0.95


def over_trials(values: Sequence[float], level: float = 0.95) -> Trials:
    """Mean, standard deviation and Student-t confidence interval: mean +- t(level, n - 1) * std / sqrt(n).

    Args:
        values: one figure a trial (seed).
        level: confidence level, above 0 and below 1.

    Raises:
        InvalidInput: no value, a value that is not finite, a level out of range.
    """
    if not 0 < level < 1:
        raise InvalidInput(f"level must be above 0 and below 1, received {level}")
    if not values or not all(math.isfinite(value) for value in values):
        raise InvalidInput(f"values: at least one finite number is required, received {list(values)[:10]}")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Trials(1, mean, None, None, level)
    std = statistics.stdev(values)
    return Trials(len(values), mean, std, _t_quantile(level, len(values) - 1) * std / math.sqrt(len(values)), level)


def _t_quantile(level: float, degrees: int) -> float:
    """Two-sided Student-t factor: the t with P(|T| <= t) = level, to the last bits of a double.

    Bisection on theta = atan(t / sqrt(degrees)), in which the probability is a finite sum (Abramowitz and Stegun,
    26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _t_inside(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(degrees)


def _t_inside(theta: float, degrees: int) -> float:
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees, 2):  # each term is the last times cos^2 * (k - 1) / k
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
