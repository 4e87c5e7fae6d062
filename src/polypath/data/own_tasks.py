"""From checked settings to tasks with examples, step by step, so that one mistake does not hide another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import TaskData, TensorSource
from polypath.core.task import METRICS_OF, Classification
from polypath.data import partition, rows
from polypath.data.column_kinds import read_as, several, usual_inputs, weights_of
from polypath.data.columns import MISSING, Column, DataSet
from polypath.data.options import expressions
from polypath.data.problems import Collected, Place
from polypath.data.remarks import remarks, without_missing
from polypath.data.sources import TABLES, open_source, open_tables, resolved
from polypath.data.tabular import Tables
from polypath.data.tasks import Opened, Wanted, class_numbers, classification, cut, prepare, target_of
from polypath.ops.losses import SUITABLE

if TYPE_CHECKING:
    from polypath.data.own import OwnTask


# Settings that tasks which share their inputs may differ in.
OF_ONE_TASK = {"name", "target", "target_kind", "classes", "loss", "metric"} | {
    "class_weights",
    "loss_weight",
    "private_to",
}


@dataclass
class Entry:
    """One task on its way to examples.

    Args:
        number: position in the file.
        task: its settings.
        right: whether nothing wrong was found so far.
        inputs: input columns, once they are known.
        tables: columns of a csv or parquet source.
        dataset: the opened data set.
        wanted: what is cut from it.
        strata: class of every row (-1: none) and names of these classes, to stratify by.
        known: bool (n,), which rows have a label.
    """

    number: int
    task: OwnTask
    right: bool = True
    inputs: tuple[str, ...] | str | None = None
    tables: Tables | None = None
    dataset: DataSet | None = None
    wanted: Wanted | None = None
    strata: np.ndarray | None = None
    labels: tuple[str, ...] = ()
    known: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def who(self) -> str:
        """How the task is called in messages."""
        return f"task {self.task.name!r}"

    @property
    def parts(self) -> Mapping[str, range]:
        """Stored splits."""
        assert self.dataset is not None
        return self.dataset.parts

    def place(self, key: str) -> Place:
        """Where a key of the task stands."""
        return ("tasks", self.number, key)

    @property
    def targets(self) -> tuple[str, ...]:
        """Target columns that the settings name."""
        target = self.task.target
        return () if target is None else (target,) if isinstance(target, str) else target


class Workshop:
    """Makes the tasks of one file; tasks of the same data share what is opened, decoded and split.

    Args:
        problems: where mistakes are noted.
        root: folder that relative paths start from.
    """

    def __init__(self, problems: Collected, root: Path | str) -> None:
        self.problems, self.root = problems, root
        self.tables: dict[str, Tables] = {}
        self.datasets: dict[str, DataSet] = {}
        self.opened: dict[str, Opened] = {}

    def made(self, entries: Sequence[Entry]) -> list[TaskData]:
        """The tasks that have no mistake."""
        for step in (self._read_tables, self._find_inputs, self._open, self._answer):
            for entry in entries:
                if entry.right:
                    step(entry, entries)
        found = []
        for group in _groups([entry for entry in entries if entry.right]):
            chosen = self._rows(group)
            for entry in group if chosen is not None else ():
                assert chosen is not None
                key = "train" if entry.task.train is not None else "target"
                with self.problems.at(entry.place(key), entry.who) as failed:
                    found.append((entry.number, self._cut(entry, chosen, len(group) > 1)))
                entry.right = not failed
        return [data for _, data in sorted(found, key=lambda pair: pair[0])]

    def _read_tables(self, entry: Entry, entries: Sequence[Entry]) -> None:
        """Open the columns of csv and parquet, and look for every column that the settings name."""
        source = resolved(entry.task.dataset, self.root)
        with self.problems.at(entry.place("dataset"), entry.who) as failed:
            if source.partition(":")[0] in TABLES and ":" in source:
                if source not in self.tables:
                    self.tables[source] = open_tables(source)
                entry.tables = self.tables[source]
        entry.right = not failed
        if entry.tables is None:
            for key in ("split_column", "group_column", "categorical", "inputs") if entry.right else ():
                if getattr(entry.task, key):
                    self._wrong(
                        entry, key, f"{key} needs a csv: or parquet: dataset, this one is {entry.task.dataset!r}"
                    )
            return
        task = entry.task
        inputs = (task.inputs,) if isinstance(task.inputs, str) else task.inputs or ()
        named = {"inputs": inputs, "target": entry.targets, "categorical": task.categorical}
        named |= {key: (getattr(task, key),) for key in ("split_column", "group_column") if getattr(task, key)}
        for key, names in named.items():
            for name in names:
                if name not in entry.tables.names:
                    self._wrong(
                        entry, key, str(UnknownName(f"column of {entry.tables.name}", name, entry.tables.names))
                    )
        both = sorted({*inputs} & {*entry.targets, task.split_column, task.group_column})
        if both:
            self._wrong(entry, "inputs", f"column(s) {both} are inputs and target, split or group at once")
        if not entry.targets:
            columns = ", ".join(entry.tables.names)
            self._wrong(entry, "target", f"name the target column; {entry.tables.name} has {columns}")

    def _find_inputs(self, entry: Entry, entries: Sequence[Entry]) -> None:
        """Input columns where none are named: all that no task of the same data uses otherwise."""
        entry.inputs = entry.task.inputs
        if entry.tables is None or entry.inputs:
            return
        taken = _taken(entries, entry.tables)
        rest = [name for name in entry.tables.names if name not in taken]
        with self.problems.at(entry.place("inputs"), entry.who) as failed:
            entry.inputs = tuple(usual_inputs(entry.tables, rest))
        entry.right = not failed

    def _open(self, entry: Entry, entries: Sequence[Entry]) -> None:
        task = entry.task
        source = resolved(task.dataset, self.root)
        words = tuple(label for label in task.classes or () if label in MISSING)
        key = repr((source, entry.inputs, task.categorical, task.shape, task.missing, task.missing_inputs, words))
        where = "inputs" if task.inputs or task.categorical else "dataset"
        with self.problems.at(entry.place(where), entry.who) as failed:
            if key not in self.datasets:
                self.datasets[key] = open_source(
                    source,
                    inputs=entry.inputs,
                    target=entry.targets[0] if entry.tables is not None else None,
                    shape=task.shape,
                    categorical=task.categorical,
                    missing=task.missing,
                    missing_inputs=task.missing_inputs,
                    named=[str(label) for label in words],
                    tables=entry.tables,
                )
            entry.dataset = self.datasets[key]
        entry.right = not failed

    def _answer(self, entry: Entry, entries: Sequence[Entry]) -> None:
        """Read the target, and check what depends on its kind."""
        key = "classes" if entry.task.classes is not None else "target"
        with self.problems.at(entry.place(key), entry.who) as failed:
            columns = self._columns(entry)
            self._wanted(entry, columns, _taken(entries, entry.tables) if entry.tables is not None else set())
        entry.right = not failed
        if entry.wanted is None:
            return
        kind = entry.wanted.target.kind
        for key, suitable in (("loss", SUITABLE[kind]), ("metric", METRICS_OF[kind])):
            name = getattr(entry.task, key)
            if name is not None and name not in suitable:
                text = f"{key} {name!r} does not suit a {kind} target; choose one of {', '.join(suitable)}"
                self._wrong(entry, key, text)
        if entry.task.class_weights is not None and not isinstance(entry.wanted.target, Classification):
            self._wrong(entry, "class_weights", f"class_weights need a classification, this is a {kind} task")

    def _columns(self, entry: Entry) -> list[tuple[str, Column]]:
        assert entry.dataset is not None
        names: Sequence[str | None] = entry.targets or (None,)
        found = [entry.dataset.column(name) for name in names]
        if entry.tables is None:
            return found
        kinds = entry.tables.types
        return [
            (name, without_missing(column, entry.task.classes, f"column {name!r}"))
            if kinds[name] == "string"
            else (name, column)
            for name, column in found
        ]

    def _wanted(self, entry: Entry, columns: Sequence[tuple[str, Column]], taken: Collection[str | None]) -> None:
        task = entry.task
        known = np.logical_and.reduce([column.known for _, column in columns])
        if not known.any():
            raise InvalidInput(f"no row has a label in column(s) {[name for name, _ in columns]}")
        for name, column in columns:
            values = column.values.reshape(len(column.values), -1)
            bad = known & ~np.isfinite(values).all(axis=1) if values.dtype.kind == "f" else np.zeros(len(known), bool)
            if bad.any():
                raise InvalidInput(
                    f"column {name!r} is NaN or infinite in {int(bad.sum())} row(s), the first is row "
                    f"{int(bad.argmax())}; correct it, or leave rows with NaN out by missing: skip_nan"
                )
        if len(columns) > 1:
            entry.wanted = several(task, columns)
        else:
            name, column = columns[0]
            entry.wanted = self._one(entry, name, read_as(column, task.target_kind, f"column {name!r}"))
        lost = int((~known).sum())
        entry.known = known
        facts: dict[str, Any] = {"missing_labels": lost} if lost else {}
        if entry.tables is not None:
            facts |= _about_columns(entry, entry.tables, taken)
        target = entry.wanted.target
        keep = None if isinstance(target, Classification) else known
        more = {"private_to": task.private_to, "loss_weight": task.loss_weight}
        entry.wanted = replace(entry.wanted, keep=keep, facts=facts, more=more, metric=task.metric)

    def _one(self, entry: Entry, name: str, column: Column) -> Wanted:
        task = entry.task
        if column.labels is None or column.values.ndim == 2:
            if task.classes is not None:
                raise InvalidInput(f"classes need a classification, column {name!r} holds numbers")
            return Wanted(task.name, target_of(task.name, column.values, column.labels), column.values)
        chosen = list(range(len(column.labels)))
        if task.classes is not None:
            chosen = class_numbers(task.classes, column.labels, name)
        table = np.append(partition.lookup(chosen, len(column.labels)).numpy(), -1)  # the last entry answers for -1
        entry.strata, entry.labels = column.values, column.labels
        target = classification([column.labels[number] for number in chosen], task.name)
        return Wanted(task.name, target, table[column.values])

    def _rows(self, group: Sequence[Entry]) -> dict[str, np.ndarray] | None:
        """Rows of every purpose for tasks of one data set that are split alike; None where that failed."""
        first, task = group[0], group[0].task
        assert first.dataset is not None
        keep = np.logical_or.reduce([entry.known for entry in group])
        if first.dataset.readable is not None:
            keep = keep & first.dataset.readable
        keys = ("split_column", "group_column", "test", "train", "validation")
        key = next((key for key in keys if getattr(task, key) is not None), "dataset")
        with self.problems.at(first.place(key), first.who):
            return self._chosen(group, keep)
        return None

    def _chosen(self, group: Sequence[Entry], keep: np.ndarray) -> dict[str, np.ndarray]:
        first, task = group[0], group[0].task
        assert first.dataset is not None
        if task.split_column is not None:
            assert first.tables is not None
            if task.train is not None or task.test is not None or task.group_column is not None:
                raise InvalidInput("split_column says which rows: leave train, test and group_column out")
            cells = first.tables.read(task.split_column).to_pylist()
            return rows.by_column(cells, keep, task.seed, f"column {task.split_column!r}")
        if task.group_column is not None:
            assert first.tables is not None
            cells = first.tables.complete(task.group_column).to_pylist()
            groups = np.unique(np.array([str(cell) for cell in cells]), return_inverse=True)[1].reshape(-1)
            where = f"column {task.group_column!r}"
            return rows.grouped(task, groups, first.dataset.parts, keep, where)
        if len(group) > 1:
            classed = [entry.strata for entry in group if entry.strata is not None]
            strata = max(classed, key=lambda values: len(np.unique(values)), default=None)
            return rows.shared(task, first.dataset.parts, strata, keep)
        return rows.alone(task, first.dataset.parts, first.strata, first.labels, keep)

    def _cut(self, entry: Entry, chosen: Mapping[str, np.ndarray], several: bool) -> TaskData:
        assert entry.dataset is not None and entry.wanted is not None
        task = entry.task
        key = repr((id(entry.dataset), task.model_dump(exclude=OF_ONE_TASK), None if several else entry.number))
        if key not in self.opened:
            self.opened[key] = prepare(entry.dataset, task, None, rows=dict(chosen))
        data = cut(self.opened[key], entry.wanted)
        changes = {"loss": task.loss, "class_weights": weights_of(task.class_weights, data)}
        changes = {name: value for name, value in changes.items() if value is not None}
        if not changes:
            return data
        changed = data.task.of({**data.task.model_dump(), **changes}, entry.who)
        return TaskData(changed, data.train, data.val, data.test, data.augment, data.facts)

    def _wrong(self, entry: Entry, key: str, text: str) -> None:
        self.problems.add(entry.place(key), f"{entry.who}: {text}")
        entry.right = False


def _taken(entries: Sequence[Entry], tables: Tables) -> set[str | None]:
    """Columns of a table that any task uses as target, split or group."""
    mine = [entry for entry in entries if entry.tables is tables]
    return {name for e in mine for name in (*e.targets, e.task.split_column, e.task.group_column)}


def _about_columns(entry: Entry, tables: Tables, taken: Collection[str | None]) -> dict[str, Any]:
    """Facts about the columns of a table."""
    assert entry.dataset is not None
    inputs = [entry.inputs] if isinstance(entry.inputs, str) else list(entry.inputs or ())
    seen = inputs if entry.dataset.kind == "table" else []
    noted = list(remarks(tables, seen, entry.targets, taken))
    if isinstance(source := entry.dataset.source, TensorSource) and seen:
        counts = source.values.isnan().sum(0).tolist()
        gaps = [f"{name} ({count:,})" for name, count in zip(seen, counts, strict=True) if count]
        noted += [f"missing numbers that are read as the mean: {', '.join(gaps)}"] if gaps else []
    return {"input_columns": inputs, **({"noted": noted} if noted else {})}


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Tasks of one data set that are split alike, in the order of the file."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        task = entry.task
        keys = ("dataset", "seed", "validation", "split_column", "group_column", "on_error")
        settings = [getattr(task, key) for key in keys]
        found.setdefault(repr([*settings, *_slices(entry)]), []).append(entry)
    return list(found.values())


def _slices(entry: Entry) -> Sequence[object]:
    """What the settings say of train and test, in one way of saying it: a share, slices, or nothing."""
    task = entry.task
    if task.split_column is None and task.group_column is None:
        try:
            return sorted(expressions(task, entry.parts).items())
        except InvalidInput:
            return [entry.number]  # told when its rows are chosen
    return [task.train, task.test]
