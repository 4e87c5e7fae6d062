"""A user's own tasks: the content of a tasks.yaml made into tasks, with every mistake reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from polypath.core.config import Config, describe, shown
from polypath.core.errors import UnknownName
from polypath.core.examples import Suite
from polypath.core.task import METRICS_OF, composed
from polypath.data.columns import Missing
from polypath.data.options import DataOptions, expressions
from polypath.data.own_tasks import Entry, Workshop
from polypath.data.problems import Collected, Place
from polypath.data.sources import SCHEMES, resolved
from polypath.ops.losses import LOSSES

METRICS = list(dict.fromkeys(name for names in METRICS_OF.values() for name in names))
Positive = Annotated[float, Field(ge=0)]


class OwnTask(DataOptions):
    """One task of a tasks.yaml: where its examples are, and optionally more.

    Args:
        name: of the task; unique.
        dataset: where the examples are: `folder:PATH`, `csv:PATH`, `parquet:PATH`, `npz:PATH` or a catalogue name.
        inputs: input column(s) of csv and parquet; None: all but the columns that any task of the same data uses as
            target, split or group.
        target: target column; several binary ones make a multi-label task; None: the data set's own.
        target_kind: how the target is read; None: texts and truth values are classes, whole numbers are classes where
            there are at most 100 different ones, other numbers are a regression.
        classes: only these classes, in this order.
        missing: rows without a label: `skip` leaves rows with an empty cell out, `skip_nan` those with NaN too,
            `refuse` wants a label in every row.
        split_column: column that says train, validation or test.
        group_column: column whose equal values (one patient, one site) stay together in train, validation or test.
        loss, metric: instead of those that follow from the target.
        class_weights: weight of each label in the loss: a list in the order of the labels, label: weight, or
            `balanced` (as if every class were equally frequent).
        loss_weight: factor of the task's loss beside other tasks'.
        private_to: access group that alone may use the task.
    """

    name: str
    target: str | tuple[str, ...] | None = None
    target_kind: Literal["classification", "regression"] | None = None
    classes: tuple[int | str, ...] | None = None
    missing: Missing = "skip"
    split_column: str | None = None
    group_column: str | None = None
    loss: str | None = None
    metric: str | None = None
    class_weights: Literal["balanced"] | dict[str, Positive] | tuple[Positive, ...] | None = None
    loss_weight: float = Field(1.0, gt=0)
    private_to: str | None = None
    seed: int = 0

    @field_validator("name")
    @classmethod
    def _composed(cls, name: str) -> str:
        return composed(name)

    @field_validator("class_weights", mode="before")
    @classmethod
    def _labels_as_texts(cls, value: Any) -> Any:
        # YAML reads an unquoted label True or 3 as a truth value or a number.
        return {str(key): weight for key, weight in value.items()} if isinstance(value, Mapping) else value

    @field_validator("classes", mode="before")
    @classmethod
    def _truth_values_are_labels(cls, value: Any) -> Any:
        return [str(one) if isinstance(one, bool) else one for one in value] if isinstance(value, list) else value


class OwnConfig(Config):
    """The content of a tasks.yaml.

    Args:
        tasks: in learning order.
        name: of the suite; None: the file's.
        seed: of the tasks that give none.
        defaults: settings of every task that does not give its own.
    """

    kind: Literal["own"] = "own"
    name: str = "own"
    seed: int = 0
    defaults: dict[str, Any] = {}
    tasks: tuple[OwnTask, ...] = Field(min_length=1)


def own_suite(values: Mapping[str, Any], root: Path | str) -> Suite:
    """The suite of a user's own tasks.

    Args:
        values: the fields of `OwnConfig`.
        root: folder that relative paths start from.

    Raises:
        Mistakes: everything that is wrong, each with its place.
    """
    name = str(values.get("name", "own"))
    problems = Collected()
    entries = _entries(values, problems)
    workshop = Workshop(problems, root)
    made = workshop.made(entries)
    problems.check(name)
    settled = [_settled(entry, root) for entry in entries]
    config = OwnConfig.of({**{k: v for k, v in values.items() if k != "defaults"}, "tasks": settled}, "own")
    return Suite(config.name, tuple(made), config.seed, config.model_dump(mode="json", exclude={"defaults"}))


def _entries(values: Mapping[str, Any], problems: Collected) -> list[Entry]:
    """Every task whose settings are right by themselves."""
    for key in values:
        if key not in OwnConfig.model_fields:
            problems.add((key,), str(UnknownName("key of tasks.yaml", str(key), OwnConfig.model_fields)))
    given = values.get("tasks")
    if not isinstance(given, (list, tuple)) or not given:
        problems.add(("tasks",), "own: a list of at least one task is required under tasks")
        problems.check(str(values.get("name", "own")))
    assert isinstance(given, (list, tuple))
    defaults = {} if values.get("defaults") is None else values["defaults"]  # nothing but comments below it
    if not isinstance(defaults, Mapping):
        problems.add(("defaults",), f"defaults: a mapping of settings is required, received {shown(defaults)}")
        defaults = {}
    entries = []
    for number, raw in enumerate(given):
        if not isinstance(raw, Mapping):
            where = f"tasks[{number + 1}]"
            said = f"{where}: a mapping with name and dataset is required, received {shown(raw)}"
            problems.add(("tasks", number), said)
            continue
        task = _checked({"seed": values.get("seed", 0), **defaults, **raw}, raw, number, problems)
        if task is not None:
            entries.append(Entry(number, task))
    _same_names(given, problems)
    return entries


def _checked(values: Mapping[str, Any], raw: Mapping[str, Any], number: int, problems: Collected) -> OwnTask | None:
    """The task, or None where any of its settings is wrong; all of them are noted."""
    where = f"task {values['name']!r}" if "name" in values else f"tasks[{number + 1}]"

    def place(key: str) -> Place:
        return ("tasks", number, key) if key in raw or key not in values else ("defaults", key)

    for key in values:
        if key not in OwnTask.model_fields:
            problems.add(place(str(key)), _unknown(f"key of {where}", str(key), values[key]))
    for key, names in {"loss": list(LOSSES), "metric": METRICS}.items():
        if isinstance(values.get(key), str) and values[key] not in names:
            problems.add(place(key), f"{where}: {UnknownName(key, values[key], names)}")
    known = {key: value for key, value in values.items() if key in OwnTask.model_fields}
    try:
        task = OwnTask.model_validate(known)
    except ValidationError as error:
        wrong = _by_key(error)
        for key, text in wrong:
            if key == "dataset" and "dataset" not in values and not values.keys().isdisjoint(SCHEMES):
                continue  # said already: what was written instead
            problems.add(place(key) if key else ("tasks", number), f"{where}: {text}")
        if not {key for key, _ in wrong} <= OwnTask.model_fields.keys() - OF_DATA:
            return None
        # Its data can be looked at all the same, so that what is wrong there is told at once.
        wrongly = {key for key, _ in wrong}
        task = OwnTask.model_validate({key: value for key, value in known.items() if key not in wrongly})
    return task


def _unknown(what: str, key: str, value: Any) -> str:
    """What is wrong with a key no task has, and how it is written instead."""
    if key in SCHEMES:
        shown = value if isinstance(value, str) else "PATH"
        return f"unknown {what} {key!r}. Write: dataset: {key}:{shown}"
    meant = MEANT.get(key.lower())
    said = str(UnknownName(what, key, OwnTask.model_fields))
    return said if meant is None or "Did you mean" in said else f"unknown {what} {key!r}. Did you mean {meant!r}?"


# Other words for the same thing, too far from ours for a typing mistake.
MEANT = {"data": "dataset", "path": "dataset", "file": "dataset", "files": "dataset", "source": "dataset"} | {
    "label": "target", "labels": "target", "y": "target", "output": "target", "x": "inputs", "features": "inputs",
    "columns": "inputs", "text": "inputs", "image": "inputs", "type": "target_kind", "kind": "target_kind",
    "val": "validation", "weights": "class_weights", "weight": "loss_weight", "access": "private_to",
    "group": "group_column", "split": "split_column",
}  # fmt: skip


# Settings without which nothing can be said about a task's data.
OF_DATA = {
    "name",
    "dataset",
    "inputs",
    "target",
    "target_kind",
    "classes",
    "categorical",
    "missing",
    "missing_inputs",
} | {
    "split_column",
    "group_column",
}


def _by_key(error: ValidationError) -> list[tuple[str, str]]:
    """(key, sentence) of a failed validation; what a key of several types says for each of them is one sentence."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for problem in error.errors():
        found.setdefault(str(problem["loc"][0]) if problem["loc"] else "", []).append(problem)
    out = []
    for key, several in found.items():
        if len(several) == 1 and len(several[0]["loc"]) <= 1:
            out.append((key, describe(several[0])))
            continue
        wanted = dict.fromkeys(
            str(p["msg"]).removeprefix("Value error, ").removeprefix("Input should be ") for p in several
        )
        shown = repr(several[0].get("input")) if len({repr(p.get("input")) for p in several}) == 1 else "another value"
        out.append((key, f"{key}: {' or '.join(wanted)} is required; received {shown[:80]}"))
    return out


def _same_names(given: Sequence[Any], problems: Collected) -> None:
    seen: dict[str, int] = {}
    told: set[str] = set()
    for number, raw in enumerate(given):
        name = raw.get("name") if isinstance(raw, Mapping) else None
        if name is None:
            continue
        name = composed(str(name))
        if name in seen and name not in told:
            problems.add(("tasks", number, "name"), f"two tasks are called {name!r}; task names must differ")
            told.add(name)
        seen.setdefault(name, number)


def _settled(entry: Entry, root: Path | str) -> dict[str, Any]:
    """The task's settings with what was found, so that the same suite can be built again."""
    task = entry.task
    found: dict[str, Any] = {"dataset": resolved(task.dataset, root), "inputs": entry.inputs}
    if task.split_column is None and task.group_column is None:
        chosen = expressions(task, entry.parts)
        found |= {"train": chosen["train"], "test": chosen.get("test")}
    return task.changed(**found).model_dump(mode="json")
