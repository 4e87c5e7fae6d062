"""Tasks with their examples, from an opened data set and the rows and targets each task takes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Examples, Sealed, Source, TaskData, TensorSource
from polypath.core.preprocess import AnyPreprocess, ImagePreprocess, TablePreprocess, TextPreprocess, words
from polypath.core.seeds import derive
from polypath.core.task import Classification, Features, Image, InputSpec, Regression, Target, Task, Tokens
from polypath.data import images, slices
from polypath.data.columns import DataSet
from polypath.data.options import Constants, DataOptions, Scale, augmentation, expressions

_SAMPLE = 1_000  # images from which a streaming set's mean and deviation are estimated


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
    """

    name: str
    target: Target
    values: np.ndarray
    keep: np.ndarray | None = None
    metric: str | None = None


def prepare(dataset: DataSet, options: DataOptions, classes: np.ndarray | None, labels: Sequence[str] = ()) -> Opened:
    """Choose the rows of every purpose and make the inputs ready.

    Args:
        dataset: the stored set.
        options: the settings.
        classes: class of every row, to stratify by; None for numbers.
        labels: names of these classes, for messages.
    """
    rows = slices.select(expressions(options, dataset.parts), dataset.parts, classes, options.seed, labels)
    train = rows["train"]
    if dataset.kind == "text":
        assert dataset.texts is not None
        text, tokens = _tokens(dataset.texts, train, options)
        return Opened(dataset, options, rows, TensorSource(tokens), text)
    assert dataset.source is not None
    if dataset.kind == "table":
        assert isinstance(dataset.source, TensorSource)
        mean, std = _offset_and_unit(dataset.source.values[torch.from_numpy(train)].double(), options.scale)
        table = TablePreprocess.of({"columns": dataset.columns, "mean": mean, "std": std})
        return Opened(dataset, options, rows, dataset.source, table)
    assert dataset.pixels is not None
    constants = _constants(dataset, options, train)
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
    if isinstance(options.validation, float):
        rows["train"], rows["val"] = _carve(rows["train"], classes, options, wanted.name)
    if isinstance(target, Regression):
        known = torch.from_numpy(wanted.values[rows["train"]]).double().reshape(len(rows["train"]), -1)
        mean, std = _offset_and_unit(known, options.target_scale)
        target = Regression.of({"size": len(mean), "mean": mean, "std": std})
    preprocess = opened.preprocess
    if options.normalise == "task" and isinstance(preprocess, ImagePreprocess):
        preprocess = preprocess.changed(**_pixel_constants(opened.source, rows["train"]).model_dump())
    task = Task.of(
        {
            "name": wanted.name,
            "inputs": spec_of(preprocess),
            "target": target,
            "preprocess": preprocess,
            "private_to": options.group(wanted.name),
            "metric": wanted.metric,
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
        return Features(size=len(preprocess.columns))
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

    Example:
        >>> import torch
        >>> x, y = torch.rand(20, 3, 8, 8), torch.arange(20) % 2
        >>> arrays("toy", (x, y), labels=("cat", "dog")).task.inputs.shape
        (3, 8, 8)
    """
    from polypath.data.given import from_arrays

    given = {"train": train, "validation": val, "test": test}
    pairs = {split: pair for split, pair in given.items() if pair is not None}
    dataset = from_arrays(pairs, images.Shape(), name, labels, columns=columns)
    values = {
        "dataset": name,
        "train": "train",
        "test": "test" if test is not None else None,
        "validation": "validation" if val is not None else None,
        "normalise": normalise,
        "augment": augmentation(augment),
        "private_to": private_to,
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
    if dataset.entry is not None:
        facts["licence"] = dataset.entry.licence
        if dataset.entry.remark:
            facts["remark"] = dataset.entry.remark
    return facts


def _constants(dataset: DataSet, options: DataOptions, train: np.ndarray) -> Constants:
    assert dataset.pixels is not None and dataset.source is not None
    channels = dataset.pixels.channels
    given, entry = options.normalise, dataset.entry
    if isinstance(given, Constants):
        if len(given.mean) != channels or len(given.std) != channels:
            raise InvalidInput(f"normalise: {channels} numbers required (one a channel), received {given}")
        return given
    if given in ("none", "task"):
        return Constants(mean=(0.0,) * channels, std=(1.0,) * channels)
    if given is None and entry is not None and entry.mean and entry.std and len(entry.mean) == channels:
        return Constants(mean=entry.mean, std=entry.std)
    return _pixel_constants(dataset.source, train)


def _pixel_constants(source: Source, rows: np.ndarray) -> Constants:
    """Exact channel statistics from the histogram of pixel values (a sample of the images where they stream)."""
    if source.streams:
        rows = rows[:_SAMPLE]
    counts: np.ndarray | None = None
    for some in np.array_split(np.sort(rows), max(1, len(rows) // 4096)):
        pixels = source.take(torch.from_numpy(some)).numpy()
        found = np.stack([np.bincount(pixels[:, c].reshape(-1), minlength=256) for c in range(pixels.shape[1])])
        counts = found if counts is None else counts + found
    assert counts is not None
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = (counts * values).sum(axis=1) / total
    variance = (counts * (values[None] - mean[:, None]) ** 2).sum(axis=1) / total
    std = np.sqrt(variance)
    return Constants(mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))


def _offset_and_unit(values: torch.Tensor, scale: Scale) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What is subtracted from every column and what it is then divided by; the unit of a constant column is 1."""
    if scale == "minmax":
        offset, unit = values.amin(dim=0), values.amax(dim=0) - values.amin(dim=0)
    elif scale == "none":
        offset, unit = torch.zeros_like(values[0]), torch.ones_like(values[0])
    else:
        offset, unit = values.mean(dim=0), values.std(dim=0, correction=0)
    return tuple(offset.tolist()), tuple(torch.where(unit > 0, unit, torch.ones_like(unit)).tolist())


def _tokens(texts: Sequence[str], train: np.ndarray, options: DataOptions) -> tuple[TextPreprocess, torch.Tensor]:
    """Vocabulary of the training texts, most frequent word first, and all texts in its numbers.

    The same numbers as `TextPreprocess.decode` gives, with every text cut into words once.
    """
    cut_up = [words(text) for text in texts]
    counts: Counter[str] = Counter()
    for row in train.tolist():
        counts.update(cut_up[row])
    frequent = sorted((-count, word) for word, count in counts.items() if count >= options.min_count)
    kept = tuple(word for _, word in frequent[: options.words])
    ids = {word: number for number, word in enumerate(kept, start=2)}
    tokens = np.zeros((len(texts), options.length), dtype=np.int64)
    for row, found in enumerate(cut_up):
        numbers = [ids.get(word, 1) for word in found[: options.length]]
        tokens[row, : len(numbers)] = numbers
    return TextPreprocess.of({"vocabulary": kept, "length": options.length}), torch.from_numpy(tokens)
