"""Cells of a table as targets, numbers and categories."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polypath.core.errors import MOST_SHOWN, InvalidInput
from polypath.core.examples import TensorSource
from polypath.core.preprocess import category
from polypath.data.columns import MISSING, Column, Missing, MissingInputs, coded

if TYPE_CHECKING:
    from polypath.data.tabular import Tables

MOST_CATEGORIES = 256  # different values of an input column that are still taken for categories


def target(
    tables: Tables,
    name: str,
    labels: Sequence[str] | None,
    classes: bool,
    missing: Missing,
    named: Collection[str] | None = None,
) -> Column:
    """A target column.

    Args:
        tables: the columns.
        name: which one.
        labels: class names of class numbers.
        classes: whether numbers are classes too.
        missing: what happens to cells without a value; where they are skipped `there` says so.
        named: those of `MISSING` that are classes, where such words are refused with the cells; None: all are.

    Raises:
        UnknownName: no such column.
        InvalidInput: missing values that are refused, NaN that is not a missing value, a class number outside the
            labels.
    """
    if missing == "refuse":
        return _known(tables, name, _complete(tables, name, named), labels, classes)
    values = tables.read(tables.require(name))
    there = filled(values, tables.types[name], missing == "skip_nan")
    if not there.any():
        raise InvalidInput(f"{tables.name}: column {name!r} holds no value at all")
    column = _known(tables, name, values.filter(_mask(there)), labels, classes)
    whole = np.full((len(there), *column.values.shape[1:]), -1, dtype=column.values.dtype)
    whole[there] = column.values
    return Column(whole, column.labels, there)


def _complete(tables: Tables, name: str, named: Collection[str] | None) -> Any:
    """The cells of a target, all of which hold something."""
    values = tables.complete(name)
    if tables.types[name] != "string":
        return values
    words = {*MISSING} - {*(MISSING if named is None else named)}
    texts = values.to_pylist()
    empty = [row for row, text in enumerate(texts) if not text.strip() or text in words]
    if empty:
        written = sorted({texts[row] for row in empty} - {""})
        as_words = f", written {written}" if written else ""
        raise InvalidInput(
            f"{tables.name}: column {name!r} has {len(empty)} missing value(s){as_words}, the first in "
            f"{tables.place(empty[0])}; fill them or leave these rows out (in tasks.yaml: missing: skip"
            f"{', or every class in `classes` if this is one' if written else ''})"
        )
    return values


def filled(values: Any, kind: str, nan: bool) -> np.ndarray:
    """Which cells hold something, bool (n,): neither null nor a blank text nor, where asked for, NaN."""
    there = np.asarray(values.is_valid().to_numpy(), dtype=bool)
    if kind == "string":
        return there & np.array([bool(text and text.strip()) for text in values.to_pylist()], dtype=bool)
    if nan and kind == "number":
        numbers = values.to_numpy()
        if numbers.dtype.kind == "f":
            there = there & ~np.isnan(numbers)
    return there


def _mask(there: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array(there)


def _known(tables: Tables, name: str, values: Any, labels: Sequence[str] | None, classes: bool) -> Column:
    array = np.asarray(values.to_pylist() if tables.types[name] == "string" else values.to_numpy())
    if labels is not None or classes or array.dtype.kind in "bUO":
        try:
            return coded(array, labels)
        except InvalidInput as error:
            raise InvalidInput(f"{tables.name}, column {name!r}: {error}") from error
    return Column(array.astype(np.float64 if array.dtype.kind == "f" else np.int64))


def features(
    tables: Tables, names: Sequence[str], categorical: Sequence[str] = (), missing: MissingInputs = "refuse"
) -> tuple[TensorSource, dict[str, tuple[str, ...]]]:
    """Input columns as float32 rows, categories as their numbers (-1: none), and the values of every category column.

    Args:
        tables: the columns.
        names: which ones, in order.
        categorical: columns of numbers that are categories; columns of texts always are.
        missing: what happens to numbers that are missing; those that are not refused are NaN.

    Raises:
        InvalidInput: missing or infinite numbers, a column of another type, more different values than
            `MOST_CATEGORIES`.
    """
    other = [name for name in names if tables.types[name] not in ("number", "string")]
    if other:
        kinds = ", ".join(f"{name} ({tables.types[name]})" for name in other)
        raise InvalidInput(
            f"{tables.name}: numbers or texts are required in the input columns, these hold others: {kinds}"
        )
    columns, categories = [], {}
    for name in names:
        if tables.types[name] == "string" or name in categorical:
            codes, categories[name] = _categories(tables, name)
            columns.append(codes)
        else:
            columns.append(np.asarray(tables.read(tables.require(name)).to_numpy(), dtype=np.float32))
    rows = np.stack(columns, axis=1)
    if missing == "refuse" and (gaps := np.isnan(rows)).any():
        raise InvalidInput(
            f"{tables.name}: {_told(tables, names, gaps)}; fill them, leave these rows out, or read them as the mean "
            "of the training rows by missing_inputs: mean"
        )
    if np.isinf(rows).any():
        row, place = np.argwhere(np.isinf(rows))[0]
        raise InvalidInput(f"{tables.name}: infinity in {tables.place(row)}, column {names[place]!r}")
    return TensorSource(torch.from_numpy(rows)), categories


def _told(tables: Tables, names: Sequence[str], gaps: np.ndarray) -> str:
    """Every input column with gaps, how many and where the first is; names of columns are told as they stand."""
    counts = gaps.sum(axis=0)
    places = np.flatnonzero(counts).tolist()
    more = f"; and {len(places) - MOST_SHOWN:,} more columns" if len(places) > MOST_SHOWN else ""
    first = {place: tables.place(int(gaps[:, place].argmax())) for place in places[:MOST_SHOWN]}
    told = [
        f"column {names[place]!r} has {counts[place]} missing value(s), the first in {line}"
        for place, line in first.items()
    ]
    return "; ".join(told) + more


def _categories(tables: Tables, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    written = [category(value) for value in tables.read(name).to_pylist()]
    values = sorted({text for text in written if text})
    if not 0 < len(values) <= MOST_CATEGORIES:
        raise InvalidInput(
            f"{tables.name}: input column {name!r} holds {len(values)} different texts, categories need 1 to "
            f"{MOST_CATEGORIES}; leave it out of the inputs, or make it the only input of a task on texts"
        )
    numbers = {value: number for number, value in enumerate(values)}
    return np.array([numbers.get(text, -1) for text in written], dtype=np.float32), tuple(values)
