"""What is new in a mapping that is mostly what it was: found without a line of Python for every entry."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import compress, repeat
from typing import TypeVar

K = TypeVar("K")


_NOTHING = object()


def continues(new: Mapping[K, object], *, old: Mapping[K, object]) -> bool:
    """Whether the keys of `new` begin with those of `old`, in their order: nothing went, what came lies at the end."""
    return list(new)[: len(old)] == list(old)


def differing(new: Mapping[K, object], *, old: Mapping[K, object]) -> list[K]:
    """Keys of `new` whose value is not the very object that `old` has there, in the order of `new`."""
    if continues(new, old=old):  # then they need not be looked up
        other = compress(new, map(operator.is_not, new.values(), old.values()))
        return [*other, *list(new)[len(old) :]]
    return list(compress(new, map(operator.is_not, new.values(), map(old.get, new, repeat(_NOTHING)))))
