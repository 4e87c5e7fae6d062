"""Which rows a user's tasks train, validate and test on: slices, shares, a column that says it, whole groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polypath.core.errors import InvalidInput
from polypath.core.seeds import derive
from polypath.data import slices
from polypath.data.options import DataOptions, expressions

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "holdout"),
}


def by_column(cells: Sequence[object], keep: np.ndarray, seed: int, where: str) -> dict[str, np.ndarray]:
    """Rows of every purpose from a column that names it; blank cells belong to none.

    Args:
        cells: one a row: train, validation or test (or `NAMES`' other words for them).
        keep: bool (n,), which rows take part.
        seed: of the order of the rows.
        where: for messages.

    Raises:
        InvalidInput: another word, no row to train on.
    """
    purpose_of = {word: purpose for purpose, words in NAMES.items() for word in words}
    found: dict[str, list[int]] = {purpose: [] for purpose in NAMES}
    for row, cell in enumerate(cells):
        word = "" if cell is None else str(cell).strip().lower()
        if word and word not in purpose_of:
            raise InvalidInput(f"{where}: train, validation or test is required in every row, row {row} says {cell!r}")
        if word and keep[row]:
            found[purpose_of[word]].append(row)
    if not found["train"]:
        raise InvalidInput(f"{where}: no row says train (or its rows have no label)")
    return {
        purpose: _shuffled(np.array(rows, dtype=np.int64), seed, purpose) for purpose, rows in found.items() if rows
    }


def by_group(
    groups: np.ndarray, rows: np.ndarray, shares: Mapping[str, float], seed: int, where: str
) -> dict[str, np.ndarray]:
    """Rows of every purpose, no group being in two of them.

    Groups are taken in a random order until a purpose has the number of its rows that is nearest to its share.

    Args:
        groups: (n,) group number of every row of the data set.
        rows: the rows to divide.
        shares: purpose -> share of these rows (0..1); what is left is for training.
        seed: of the order.
        where: for messages.

    Raises:
        InvalidInput: fewer groups than purposes.
    """
    order = np.random.Generator(np.random.PCG64(derive(seed, "groups"))).permutation(np.unique(groups[rows]))
    if len(order) <= len(shares):
        raise InvalidInput(f"{where}: {len(shares) + 1} groups or more are required, the rows hold {len(order)}")
    sizes = {group: int((groups[rows] == group).sum()) for group in order.tolist()}
    left, found = order.tolist(), {}
    for number, (purpose, share) in enumerate(shares.items(), start=1):
        wanted, taken = share * len(rows), 0
        mine: list[int] = []
        while len(left) > len(shares) - number + 1 and (
            not mine or abs(taken + sizes[left[0]] - wanted) < abs(taken - wanted)
        ):
            taken += sizes[left[0]]
            mine.append(left.pop(0))
        found[purpose] = rows[np.isin(groups[rows], mine)]
    found["train"] = rows[np.isin(groups[rows], left)]
    return {purpose: _shuffled(picked, seed, purpose) for purpose, picked in found.items()}


def grouped(
    options: DataOptions, groups: np.ndarray, parts: Mapping[str, range], keep: np.ndarray, where: str
) -> dict[str, np.ndarray]:
    """`by_group` with the shares of the options; a stored test split stays as it is.

    Raises:
        InvalidInput: slices in train, test or validation, which would divide groups.
    """
    if options.train is not None or isinstance(options.test, str) or isinstance(options.validation, str):
        raise InvalidInput(f"{where}: whole groups need shares (test: 0.2, validation: 0.1), not slices")
    stored = "test" in parts and options.test is None
    shares = {} if stored else {"test": options.test if isinstance(options.test, float) else 0.2}
    if isinstance(options.validation, float):
        shares["val"] = options.validation
    rows = _kept(parts["train"], keep)
    found = by_group(groups, rows, shares, options.seed, where) if shares else {"train": rows}
    if stored:
        found["test"] = _kept(parts["test"], keep)
    return found


def alone(
    options: DataOptions,
    parts: Mapping[str, range],
    strata: np.ndarray | None,
    labels: Sequence[str],
    keep: np.ndarray,
) -> dict[str, np.ndarray]:
    """Rows for the only task of a data set, stratified by its classes (without `validation` given as a share)."""
    return slices.select(expressions(options, parts), parts, strata, options.seed, labels, keep)


def shared(
    options: DataOptions, parts: Mapping[str, range], strata: np.ndarray | None, keep: np.ndarray
) -> dict[str, np.ndarray]:
    """Rows for several tasks of one data set: what one of them tests on, none of them trains on.

    Stratified where that is possible; classes too rare to be in every part are dealt out with the others.

    Args:
        options: of all of them.
        parts: stored splits.
        strata: class of every row (-1: none), or None.
        keep: bool (n,), which rows take part.
    """
    chosen = expressions(options, parts)
    kinds = None if strata is None else _common(strata, keep, len(chosen) + isinstance(options.validation, float))
    try:
        found = slices.select(chosen, parts, kinds, options.seed, (), keep)
    except InvalidInput:
        found = slices.select(chosen, parts, None, options.seed, (), keep)
    if isinstance(options.validation, float):
        rows = found["train"]
        size = max(round(options.validation * len(rows)), 1)
        same = np.zeros(len(rows), dtype=np.int64)
        for values in (same if kinds is None else kinds[rows], same):
            carved = slices.stratified(rows, values, [len(rows) - size, size], derive(options.seed, "validation"))
            if carved is not None:
                found["train"], found["val"] = carved
                return found
        raise InvalidInput(f"validation={options.validation} of {len(rows)} training rows leaves none to train on")
    return found


def _common(strata: np.ndarray, keep: np.ndarray, parts: int) -> np.ndarray:
    """Strata of which every one can be in every part: rare ones become one, or join the largest."""
    present, codes, counts = np.unique(strata[keep], return_inverse=True, return_counts=True)
    rare = counts < 2 * parts
    if rare.any():
        target = int(np.flatnonzero(rare)[0]) if counts[rare].sum() >= 2 * parts else int(counts.argmax())
        codes = np.where(rare[codes], target, codes)
    out = np.zeros(len(strata), dtype=np.int64)
    out[keep] = codes
    return out


def _kept(part: range, keep: np.ndarray) -> np.ndarray:
    rows = np.arange(part.start, part.stop)
    return rows[keep[rows]]


def _shuffled(rows: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(derive(seed, "order", purpose))).permutation(rows)
