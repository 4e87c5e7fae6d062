"""The configuration of each kind of suite."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from polypath.core.config import Config
from polypath.data.options import DataOptions
from polypath.data.partition import Order


class SuiteOptions(DataOptions):
    """What every suite over one data set has.

    Args:
        name: of the suite; None: made from the data set and the kind.
    """

    name: str | None = None


class SplitConfig(SuiteOptions):
    """The classes of one data set dealt out to tasks.

    Args:
        column: class column; None: the data set's first.
        tasks, classes_per_task: one may be left out.
        order: consecutive class numbers, or dealt out at random from the seed.
        classes: names or numbers of every task's classes, instead of tasks and order.
        prefix: tasks are called prefix1, prefix2, ...
        names: what they are called instead.
        head: `own`: one output a class of the task; `all`: one for every class of the column, of which a task never
            sees the others (the networks of RSN2's easy/hard experiment have ten outputs for five classes).
    """

    kind: Literal["split"] = "split"
    column: str | None = None
    tasks: int | None = Field(None, gt=0)
    classes_per_task: int | None = Field(None, gt=0)
    order: Order = "consecutive"
    classes: tuple[tuple[int | str, ...], ...] | None = None
    prefix: str = "task"
    names: tuple[str, ...] | None = None
    head: Literal["own", "all"] = "own"


class WholeConfig(SuiteOptions):
    """One data set as one task.

    Args:
        column: target column; None: the data set's first.
        task: name of the task; None: the data set's.
    """

    kind: Literal["whole"] = "whole"
    column: str | None = None
    task: str | None = None


class Level(Config):
    """One level of a hierarchy: classes made from the classes of a column.

    Args:
        name: of the level and its task.
        column: whose classes they are.
        groups: group -> its classes.
    """

    name: str
    column: str
    groups: dict[str, tuple[str, ...]]


class HierarchyConfig(SuiteOptions):
    """Several labellings of the same images, coarse to fine; every task has all images.

    Args:
        levels: columns, groupings of the catalogue ("group" of cifar100) or groupings given here; None: all that the
            catalogue knows, coarsest first.
    """

    kind: Literal["hierarchy"] = "hierarchy"
    levels: tuple[str | Level, ...] | None = None


class Attribute(Config):
    """One task over attributes of the same images.

    Args:
        name: of the task; None: the column's.
        column: one attribute.
        columns: several binary attributes that one task answers together, instead of `column`.
        bins: ascending cut-offs; the class of a number is how many of them it exceeds.
        kind: how a number column is read where there are no bins; `binary`: one output with a sigmoid for a column of
            two classes (is it the second?), where a classification has two outputs with a softmax.
        metric: what the task is judged by; None follows from the target.
    """

    name: str | None = None
    column: str | None = None
    columns: tuple[str, ...] | None = None
    bins: tuple[float, ...] | None = None
    kind: Literal["classification", "regression", "binary"] | None = None
    metric: str | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Attribute:
        if (self.column is None) == (self.columns is None):
            raise ValueError("either column or columns is required")
        if self.columns is not None and self.name is None:
            raise ValueError("several columns need a name")
        if self.bins is not None and (list(self.bins) != sorted(set(self.bins)) or not self.bins):
            raise ValueError("bins must be ascending numbers")
        if self.kind == "binary" and (self.columns is not None or self.bins is not None):
            raise ValueError("kind='binary' needs one column of two classes, without bins")
        return self


class AttributesConfig(SuiteOptions):
    """Several attributes of the same examples, one task each, sharing one source; one column may be there twice.

    Args:
        attributes: column names or `Attribute`s; None: every column that the catalogue knows.
    """

    kind: Literal["attributes"] = "attributes"
    attributes: tuple[str | Attribute, ...] | None = None


class OneVsRestConfig(SuiteOptions):
    """One task a class: is it this class?

    Args:
        column: class column.
        classes: names or numbers of the classes that get a task; None: all.
        balanced: take only as many of the rest as there are of the class, in every split (half positives).
    """

    kind: Literal["one_vs_rest"] = "one_vs_rest"
    column: str | None = None
    classes: tuple[int | str, ...] | None = None
    balanced: bool = True


class PairsConfig(SuiteOptions):
    """One task for each pair of classes.

    Args:
        column: class column.
        pairs: names or numbers; None: 0 and 1, 2 and 3, ...
        order: of the pairs where none are given.
    """

    kind: Literal["pairs"] = "pairs"
    column: str | None = None
    pairs: tuple[tuple[int | str, int | str], ...] | None = None
    order: Order = "consecutive"


class MixConfig(Config):
    """Several suites as one.

    Args:
        suites: configurations; a plain data set name stands for the whole set as one task.
        seed: of those that give none.
        name: of the suite.
    """

    kind: Literal["mix"] = "mix"
    suites: tuple[dict[str, Any], ...] = Field(min_length=1)
    seed: int = 0
    name: str | None = None
