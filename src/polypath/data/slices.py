"""The split language (`train[:98%]+train[-2%:]`), applied after a seeded, stratified shuffle.

Sets on disk are often sorted by label, so a plain slice would hold a few classes only. Here every slice of a stored
split has exactly the size the text asks for, holds every class in the proportion of the whole (to rounding) and at
least once, and disjoint slices hold disjoint rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.seeds import derive

_TERM = re.compile(r"^\s*([A-Za-z_][\w-]*)\s*(?:\[\s*(-?\d+(?:\.\d+)?%?)?\s*:\s*(-?\d+(?:\.\d+)?%?)?\s*\])?\s*$")


@dataclass(frozen=True)
class Term:
    """One stored split with optional bounds, still as text ("2%", "-100")."""

    split: str
    start: str | None = None
    stop: str | None = None

    def bounds(self, size: int) -> tuple[int, int]:
        """First and last position (half open) among `size` rows."""
        return _position(self.start, size, 0), _position(self.stop, size, size)


def parse(text: str) -> list[Term]:
    """Terms of a split expression.

    Args:
        text: `name`, `name[a:b]` with rows or percentages, negative counted from the end, joined by `+`.

    Raises:
        InvalidInput: the text cannot be read.
    """
    terms = []
    for part in text.split("+"):
        match = _TERM.match(part)
        if match is None or any(bound and "." in bound and "%" not in bound for bound in match.groups()[1:]):
            raise InvalidInput(
                f"split {text!r}: cannot read {part.strip()!r}; write for example 'train', 'train[:98%]', "
                "'train[100:200]' or 'train[:2%]+train[-2%:]'"
            )
        terms.append(Term(*match.groups()))
    return terms


def select(
    expressions: Mapping[str, str],
    parts: Mapping[str, range],
    classes: np.ndarray | None,
    seed: int,
    labels: Sequence[str] = (),
    keep: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Row numbers of every expression, each in a shuffled order.

    Args:
        expressions: purpose ("train", "test") -> split expression.
        parts: stored split -> its rows in the data set.
        classes: int64 class of every row of the data set, or None where there is nothing to stratify by.
        seed: of the shuffle.
        labels: names of the classes, for messages.
        keep: bool, which rows of the data set take part; None: all.

    Raises:
        InvalidInput: an unreadable or empty expression, rows that are asked for twice, a class that cannot be in
            every slice.
        UnknownName: a stored split that is not there.
    """
    held = {name: np.arange(part.start, part.stop) for name, part in parts.items()}
    if keep is not None:
        held = {name: rows[keep[rows]] for name, rows in held.items()}
    wanted: dict[str, list[tuple[str, int, int]]] = {}
    for purpose, text in expressions.items():
        for term in parse(text):
            if term.split not in parts:
                raise UnknownName("stored split", term.split, parts)
            start, stop = term.bounds(len(held[term.split]))
            if start >= stop:
                raise InvalidInput(f"{purpose}: {text!r} is empty ({term.split} has {len(held[term.split])} rows)")
            wanted.setdefault(term.split, []).append((purpose, start, stop))
    found: dict[str, list[np.ndarray]] = {purpose: [] for purpose in expressions}
    for split, uses in wanted.items():
        rows = held[split]
        _refuse_overlap(split, uses)
        kinds = np.zeros(len(rows), dtype=np.int64) if classes is None else classes[rows]
        for purpose, picked in _cut(split, rows, kinds, uses, seed, labels):
            found[purpose].append(picked)
    return {purpose: np.concatenate(pieces) for purpose, pieces in found.items()}


def stratified(
    rows: np.ndarray, classes: np.ndarray, sizes: Sequence[int], seed: int, rest: int = 0
) -> list[np.ndarray] | None:
    """Disjoint groups of `rows` of exactly the given sizes, each holding every class in proportion.

    Args:
        rows: row numbers.
        classes: class of each of them.
        sizes: of every group, each above 0.
        seed: of the shuffle.
        rest: how many rows stay in no group; they need not hold every class.

    Returns:
        The groups, each in a random order; None where a group has fewer rows, or a class fewer members, than needed.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
    rows, classes = rows[order], classes[order]
    _, codes, left = np.unique(classes, return_inverse=True, return_counts=True)
    if left.min() < len(sizes) or min(sizes) < len(left) or sum(sizes) + rest != len(rows):
        return None
    members = [np.flatnonzero(codes == code) for code in range(len(left))]
    taken = np.zeros_like(left)
    group = np.full(len(rows), len(sizes))
    for number, size in enumerate(sizes):
        share = _apportion(size, left - taken, len(sizes) - number - 1)
        for code, places in enumerate(members):
            group[places[taken[code] : taken[code] + share[code]]] = number
        taken = taken + share
    return [rows[group == number] for number in range(len(sizes))]


def _apportion(size: int, left: np.ndarray, keep: int) -> np.ndarray:
    """How many of each class make `size`: in proportion to `left`, at least 1, leaving at least `keep`."""
    exact = size * left / left.sum()
    share = np.clip(np.floor(exact).astype(np.int64), 1, left - keep)
    while share.sum() < size:  # largest remainder first
        gap = np.where(share < left - keep, exact - share, -np.inf)
        share[int(gap.argmax())] += 1
    while share.sum() > size:
        gap = np.where(share > 1, exact - share, np.inf)
        share[int(gap.argmin())] -= 1
    return share


def _cut(
    split: str, rows: np.ndarray, kinds: np.ndarray, uses: list[tuple[str, int, int]], seed: int, labels: Sequence[str]
) -> list[tuple[str, np.ndarray]]:
    """The rows of each use of one stored split. `uses` do not overlap."""
    uses = sorted(uses, key=lambda use: use[1])
    sizes = [stop - start for _, start, stop in uses]
    groups = stratified(rows, kinds, sizes, derive(seed, "shuffle", split), len(rows) - sum(sizes))
    if groups is None:
        raise InvalidInput(_too_small(split, kinds, uses, labels))
    return [(purpose, group) for (purpose, _, _), group in zip(uses, groups, strict=True)]


def _too_small(split: str, kinds: np.ndarray, uses: list[tuple[str, int, int]], labels: Sequence[str]) -> str:
    present, counts = np.unique(kinds, return_counts=True)
    for purpose, start, stop in uses:
        if stop - start < len(present):
            return (
                f"{purpose}: {split}[{start}:{stop}] has {stop - start} rows for {len(present)} classes, but every "
                "class must be in every split; take more rows or fewer classes"
            )
    rare = int(present[counts.argmin()])
    name = labels[rare] if rare < len(labels) else str(rare)
    return (
        f"{split}: class {name!r} has {counts.min()} example(s) for {len(uses)} slices, but every class must be in "
        "every split; use fewer slices or leave the class out"
    )


def _refuse_overlap(split: str, uses: list[tuple[str, int, int]]) -> None:
    ordered = sorted(uses, key=lambda use: use[1])
    for (first, _, stop), (second, start, _) in zip(ordered[:-1], ordered[1:], strict=True):
        if start < stop:
            who = f"{first} twice" if first == second else f"both {first} and {second}"
            raise InvalidInput(
                f"{split}: rows {start} to {stop} (after the shuffle) would be in {who}; make slices disjoint"
            )


def _position(text: str | None, size: int, default: int) -> int:
    if text is None:
        return default
    # Rounded to the nearest row, as the slicing language of Hugging Face datasets does by default.
    place = round(float(text[:-1]) / 100 * size) if text.endswith("%") else int(text)
    if place < 0 or text.startswith("-"):
        place += size
    return min(max(place, 0), size)
