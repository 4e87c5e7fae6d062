"""Tasks with their examples, from an opened data set and the rows and targets each task takes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Examples, Sealed, Source, TaskData, TensorSource
from polypath.core.preprocess import AnyPreprocess, ImagePreprocess, TablePreprocess
from polypath.core.seeds import derive
from polypath.core.task import Classification, Features, Image, InputSpec, Regression, Target, Task, Tokens, composed
from polypath.data import images, slices, statistics
from polypath.data.columns import DataSet, MissingInputs
from polypath.data.options import DataOptions, augmentation, expressions


@dataclass(frozen=True)
class Opened:
    """A data set with its rows chosen and its inputs ready, from which tasks are cut.

    Args:
        dataset: the stored set.
        options: the settings it was opened with.
        rows: purpose (train, val, test) -> row numbers in a shuffled order.
        source: decoded inputs of all rows.
        preprocess: how raw inputs become them, with statistics of all training rows.
    """

    dataset: DataSet
    options: DataOptions
    rows: dict[str, np.ndarray]
    source: Source
    preprocess: AnyPreprocess


@dataclass(frozen=True)
class Wanted:
    """One task to be cut.

    Args:
        name: of the task.
        target: what is answered; mean and std of a regression are filled in from the training rows.
        values: over all rows of the data set: class numbers (-1: not in this task) or numbers.
        keep: rows that take part; None: all with values >= 0.
        metric: what the task is judged by; None follows from the target.
        more: further fields of the task.
        facts: what else preparation found out.
    """

    name: str
    target: Target
    values: np.ndarray
    keep: np.ndarray | None = None
    metric: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def prepare(
    dataset: DataSet,
    options: DataOptions,
    classes: np.ndarray | None,
    labels: Sequence[str] = (),
    rows: dict[str, np.ndarray] | None = None,
) -> Opened:
    """Choose the rows of every purpose and make the inputs ready.

    Args:
        dataset: the stored set.
        options: the settings.
        classes: class of every row, to stratify by; None for numbers.
        labels: names of these classes, for messages.
        rows: purpose -> row numbers, where they are chosen already.
    """
    if rows is None:
        chosen = expressions(options, dataset.parts)
        rows = slices.select(chosen, dataset.parts, classes, options.seed, labels, dataset.readable)
    train = rows["train"]
    if dataset.kind == "text":
        assert dataset.texts is not None
        text, tokens = statistics.tokens(dataset.texts, train, options)
        return Opened(dataset, options, rows, TensorSource(tokens), text)
    assert dataset.source is not None
    if dataset.kind == "table":
        assert isinstance(dataset.source, TensorSource)
        source, table = statistics.table(dataset, dataset.source.values, torch.from_numpy(train), options)
        return Opened(dataset, options, rows, source, table)
    assert dataset.pixels is not None
    constants = statistics.constants(dataset, options, train)
    return Opened(dataset, options, rows, dataset.source, dataset.pixels.changed(**constants.model_dump()))


def cut(opened: Opened, wanted: Wanted) -> TaskData:
    """The task with its examples.

    Raises:
        InvalidInput: a task with one class or an empty one, no examples, a validation share that cannot be carved out.
    """
    options, target = opened.options, wanted.target
    classes = wanted.values if isinstance(target, Classification) else None
    rows = {purpose: _limited(opened, wanted, purpose, r) for purpose, r in opened.rows.items()}
    if len(rows["train"]) == 0:
        raise InvalidInput(f"task {wanted.name!r}: train is empty; at least one example is required")
    if isinstance(options.validation, float) and "val" not in rows:
        rows["train"], rows["val"] = _carve(rows["train"], classes, options, wanted.name)
    if isinstance(target, Regression):
        known = torch.from_numpy(wanted.values[rows["train"]]).double().reshape(len(rows["train"]), -1)
        mean, std = statistics.offset_and_unit(known, options.target_scale)
        target = Regression.of({"size": len(mean), "mean": mean, "std": std})
    preprocess = opened.preprocess
    if options.normalise == "task" and isinstance(preprocess, ImagePreprocess):
        preprocess = preprocess.changed(**statistics.pixel_constants(opened.source, rows["train"]).model_dump())
    task = Task.of(
        {
            "name": composed(wanted.name),
            "inputs": spec_of(preprocess),
            "target": target,
            "preprocess": preprocess,
            "private_to": options.group(wanted.name),
            "metric": wanted.metric,
            **wanted.more,
        },
        f"task {wanted.name!r}",
    )
    examples = {purpose: _examples(opened.source, wanted, target, r) for purpose, r in rows.items()}
    return TaskData(
        task=task,
        train=examples["train"],
        val=examples.get("val"),
        test=Sealed(examples["test"]) if "test" in examples else None,
        augment=options.operations if isinstance(preprocess, ImagePreprocess) else (),
        facts=_facts(opened.dataset, target, rows, wanted),
    )


def classification(labels: Sequence[str], name: str) -> Classification:
    """A classification target.

    Raises:
        InvalidInput: fewer than two labels, a label twice; names the task.
    """
    return Classification.of({"labels": tuple(labels)}, f"task {name!r}")


def spec_of(preprocess: AnyPreprocess) -> InputSpec:
    """What a network sees behind a preprocess step."""
    if isinstance(preprocess, ImagePreprocess):
        return Image(channels=preprocess.channels, height=preprocess.height, width=preprocess.width)
    if isinstance(preprocess, TablePreprocess):
        return Features(size=preprocess.width)
    return Tokens(vocabulary=len(preprocess.vocabulary) + 2, length=preprocess.length)


def class_numbers(given: Sequence[str | int], labels: Sequence[str], where: str) -> list[int]:
    """Class numbers of names or numbers.

    Raises:
        UnknownName: no such class.
        InvalidInput: a number outside the labels, a class twice.
    """
    found = []
    for one in given:
        if isinstance(one, str):
            if one not in labels:
                raise UnknownName(f"class of {where}", one, labels)
            found.append(list(labels).index(one))
        elif 0 <= one < len(labels):
            found.append(one)
        else:
            raise InvalidInput(f"{where}: class index {one} is outside the {len(labels)} labels (0..{len(labels) - 1})")
    twice = sorted({number for number in found if found.count(number) > 1})
    if twice:
        raise InvalidInput(f"{where}: class(es) {[labels[number] for number in twice]} are named twice")
    return found


def arrays(
    name: str,
    train: tuple[Any, Any],
    val: tuple[Any, Any] | None = None,
    test: tuple[Any, Any] | None = None,
    *,
    labels: Sequence[str] | None = None,
    normalise: Any = None,
    augment: Any = "none",
    private_to: str | None = None,
    columns: Sequence[str] | None = None,
    missing_inputs: MissingInputs = "refuse",
) -> TaskData:
    """One task from arrays or tensors; `Suite(name, (task, ...))` makes a suite of several.

    Args:
        name: of the task.
        train: (inputs, targets); see `open_source` for what inputs may be.
        val: the same for validation.
        test: the same for the sealed test split.
        labels: class names in the order of the class numbers; with float targets of 0/1 rows, of a multi-label task.
        normalise: as in `DataOptions`, like the next two.
        augment: "none", "part" or operations.
        private_to: access group.
        columns: feature names, for rows.
        missing_inputs: whether NaN among rows is refused, or read as the mean of the training rows (`mean`).

    Example:
        >>> import torch
        >>> x, y = torch.rand(20, 3, 8, 8), torch.arange(20) % 2
        >>> arrays("toy", (x, y), labels=("cat", "dog")).task.inputs.shape
        (3, 8, 8)
    """
    from polypath.data.given import from_arrays

    given = {"train": train, "validation": val, "test": test}
    pairs = {split: pair for split, pair in given.items() if pair is not None}
    dataset = from_arrays(pairs, images.Shape(), name, labels, columns=columns, missing_inputs=missing_inputs)
    values = {
        "dataset": name,
        "train": "train",
        "test": "test" if test is not None else None,
        "validation": "validation" if val is not None else None,
        "normalise": normalise,
        "augment": augmentation(augment),
        "private_to": private_to,
        "missing_inputs": missing_inputs,
    }
    _, column = dataset.column()
    target = target_of(name, column.values, column.labels)
    # Nothing is sliced here, so that a class may be missing in test: no stratification.
    opened = prepare(dataset, DataOptions.of(values), None)
    return cut(opened, Wanted(name, target, column.values))


def target_of(name: str, values: np.ndarray, labels: Sequence[str] | None) -> Target:
    """The target that a column stands for: classes, 0/1 rows or numbers."""
    from polypath.core.task import MultiLabel

    if values.ndim == 2 and values.dtype.kind in "iu":
        names = tuple(labels) if labels else tuple(f"label{number}" for number in range(values.shape[1]))
        return MultiLabel.of({"labels": names}, f"task {name!r}")
    if labels is not None:
        return classification(labels, name)
    return Regression(size=1 if values.ndim == 1 else values.shape[1])


def _limited(opened: Opened, wanted: Wanted, purpose: str, rows: np.ndarray) -> np.ndarray:
    keep = wanted.keep
    if keep is not None:
        rows = rows[keep[rows]]
    if not isinstance(wanted.target, Classification):
        if opened.options.per_class or opened.options.test_per_class:
            raise InvalidInput(f"task {wanted.name!r}: per_class needs a classification; slice train instead")
        return rows
    if keep is None:
        rows = rows[wanted.values[rows] >= 0]
    limit = opened.options.test_per_class if purpose == "test" else opened.options.per_class
    if limit is None:
        return rows
    classes = wanted.values[rows]
    chosen = [np.flatnonzero(classes == number)[:limit] for number in range(wanted.target.outputs)]
    return rows[np.sort(np.concatenate(chosen))]


def _carve(
    rows: np.ndarray, classes: np.ndarray | None, options: DataOptions, name: str
) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(options.validation, float)
    size = round(options.validation * len(rows))
    kinds = np.zeros(len(rows), dtype=np.int64) if classes is None else classes[rows]
    groups = slices.stratified(
        rows,
        kinds,
        [len(rows) - size, max(size, 1)] if size else [len(rows), 1],
        derive(options.seed, "validation", name),
    )
    if groups is None:
        raise InvalidInput(
            f"task {name!r}: validation={options.validation} of {len(rows)} training examples is {size}, which cannot "
            f"hold each of the {len(np.unique(kinds))} classes in both parts; take a larger share or more examples"
        )
    return groups[0], groups[1]


def _examples(source: Source, wanted: Wanted, target: Target, rows: np.ndarray) -> Examples:
    values = torch.from_numpy(np.ascontiguousarray(wanted.values[rows]))
    if isinstance(target, Regression):
        values = values.float().reshape(len(rows), -1)
    elif not isinstance(target, Classification):
        values = values.float()
    return Examples(source, values, torch.from_numpy(rows))


def _facts(dataset: DataSet, target: Target, rows: dict[str, np.ndarray], wanted: Wanted) -> dict[str, Any]:
    hashes = dataset.hashes()
    learned = np.concatenate([rows["train"], rows.get("val", rows["train"][:0])])
    facts: dict[str, Any] = {
        "dataset": dataset.name,
        "classes": list(getattr(target, "labels", ())),
        "examples": {purpose: len(r) for purpose, r in rows.items()},
        "duplicates_within_train": int(len(learned) - len(np.unique(hashes[learned]))),
    }
    if "test" in rows:
        facts["duplicates_train_test"] = int(np.isin(hashes[rows["test"]], hashes[learned]).sum())
    if dataset.unreadable:
        facts["unreadable_images"] = len(dataset.unreadable)
        facts["unreadable_names"] = list(dataset.unreadable[:5])
    facts |= wanted.facts
    if dataset.entry is not None:
        facts["licence"] = dataset.entry.licence
        if dataset.entry.remark:
            facts["remark"] = dataset.entry.remark
    return facts
