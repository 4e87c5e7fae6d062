"""A user's own tasks: tasks.yaml, read into tasks with every mistake reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, PolypathError, collect
from polypath.core.examples import Suite, TaskData
from polypath.core.task import MultiLabel, Regression
from polypath.data import partition
from polypath.data.columns import Column, DataSet, coded
from polypath.data.options import DataOptions, expressions
from polypath.data.sources import open_source, resolved
from polypath.data.tasks import Wanted, class_numbers, classification, cut, prepare, target_of


class OwnTask(DataOptions):
    """One task of a tasks.yaml: where its examples are, and optionally more.

    Args:
        name: of the task.
        target: target column; several binary ones make a multi-label task; None: the data set's own.
        target_kind: how the target is read; None: texts and truth values are classes, whole numbers are classes where
            there are at most 100 different ones, other numbers are a regression.
        classes: only these classes, in this order.
        loss, metric, class_weights: instead of those that follow from the target.
    """

    name: str
    target: str | tuple[str, ...] | None = None
    target_kind: Literal["classification", "regression"] | None = None
    classes: tuple[int | str, ...] | None = None
    loss: str | None = None
    metric: str | None = None
    class_weights: tuple[float, ...] | None = None
    seed: int = 0


class OwnConfig(Config):
    """The content of a tasks.yaml.

    Args:
        tasks: in learning order.
        name: of the suite.
        seed: of the tasks that give none.
    """

    kind: Literal["own"] = "own"
    name: str = "own"
    seed: int = 0
    tasks: tuple[OwnTask, ...] = Field(min_length=1)


MOST_CLASSES = 100  # different whole numbers in a column that are still taken for classes


def load_own(path: Path) -> dict[str, Any]:
    """The content of a tasks.yaml, with paths that start from its folder.

    Raises:
        InvalidInput: no such file, no YAML, or something else than a mapping with tasks.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: is no YAML: {error}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("tasks"), list):
        raise InvalidInput(f"{path}: a mapping with a list of tasks is required, for example 'tasks: [{{name: ...}}]'")
    content = dict(content)
    content["tasks"] = [
        {**task, "dataset": resolved(str(task["dataset"]), path.parent)}
        if isinstance(task, Mapping) and "dataset" in task
        else task
        for task in content["tasks"]
    ]
    return {"name": path.stem, **content}


def own_suite(values: Mapping[str, Any], root: Path | str) -> Suite:
    """The suite of a user's own tasks.

    Raises:
        InvalidInput: everything that is wrong, at once.
    """
    given = values.get("tasks")
    if not isinstance(given, (list, tuple)) or not given:
        raise InvalidInput("own: a list of at least one task is required under tasks")
    seed = values.get("seed", 0)
    problems: list[str] = []
    made: list[TaskData] = []
    settled: list[dict[str, Any]] = []
    for number, raw in enumerate(given, start=1):
        where = f"tasks[{number}]"
        if not isinstance(raw, Mapping):
            problems.append(f"{where}: a mapping with name and dataset is required, received {raw!r}")
            continue
        where = f"task {raw['name']!r}" if "name" in raw else where
        try:
            task = OwnTask.of({"seed": seed, **raw}, where)
            data, options = _task(task, root)
            made.append(data)
            settled.append(options)
        except PolypathError as error:
            text = str(error)
            problems.append(text if text.startswith(where) else f"{where}: {text}")
    names = [raw.get("name") for raw in given if isinstance(raw, Mapping)]
    for name in sorted({str(name) for name in names if name is not None and names.count(name) > 1}):
        problems.append(f"two tasks are called {name!r}; task names must differ")
    collect(problems, str(values.get("name", "own")))
    config = OwnConfig.of({**values, "tasks": settled}, "own")
    return Suite(config.name, tuple(made), config.seed, config.model_dump(mode="json"))


def _task(task: OwnTask, root: Path | str) -> tuple[TaskData, dict[str, Any]]:
    source = resolved(task.dataset, root)
    first = task.target if isinstance(task.target, str) or task.target is None else task.target[0]
    inputs = task.inputs
    opened = open_source(source, inputs=inputs, target=first if ":" in source else None, shape=task.shape)
    wanted, strata, labels = _wanted(task, opened)
    data = cut(prepare(opened, task, strata, labels), wanted)
    extra = {"loss": task.loss, "metric": task.metric, "class_weights": task.class_weights}
    chosen = {key: value for key, value in extra.items() if value is not None}
    if chosen:
        changed = data.task.of({**data.task.model_dump(), **chosen}, f"task {task.name!r}")
        data = TaskData(changed, data.train, data.val, data.test, data.augment, data.facts)
    slices = expressions(task, opened.parts)
    settled = task.changed(dataset=source, train=slices["train"], test=slices.get("test"))
    return data, settled.model_dump(mode="json")


def _wanted(task: OwnTask, dataset: DataSet) -> tuple[Wanted, np.ndarray | None, tuple[str, ...]]:
    """What is cut, what the rows are stratified by, and the names of those classes."""
    if isinstance(task.target, tuple) and len(task.target) > 1:
        return _several(task, task.target, dataset), None, ()
    name = task.target[0] if isinstance(task.target, tuple) else task.target
    found, column = dataset.column(name)
    column = read_as(column, task.target_kind, f"column {found!r}")
    if column.labels is None:
        if task.classes is not None:
            raise InvalidInput(f"classes need a classification, column {found!r} holds numbers")
        return Wanted(task.name, target_of(task.name, column.values, None), column.values), None, ()
    chosen = list(range(len(column.labels)))
    if task.classes is not None:
        chosen = class_numbers(task.classes, column.labels, found)
    table = partition.lookup(chosen, len(column.labels)).numpy()
    target = classification([column.labels[number] for number in chosen], task.name)
    return Wanted(task.name, target, table[column.values]), column.values, column.labels


def _several(task: OwnTask, names: tuple[str, ...], dataset: DataSet) -> Wanted:
    columns = [dataset.column(name)[1] for name in names]
    values = np.stack([column.values for column in columns], axis=1)
    if task.target_kind == "regression" or values.dtype.kind == "f":
        return Wanted(task.name, Regression(size=len(names)), values.astype(np.float64))
    if not np.isin(values, (0, 1)).all():
        raise InvalidInput(f"target columns {list(names)} must hold 0 and 1 (or give target_kind: regression)")
    return Wanted(task.name, MultiLabel(labels=names), values.astype(np.int64))


def read_as(column: Column, kind: str | None, where: str) -> Column:
    """A column as classes or as numbers.

    Args:
        column: as stored.
        kind: classification, regression, or None to tell from the values.
        where: for messages.
    """
    if column.labels is not None:
        if kind == "regression":
            raise InvalidInput(f"a regression needs numbers, {where} holds classes")
        return column
    whole = column.values.dtype.kind in "iu" and column.values.ndim == 1
    if kind == "classification" or (kind is None and whole and len(np.unique(column.values)) <= MOST_CLASSES):
        return coded(column.values)
    return Column(column.values.astype(np.float64))
