"""What a data set on disk looks like once it is opened, before tasks are made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Source
from polypath.core.preprocess import ImagePreprocess
from polypath.data.catalogue import Entry, Grouping, Kind, TargetKind

# What a missing value of a target column is: refused; an empty cell, that leaves its row out; that or NaN.
Missing = Literal["refuse", "skip", "skip_nan"]
# What a missing number of an input column is: refused, or kept as NaN and read as the mean of the training rows.
MissingInputs = Literal["refuse", "mean"]

# Texts that stand for "no value" in files that spreadsheets, pandas, R and databases write. Lower-case "none" is an
# answer ("none", "mild", "severe") as often as not.
MISSING = ("NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "Null", "null", "None")


@dataclass(frozen=True)
class Column:
    """One value a row.

    Args:
        values: (n,) int64 class numbers where `labels` is given, else (n,) or (n, size) floats; -1 and NaN where the
            value is missing and that is allowed.
        labels: class names, or None for numbers.
        there: bool (n,), which rows have a value; None where the values say it.
    """

    values: np.ndarray
    labels: tuple[str, ...] | None = None
    there: np.ndarray | None = None

    @property
    def known(self) -> np.ndarray:
        """Which rows have a value, bool (n,): those in `there`, else class numbers from 0 on, numbers but for NaN."""
        if self.there is not None:
            return self.there
        if self.labels is not None and self.values.ndim == 1:
            return self.values >= 0
        rows = self.values.reshape(len(self.values), -1)
        return ~np.isnan(rows).any(axis=1) if rows.dtype.kind == "f" else np.ones(len(rows), dtype=bool)


@dataclass(frozen=True)
class DataSet:
    """An opened data set: all stored splits one after the other.

    Args:
        name: for task names, messages and records.
        kind: image, table or text.
        parts: stored split -> its rows.
        targets: every column that could be a target; read when asked for.
        source: decoded images or table rows; None for text.
        texts: the texts, for text; None otherwise.
        columns: feature names, for tables.
        categories: feature name -> its values, where it holds categories; the source holds their numbers, -1 for none.
        readable: bool (n,), which images can be read; None: all, as far as is known.
        unreadable: names of those that cannot.
        pixels: decoding step of images; mean and std are set when tasks are made.
        hashes: 64-bit content hash of every row, computed when asked for.
        entry: catalogue entry, where the set has one.
        default_target: used where no target column is named.
    """

    name: str
    kind: Kind
    parts: Mapping[str, range]
    targets: Mapping[str, Callable[[], Column]]
    hashes: Callable[[], np.ndarray]
    source: Source | None = None
    texts: Sequence[str] | None = None
    columns: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    readable: np.ndarray | None = None
    unreadable: tuple[str, ...] = ()
    pixels: ImagePreprocess | None = None
    entry: Entry | None = None
    default_target: str | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())

    def column(self, name: str | None = None) -> tuple[str, Column]:
        """A target column with its name; groupings of the catalogue count as columns.

        Raises:
            UnknownName: no such column.
            InvalidInput: none named and no default.
        """
        name = name or self.default_target
        if name is None:
            raise InvalidInput(f"{self.name}: name the target column; columns: {', '.join(self.targets)}")
        groupings = self.entry.groupings if self.entry else {}
        if name in groupings:
            return name, grouped(self.column(groupings[name].of)[1], groupings[name], name)
        if name not in self.targets:
            raise UnknownName(f"column of {self.name}", name, [*self.targets, *groupings])
        return name, self.targets[name]()

    def kind_of(self, name: str) -> TargetKind | None:
        """What the catalogue says a column is; None where it does not."""
        return self.entry.targets.get(name) if self.entry else None


def grouped(column: Column, grouping: Grouping, name: str) -> Column:
    """A coarser column by lookup.

    Raises:
        InvalidInput: a class in no group or in two, a group member that is no class.
    """
    if column.labels is None:
        raise InvalidInput(f"{name}: column {grouping.of!r} holds numbers, only classes can be grouped")
    place: dict[str, int] = {}
    for number, members in enumerate(grouping.groups.values()):
        for member in members:
            if member not in column.labels:
                raise UnknownName(f"class of {grouping.of}", member, column.labels)
            if member in place:
                raise InvalidInput(f"{name}: class {member!r} is in two groups")
            place[member] = number
    missing = [label for label in column.labels if label not in place]
    if missing:
        raise InvalidInput(f"{name}: classes {missing[:5]} are in no group")
    lookup = np.array([place[label] for label in column.labels], dtype=np.int64)
    return Column(lookup[column.values], tuple(grouping.groups))


def coded(values: Sequence[object] | np.ndarray, labels: Sequence[str] | None = None) -> Column:
    """A class column from stored values.

    Args:
        values: class numbers into `labels`, or anything else whose distinct values (sorted) become the labels.
        labels: class names in order.

    Raises:
        InvalidInput: a class number outside the labels, values that have no order.
    """
    array = np.asarray(values)
    if labels is not None and array.dtype.kind in "iub":
        numbers = array.astype(np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(labels)):
            bad = int(numbers.min() if numbers.min() < 0 else numbers.max())
            raise InvalidInput(f"class index {bad} is outside the {len(labels)} labels (0..{len(labels) - 1})")
        return Column(numbers, tuple(labels))
    try:
        present, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        raise InvalidInput(f"labels of one kind are required, texts or numbers: {error}") from error
    return Column(codes.reshape(-1).astype(np.int64), tuple(str(value) for value in present.tolist()))
