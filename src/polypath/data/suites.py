"""Suites: ordered lists of tasks made from data sets, each described by a configuration in plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Suite, TaskData
from polypath.core.seeds import derive
from polypath.core.task import Classification, MultiLabel, Regression
from polypath.data import partition
from polypath.data.catalogue import Grouping
from polypath.data.columns import Column, DataSet, grouped
from polypath.data.configs import (
    Attribute,
    AttributesConfig,
    HierarchyConfig,
    Level,
    MixConfig,
    OneVsRestConfig,
    PairsConfig,
    SplitConfig,
    SuiteOptions,
    WholeConfig,
)
from polypath.data.options import expressions
from polypath.data.own import OwnConfig, own_suite
from polypath.data.sources import is_plain, open_source, resolved
from polypath.data.tasks import Opened, Wanted, class_numbers, classification, cut, prepare, target_of
from polypath.data.tasks_file import load_own, located

Made = tuple[list[TaskData], dict[str, Any]]


def class_column(dataset: DataSet, name: str | None) -> tuple[Column, tuple[str, ...]]:
    """A column that holds classes, with its labels.

    Raises:
        InvalidInput: it holds numbers.
    """
    found, column = dataset.column(name)
    if column.labels is None or column.values.ndim != 1:
        raise InvalidInput(f"{dataset.name}: column {found!r} holds numbers; classes are required here")
    return column, column.labels


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


def hierarchy(dataset: Any, levels: Sequence[Any] | None = None, *, seed: int = 0, **options: Any) -> Suite:
    """Several labellings of the same images, one task each, sharing one source; options of `HierarchyConfig`."""
    return _make(HierarchyConfig, dataset, {"levels": levels, "seed": seed, **options})


def attributes(dataset: Any, attributes: Sequence[Any] | None = None, *, seed: int = 0, **options: Any) -> Suite:
    """Several attributes of the same examples, one task each, sharing one source; options of `AttributesConfig`.

    One column under several names makes tasks that are the same but for their names (an ensemble).
    """
    return _make(AttributesConfig, dataset, {"attributes": attributes, "seed": seed, **options})


def one_vs_rest(dataset: Any, classes: Sequence[int | str] | None = None, *, seed: int = 0, **options: Any) -> Suite:
    """One task a class (DF-CNN's homogeneous tasks); options of `OneVsRestConfig`."""
    return _make(OneVsRestConfig, dataset, {"classes": classes, "seed": seed, **options})


def pairs(dataset: Any, pairs: Sequence[Sequence[int | str]] | None = None, *, seed: int = 0, **options: Any) -> Suite:
    """One task a pair of classes (DF-CNN's heterogeneous tasks); options of `PairsConfig`."""
    return _make(PairsConfig, dataset, {"pairs": pairs, "seed": seed, **options})


def mix(suites: Sequence[Mapping[str, Any] | str], *, seed: int = 0, name: str | None = None) -> Suite:
    """Several suites as one, tasks in the order given; a name that occurs twice gets its data set's in front.

    Args:
        suites: configurations (`kind` and its settings) or plain data set names (the whole set as one task).
        seed: of those that give none.
        name: of the suite.
    """
    return build({"kind": "mix", "suites": list(suites), "seed": seed, "name": name})


def own(tasks: str | Path | Mapping[str, Any]) -> Suite:
    """The user's own tasks, from a tasks.yaml or the same content as a mapping (docs/data.md).

    Raises:
        InvalidInput: everything that is wrong in the file, at once, with its lines.
    """
    if isinstance(tasks, Mapping):
        return build({"kind": "own", **tasks})
    file = Path(tasks)
    with located(file):
        return build({"kind": "own", **load_own(file)})


def _split(config: SplitConfig, dataset: DataSet) -> Made:
    column, labels = class_column(dataset, config.column)
    if config.classes is not None:
        chosen = [class_numbers(given, labels, f"task {n}") for n, given in enumerate(config.classes, start=1)]
        sizes: dict[str, Any] = {"tasks": len(chosen)}
    else:
        tasks, each = partition.sizes(len(labels), config.tasks, config.classes_per_task)
        chosen = partition.deal(len(labels), tasks, each, config.order, config.seed)
        sizes = {"tasks": tasks, "classes_per_task": each}
    names = config.names or tuple(f"{config.prefix}{number}" for number in range(1, len(chosen) + 1))
    if len(names) != len(chosen):
        raise InvalidInput(f"names: one for each of the {len(chosen)} tasks is required, received {list(names)}")
    opened = prepare(dataset, config, column.values, labels)
    subset = one_of_all if config.head == "all" else one_of
    made = [cut(opened, subset(name, column, labels, classes)) for name, classes in zip(names, chosen, strict=True)]
    return made, sizes


def one_of_all(name: str, column: Column, labels: Sequence[str], classes: Sequence[int]) -> Wanted:
    """The same task with an output for every class of the column, numbered as there; the others never occur."""
    unused = tuple(label for number, label in enumerate(labels) if number not in classes)
    target = Classification.of({"labels": tuple(labels), "unused": unused}, f"task {name!r}")
    return Wanted(name, target, np.where(np.isin(column.values, classes), column.values, -1))


def one_of(name: str, column: Column, labels: Sequence[str], classes: Sequence[int]) -> Wanted:
    """The task of telling some classes apart, renumbered in the order given."""
    table = partition.lookup(list(classes), len(labels)).numpy()
    return Wanted(name, classification([labels[number] for number in classes], name), table[column.values])


def _whole(config: WholeConfig, dataset: DataSet) -> Made:
    name = config.task or dataset.name
    _, column = dataset.column(config.column)
    opened = prepare(dataset, config, _strata(column), column.labels or ())
    made = cut(opened, Wanted(name, target_of(name, column.values, column.labels), column.values))
    return [made], {"task": name}


def _strata(column: Column) -> np.ndarray | None:
    return column.values if column.labels is not None and column.values.ndim == 1 else None


def _hierarchy(config: HierarchyConfig, dataset: DataSet) -> Made:
    levels = config.levels
    if levels is None:
        if dataset.entry is None:
            raise InvalidInput(f"{dataset.name}: levels are required; columns: {', '.join(dataset.targets)}")
        levels = (*dataset.entry.groupings, *dataset.entry.targets)
    found: dict[str, Column] = {}
    for level in levels:
        name = level if isinstance(level, str) else level.name
        if name in found:
            raise InvalidInput(f"hierarchy: level {name!r} is there twice")
        if isinstance(level, Level):
            base = class_column(dataset, level.column)[0]
            found[name] = grouped(base, Grouping(level.column, level.groups), name)
        else:
            found[name] = class_column(dataset, level)[0]
    if config.levels is None:  # coarsest first; the catalogue lists columns in the order of the files
        found = dict(sorted(found.items(), key=lambda item: len(item[1].labels or ())))
    finest = max(found.values(), key=lambda column: len(column.labels or ()))
    opened = prepare(dataset, config, finest.values, finest.labels or ())
    made = [
        cut(opened, Wanted(name, classification(column.labels or (), name), column.values))
        for name, column in found.items()
    ]
    return made, {"levels": levels if config.levels is not None else tuple(found)}


def _attributes(config: AttributesConfig, dataset: DataSet) -> Made:
    given = config.attributes
    if given is None:
        given = tuple(dataset.entry.targets) if dataset.entry else tuple(dataset.targets)
    wanted = [_attribute(dataset, Attribute(column=one) if isinstance(one, str) else one) for one in given]
    if not wanted:
        raise InvalidInput(f"{dataset.name}: at least one attribute is required")
    # Stratified by the attribute with most classes; a rare combination of several could not be in every slice.
    classed = [found for one in wanted if (found := _classes(one)) is not None]
    values, labels = max(classed, key=lambda found: len(found[1]), default=(None, ()))
    opened = prepare(dataset, config, values, labels)
    return [cut(opened, one) for one in wanted], {"attributes": given}


def _classes(wanted: Wanted) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Class numbers and labels to stratify by; None for numbers and for several labels at once."""
    if isinstance(wanted.target, Classification):
        return wanted.values, wanted.target.labels
    if isinstance(wanted.target, MultiLabel) and wanted.target.outputs == 1:
        return wanted.values[:, 0], (f"not {wanted.target.labels[0]}", wanted.target.labels[0])
    return None


def _attribute(dataset: DataSet, attribute: Attribute) -> Wanted:
    wanted = _answered(dataset, attribute)
    return wanted if attribute.metric is None else replace(wanted, metric=attribute.metric)


def _answered(dataset: DataSet, attribute: Attribute) -> Wanted:
    if attribute.columns is not None:
        name = str(attribute.name)
        flags = [class_column(dataset, column) for column in attribute.columns]
        many = [c for c, (_, labels) in zip(attribute.columns, flags, strict=True) if len(labels) != 2]
        if many:
            raise InvalidInput(f"task {name!r}: columns {many} are not binary")
        values = np.stack([column.values for column, _ in flags], axis=1)
        return Wanted(name, MultiLabel(labels=attribute.columns), values)
    column_name, column = dataset.column(attribute.column)
    name = attribute.name or column_name
    if attribute.kind == "binary":
        return _binary(name, column_name, column)
    if attribute.bins is not None:
        if column.labels is not None:
            raise InvalidInput(f"task {name!r}: bins need numbers, column {column_name!r} holds classes")
        values = (column.values[:, None] > np.asarray(attribute.bins)).sum(axis=1)
        return Wanted(name, classification(bin_labels(attribute.bins), name), values)
    if column.labels is None and attribute.kind == "classification":
        present, codes = np.unique(column.values, return_inverse=True)
        return Wanted(name, classification([str(value) for value in present.tolist()], name), codes.astype(np.int64))
    if attribute.kind == "regression":
        if column.labels is not None:
            raise InvalidInput(f"task {name!r}: a regression needs numbers, column {column_name!r} holds classes")
        return Wanted(name, Regression(), column.values.astype(np.float64))
    values = column.values if column.labels is not None else column.values.astype(np.float64)
    return Wanted(name, target_of(name, values, column.labels), values)


def _binary(name: str, column_name: str, column: Column) -> Wanted:
    if column.labels is None or len(column.labels) != 2 or column.values.ndim != 1:
        held = "numbers" if column.labels is None else f"{len(column.labels)} classes"
        raise InvalidInput(f"task {name!r}: kind='binary' needs two classes, column {column_name!r} holds {held}")
    return Wanted(name, MultiLabel(labels=column.labels[1:]), column.values[:, None], metric="accuracy")


def bin_labels(bins: Sequence[float]) -> list[str]:
    """Names of the classes between cut-offs: "to 10", "10 to 20", "over 20"."""
    inner = [f"{low:g} to {high:g}" for low, high in zip(bins[:-1], bins[1:], strict=True)]
    return [f"to {bins[0]:g}", *inner, f"over {bins[-1]:g}"]


def _one_vs_rest(config: OneVsRestConfig, dataset: DataSet) -> Made:
    column, labels = class_column(dataset, config.column)
    given = config.classes if config.classes is not None else tuple(labels)
    chosen = class_numbers(given, labels, dataset.name)
    opened = prepare(dataset, config, column.values, labels)
    made = []
    for number in chosen:
        mine = column.values == number
        keep = _balanced(opened, mine, config.seed, number) if config.balanced else None
        values = np.where(keep, mine, -1) if keep is not None else mine.astype(np.int64)
        target = classification(("rest", labels[number]), labels[number])
        made.append(cut(opened, Wanted(labels[number], target, values.astype(np.int64))))
    return made, {"classes": tuple(labels[number] for number in chosen)}


def _balanced(opened: Opened, mine: np.ndarray, seed: int, number: int) -> np.ndarray:
    """Rows to keep: all of the class, and in every split as many of the rest."""
    keep = mine.copy()
    draw = np.random.Generator(np.random.PCG64(derive(seed, "rest", number)))
    for rows in opened.rows.values():
        rest = rows[~mine[rows]]
        keep[draw.permutation(rest)[: int(mine[rows].sum())]] = True
    return keep


def _pairs(config: PairsConfig, dataset: DataSet) -> Made:
    column, labels = class_column(dataset, config.column)
    if config.pairs is not None:
        chosen = [class_numbers(pair, labels, dataset.name) for pair in config.pairs]
    else:
        chosen = partition.deal(len(labels), len(labels) // 2, 2, config.order, config.seed)
    opened = prepare(dataset, config, column.values, labels)
    made = [cut(opened, one_of(f"{labels[a]}-{labels[b]}", column, labels, (a, b))) for a, b in chosen]
    return made, {"pairs": tuple((labels[a], labels[b]) for a, b in chosen)}


_MAKERS: dict[type[SuiteOptions], Callable[[Any, DataSet], Made]] = {
    SplitConfig: _split,
    WholeConfig: _whole,
    HierarchyConfig: _hierarchy,
    AttributesConfig: _attributes,
    OneVsRestConfig: _one_vs_rest,
    PairsConfig: _pairs,
}
KINDS: dict[str, type[SuiteOptions] | type[MixConfig] | type[OwnConfig]] = {
    **{kind.model_fields["kind"].default: kind for kind in _MAKERS},
    "mix": MixConfig,
    "own": OwnConfig,
}


def _make(kind: type[SuiteOptions], dataset: Any, values: Mapping[str, Any], root: Path | str = ".") -> Suite:
    plain = is_plain(dataset)
    source = resolved(str(dataset), root) if plain else "arrays"
    config = kind.of({**values, "dataset": source}, "suite")
    column = getattr(config, "column", None)
    # The target column tells inputs from targets in files; a catalogue entry knows that itself.
    opened = open_source(
        source if plain else dataset,
        inputs=config.inputs,
        target=column if plain and ":" in source else None,
        shape=config.shape,
        categorical=config.categorical,
        missing_inputs=config.missing_inputs,
    )
    made, found = _MAKERS[kind](config, opened)
    names = [data.name for data in made]
    for name in config.private_to if isinstance(config.private_to, dict) else ():
        if name not in names:
            raise UnknownName("task of private_to", name, names)
    chosen = expressions(config, opened.parts)
    settled = config.changed(**found, train=chosen["train"], test=chosen.get("test"))
    title = config.name or f"{opened.name}/{config.model_dump()['kind']}{len(made)}"
    return Suite(title, tuple(made), config.seed, settled.model_dump(mode="json") if plain else {})


def _mix(values: Mapping[str, Any], root: Path | str) -> Suite:
    given = [{"kind": "whole", "dataset": one} if isinstance(one, str) else one for one in values.get("suites", ())]
    config = MixConfig.of({**values, "suites": given}, "suite")
    parts = [build({"seed": config.seed, **one}, root) for one in config.suites]
    names = [data.name for part in parts for data in part]
    made = []
    for part in parts:
        for data in part:
            clear = data.name if names.count(data.name) == 1 else f"{data.facts['dataset']}-{data.name}"
            made.append(
                data
                if clear == data.name
                else TaskData(data.task.renamed(clear), data.train, data.val, data.test, data.augment, data.facts)
            )
    settled = config.changed(suites=[part.config for part in parts])
    return Suite(
        config.name or "+".join(part.name for part in parts), tuple(made), config.seed, settled.model_dump(mode="json")
    )


def build(config: Mapping[str, Any], root: Path | str = ".") -> Suite:
    """The suite that a configuration in plain JSON describes; `build(suite.config)` builds the same suite again.

    Args:
        config: `kind` (split, whole, hierarchy, attributes, one_vs_rest, pairs, mix, own) and that kind's settings.
        root: folder that relative paths start from.

    Raises:
        UnknownName: unknown kind, key, data set, column or class; offers the nearest.
        InvalidInput: values or data that do not fit.
    """
    kind = config.get("kind")
    if kind not in KINDS:
        raise UnknownName("kind of suite", str(kind), KINDS)
    if kind == "mix":
        return _mix(config, root)
    if kind == "own":
        return own_suite(config, root)
    if "dataset" not in config:
        raise InvalidInput(f"suite of kind {kind!r}: dataset is required, but not given")
    chosen = KINDS[kind]
    assert issubclass(chosen, SuiteOptions)
    return _make(chosen, config["dataset"], {k: v for k, v in config.items() if k != "dataset"}, root)
