"""What columns of a table are: inputs, classes, numbers, several labels at once; and class weights as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import TaskData
from polypath.core.task import Classification, MultiLabel, Regression
from polypath.data import images
from polypath.data.cells import MOST_CATEGORIES
from polypath.data.columns import Column, coded
from polypath.data.tabular import Tables
from polypath.data.tasks import Wanted

if TYPE_CHECKING:
    from polypath.data.own import OwnTask

MOST_CLASSES = 100  # different whole numbers in a column that are still taken for classes


def several(task: OwnTask, columns: Sequence[tuple[str, Column]]) -> Wanted:
    """One task over several columns: a regression of as many numbers, or 0/1 labels."""
    names = tuple(name for name, _ in columns)
    values = np.stack([column.values for _, column in columns], axis=1)
    if task.classes is not None:
        raise InvalidInput("classes need one target column")
    if task.target_kind == "regression" or values.dtype.kind == "f":
        return Wanted(task.name, Regression(size=len(names)), values.astype(np.float64))
    known = np.logical_and.reduce([column.known for _, column in columns])
    if not np.isin(values[known], (0, 1)).all():
        raise InvalidInput(f"target columns {list(names)} must hold 0 and 1 (or give target_kind: regression)")
    return Wanted(task.name, MultiLabel(labels=names), values.astype(np.int64))


def read_as(column: Column, kind: str | None, where: str) -> Column:
    """A column as classes (-1: no value) or as numbers.

    Args:
        column: as stored.
        kind: classification, regression, or None to tell from the values.
        where: for messages.
    """
    if column.labels is not None:
        if kind == "regression":
            raise InvalidInput(f"a regression needs numbers, {where} holds classes")
        return column
    known = column.known
    values = column.values[known]
    whole = values.dtype.kind in "iu" and values.ndim == 1
    if kind == "classification" or (kind is None and whole and len(np.unique(values)) <= MOST_CLASSES):
        found = coded(values)
        numbers = np.full(len(known), -1, dtype=np.int64)
        numbers[known] = found.values
        return Column(numbers, found.labels, known)
    return Column(column.values.astype(np.float64), None, known)


def usual_inputs(tables: Tables, names: Sequence[str]) -> list[str]:
    """Which of some columns are inputs: the one of images, else numbers and categories, else the one of texts.

    Raises:
        InvalidInput: it cannot be told; lists the columns.
    """
    pictures = [name for name in names if holds_images(tables, name)]
    if len(pictures) == 1:
        return pictures
    numbers = [name for name in names if tables.types[name] == "number"]
    strings = [name for name in names if tables.types[name] == "string" and name not in pictures]
    varied = [name for name in strings if len(set(tables.read(name).to_pylist())) > _most(tables)]
    if not pictures and not varied and (numbers or strings):
        return [name for name in names if name in {*numbers, *strings}]
    if not pictures and not numbers and len(strings) == 1:
        return strings
    shown = ", ".join(f"{name} ({tables.types[name]})" for name in names) or "none is left"
    raise InvalidInput(f"{tables.name}: name the input column(s); columns that no task uses otherwise: {shown}")


def _most(tables: Tables) -> int:
    """Different texts up to which a column holds categories and no names or texts."""
    count = max((part.stop for part in tables.parts.values()), default=0)
    return min(MOST_CATEGORIES, max(count // 4, 2))


def holds_images(tables: Tables, name: str) -> bool:
    """Whether a column holds images or the paths of image files."""
    if tables.types[name] == "string":
        return names_images(tables.read(name))
    return tables.types[name] == "image"


def names_images(cells: Any) -> bool:
    """Whether texts, at least the first, are names of image files."""
    return len(cells) > 0 and str(cells[0]).lower().endswith(images.SUFFIXES)


def weights_of(given: Any, data: TaskData) -> tuple[float, ...] | None:
    """Class weights as numbers in the order of the labels.

    Args:
        given: numbers, label -> number (1 for the others), "balanced" (n / (classes * examples of the class)) or None.
        data: the task.

    Raises:
        UnknownName: no such label.
    """
    if given is None:
        return None
    target = data.task.target
    assert isinstance(target, Classification)
    if given == "balanced":
        counts = torch.bincount(data.train.targets, minlength=target.outputs).clamp_min(1).double()
        return tuple((len(data.train) / (target.outputs * counts)).tolist())
    if isinstance(given, Mapping):
        for label in given:
            if label not in target.labels:
                raise UnknownName("label of class_weights", label, target.labels)
        return tuple(float(given.get(label, 1.0)) for label in target.labels)
    return tuple(given)
