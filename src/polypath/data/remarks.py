"""What a user should know about columns that can be used, but perhaps not as they were meant."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from polypath.core.errors import InvalidInput
from polypath.data.columns import MISSING, Column
from polypath.data.tabular import Tables

MOSTLY = 0.9  # share of numbers from which a column of texts was probably meant to hold numbers


def without_missing(column: Column, classes: Sequence[int | str] | None, where: str) -> Column:
    """A column of texts in which `MISSING` are no classes but missing values.

    Args:
        column: as read.
        classes: that the user names; a text among them is one.
        where: for messages.

    Raises:
        InvalidInput: nothing but missing values.
    """
    assert column.labels is not None
    kept = [label for label in column.labels if label not in MISSING or label in (classes or ())]
    if len(kept) == len(column.labels):
        return column
    numbers = np.array([kept.index(label) if label in kept else -1 for label in column.labels] + [-1])
    values = numbers[column.values]  # the last entry answers for -1
    if not kept:
        raise InvalidInput(
            f"{where} has nothing but missing values, written {list(column.labels)}; name every class in `classes` if "
            "this is one"
        )
    return Column(values, tuple(kept), values >= 0)


def stray(tables: Tables, name: str) -> str | None:
    """Where a column that holds texts, but nearly only numbers, has the first other text; None for other columns."""
    if tables.types[name] != "string":
        return None
    held = tables.read(name)
    counts = {one["values"]: one["counts"] for one in held.value_counts().to_pylist()}
    filled = {text: count for text, count in counts.items() if text not in {None, *MISSING} and text.strip()}
    others = {text for text in filled if not _is_number(text)}
    total = sum(filled.values())
    numbers = total - sum(filled[text] for text in others)
    if not others or numbers < MOSTLY * total:
        return None
    row, text = next((row, text) for row, text in enumerate(held.to_pylist()) if text in others)
    return f"{name} holds {text!r} in {tables.place(row)}, where {numbers:,} of {total:,} values are numbers"


def remarks(
    tables: Tables, inputs: Sequence[str], targets: Sequence[str], used: Collection[str | None]
) -> Iterator[str]:
    """Sentences about the columns of a task on a table.

    Args:
        tables: the columns.
        inputs: those that the network sees.
        targets: those that it learns.
        used: those that any task uses as target, split or group.
    """
    other = [
        f"{name} ({kind})"
        for name, kind in tables.types.items()
        if kind not in ("number", "string", "image") and name not in used
    ]
    if other:
        yield f"not an input, being neither numbers nor texts: {', '.join(other)}"
    for names, what in ((inputs, "categories"), (targets, "classes")):
        for name in names:
            if said := stray(tables, name):
                yield f"read as {what}: {said}"


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
