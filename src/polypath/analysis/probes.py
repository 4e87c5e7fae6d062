"""The inputs that representations are compared on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from polypath.core.errors import InvalidInput
from polypath.core.examples import Examples, Sealed

Inputs = torch.Tensor | Examples | Sealed


class Probe:
    """Decoded inputs of one or several sets, one after the other.

    Args:
        parts: examples (labels are not looked at), or tensors (n, ...) of decoded inputs.
    """

    def __init__(self, parts: Inputs | Sequence[Inputs]) -> None:
        self.parts = tuple(parts) if isinstance(parts, (list, tuple)) else (parts,)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def take(self, start: int, stop: int) -> torch.Tensor:
        """Decoded inputs start..stop-1."""
        found = []
        for part in self.parts:
            low, high = max(start, 0), min(stop, len(part))
            if low < high:
                rows = slice(low, high)
                found.append(part[rows] if isinstance(part, torch.Tensor) else part.inputs(rows))
            start, stop = start - len(part), stop - len(part)
        return found[0] if len(found) == 1 else torch.cat(found)


def equal_per_class(examples: Examples, count: int, generator: torch.Generator) -> Examples:
    """At most `count` examples with the same number of every class, drawn without replacement.

    They come in rounds, one of every class in each, so that any beginning is balanced but for its last round.

    Args:
        examples: with class indices as targets.
        count: how many at most; rounded down to a multiple of the number of classes that occur, and bounded by the
            rarest of them.
        generator: what is drawn from.

    Raises:
        InvalidInput: `count` below the number of classes.
    """
    classes = torch.unique(examples.targets)
    rows = [(examples.targets == c).nonzero().flatten() for c in classes]
    each = min(count // len(classes), *(len(members) for members in rows))
    if each < 1:
        raise InvalidInput(f"samples: at least one for each of {len(classes)} classes is required, received {count}")
    drawn = [members[torch.randperm(len(members), generator=generator)[:each]] for members in rows]
    return examples.select(torch.stack(drawn, 1).flatten())
