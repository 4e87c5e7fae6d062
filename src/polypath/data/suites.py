"""Suites: ordered lists of tasks made from data sets, each described by a configuration in plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Suite, TaskData
from polypath.data import partition
from polypath.data.columns import Column, DataSet
from polypath.data.options import DataOptions, expressions
from polypath.data.sources import is_plain, open_source, resolved
from polypath.data.tasks import Opened, Wanted, class_numbers, classification, cut, prepare, target_of


class SplitConfig(DataOptions):
    """The classes of one data set dealt out to tasks.

    Args:
        column: class column; None: the data set's first.
        tasks, classes_per_task: one may be left out.
        order: consecutive class numbers, or dealt out at random from the seed.
        classes: names or numbers of every task's classes, instead of tasks and order.
        prefix: tasks are called prefix1, prefix2, ...
        name: of the suite.
    """

    kind: Literal["split"] = "split"
    column: str | None = None
    tasks: int | None = Field(None, gt=0)
    classes_per_task: int | None = Field(None, gt=0)
    order: partition.Order = "consecutive"
    classes: tuple[tuple[str | int, ...], ...] | None = None
    prefix: str = "task"
    name: str | None = None


class WholeConfig(DataOptions):
    """One data set as one task.

    Args:
        column: target column; None: the data set's first.
        name: of the task and the suite; None: the data set's.
    """

    kind: Literal["whole"] = "whole"
    column: str | None = None
    name: str | None = None


def class_column(dataset: DataSet, name: str | None) -> tuple[str, Column, tuple[str, ...]]:
    """A column that holds classes, with its labels.

    Raises:
        InvalidInput: it holds numbers.
    """
    found, column = dataset.column(name)
    if column.labels is None:
        raise InvalidInput(f"{dataset.name}: column {found!r} holds numbers; classes are required here")
    return found, column, column.labels


def split(dataset: Any, tasks: int | None = None, *, seed: int = 0, **options: Any) -> Suite:
    """The classes of one data set dealt out to tasks (split CIFAR-100: ten tasks of ten classes).

    Args:
        dataset: anything `open_source` takes.
        tasks: how many.
        seed: of shuffles and random orders.
        options: of `SplitConfig`.

    Example:
        >>> suite = split("digits", tasks=5, seed=0)
        >>> suite.names, suite["task2"].task.target.labels
        (('task1', 'task2', 'task3', 'task4', 'task5'), ('2', '3'))
    """
    return _make(SplitConfig, dataset, {"tasks": tasks, "seed": seed, **options})


def whole(dataset: Any, *, seed: int = 0, **options: Any) -> Suite:
    """One data set as one task; options of `WholeConfig`."""
    return _make(WholeConfig, dataset, {"seed": seed, **options})


def _split(config: SplitConfig, dataset: DataSet) -> tuple[list[TaskData], dict[str, Any]]:
    _, column, labels = class_column(dataset, config.column)
    if config.classes is not None:
        chosen = [class_numbers(given, labels, f"task {n}") for n, given in enumerate(config.classes, start=1)]
        sizes: dict[str, Any] = {"tasks": len(chosen)}
    else:
        tasks, each = partition.sizes(len(labels), config.tasks, config.classes_per_task)
        chosen = partition.deal(len(labels), tasks, each, config.order, config.seed)
        sizes = {"tasks": tasks, "classes_per_task": each}
    opened = prepare(dataset, config, column.values, labels)
    made = [
        cut(opened, subset(f"{config.prefix}{number}", column, labels, classes))
        for number, classes in enumerate(chosen, start=1)
    ]
    return made, sizes


def subset(name: str, column: Column, labels: Sequence[str], classes: list[int]) -> Wanted:
    """The task of telling some classes apart, renumbered in the order given."""
    table = partition.lookup(classes, len(labels)).numpy()
    return Wanted(name, classification([labels[number] for number in classes], name), table[column.values])


def _whole(config: WholeConfig, dataset: DataSet) -> tuple[list[TaskData], dict[str, Any]]:
    name = config.name or dataset.name
    _, column = dataset.column(config.column)
    one_label = column.labels is not None and column.values.ndim == 1
    opened = prepare(dataset, config, column.values if one_label else None, column.labels or ())
    return [cut(opened, Wanted(name, target_of(name, column.values, column.labels), column.values))], {"name": name}


_Maker = Callable[[Any, DataSet], tuple[list[TaskData], dict[str, Any]]]
_MAKERS: dict[type[DataOptions], _Maker] = {SplitConfig: _split, WholeConfig: _whole}


def _make(kind: type[DataOptions], dataset: Any, values: Mapping[str, Any], root: Path | str = ".") -> Suite:
    plain = is_plain(dataset)
    name = resolved(str(dataset), root) if plain else "arrays"
    config = kind.of({**values, "dataset": name}, "suite")
    opened = open_source(name if plain else dataset, inputs=config.inputs, target=_target(config), shape=config.shape)
    made, found = _MAKERS[kind](config, opened)
    chosen = expressions(config, opened.parts)
    settled = config.changed(**found, train=chosen["train"], test=chosen.get("test"))
    title = getattr(config, "name", None) or f"{opened.name}/{getattr(config, 'kind', '')}{len(made)}"
    return Suite(title, tuple(made), config.seed, settled.model_dump(mode="json") if plain else {})


def _target(config: DataOptions) -> str | None:
    column = getattr(config, "column", None)
    # a grouping of the catalogue is no stored column, `DataSet.column` finds it
    return column if isinstance(column, str) and ":" in config.dataset else None


KINDS: dict[str, type[DataOptions]] = {"split": SplitConfig, "whole": WholeConfig}


def build(config: Mapping[str, Any], root: Path | str = ".") -> Suite:
    """The suite that a configuration in plain JSON describes; `build(suite.config)` builds the same suite again.

    Args:
        config: `kind` (split, mix, hierarchy, attributes, one_vs_rest, pairs, whole, own) and that kind's settings.
        root: folder that relative paths start from.

    Raises:
        UnknownName: unknown kind, key, data set or column; offers the nearest.
        InvalidInput: values or data that do not fit.
    """
    kind = config.get("kind")
    if kind not in KINDS:
        raise UnknownName("kind of suite", str(kind), KINDS)
    values = {key: value for key, value in config.items() if key != "dataset"}
    if "dataset" not in config:
        raise InvalidInput(f"suite of kind {kind!r}: dataset is required, but not given")
    return _make(KINDS[kind], config["dataset"], values, root)


__all__ = ["KINDS", "Opened", "SplitConfig", "WholeConfig", "build", "np", "split", "whole"]
