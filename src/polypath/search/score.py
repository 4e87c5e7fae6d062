"""What evolution maximises: validation quality times factors below 1 for what a model costs.

Every factor is `base ** (amount / unit)` (muNet's published score with base 1.0 is quality alone, which is the
default; base 0.9 takes a tenth of the score for every unit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from polypath.core.config import Config


class Term(Config):
    """One factor.

    Args:
        base: in (0, 1]; 1 leaves the term out.
        unit: amount that multiplies the score by `base`; None: the root model's.
    """

    base: float = Field(1.0, gt=0, le=1)
    unit: float | None = Field(None, gt=0)

    @property
    def on(self) -> bool:
        """Whether it changes anything."""
        return self.base != 1

    def applied(self, amount: float, root: float) -> float:
        """The factor of a model that costs `amount`, where the root costs `root`."""
        return float(self.base ** (amount / (self.unit or root or 1.0)))


class ScoreConfig(Config):
    """The factors beside quality, all off by default.

    Args:
        parameters: accounted parameters: each component's divided by the number of tasks that use it, this one among
            them.
        flops: of one example, 2 x multiply-accumulates.
        latency: measured seconds of a forward pass of `latency_batch` examples, the best of seven. What is measured
            differs from run to run, and with it what survives.
        latency_batch: see above.
    """

    parameters: Term = Term()
    flops: Term = Term()
    latency: Term = Term()
    latency_batch: int = Field(1, gt=0)


def accounted(sizes: Mapping[str, int], users: Mapping[str, Sequence[str]], layers: Sequence[str], task: str) -> float:
    """Parameters of a model, each component's shared among the tasks that use it and `task`.

    Args:
        sizes: component -> parameters.
        users: component -> tasks whose retained models use it; a component that is not listed has none.
        layers: the model's components.
        task: whose model it would be.
    """
    return sum(sizes[name] / len({*users.get(name, ()), task}) for name in layers)


def factor(terms: Sequence[tuple[Term, float, float]]) -> float:
    """Product of terms, each with the model's amount and the root's."""
    found = 1.0
    for term, amount, root in terms:
        found *= term.applied(amount, root)
    return found
