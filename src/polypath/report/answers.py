"""Tables of what stands beside the main metric: other metrics, F1 by label, tasks that answer one question together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from polypath.report.summary import LOSSES
from polypath.report.tables import Grid, measured

UNITS = {
    "mse": "mse is in squared units of the target.",
    "mae": "mae is in units of the target.",
    "r2": "r2 is 1 for perfect answers, and 0 for the mean of the test targets as every answer.",
}


def other_grid(summary: Mapping[str, Any]) -> Grid | None:
    """Test metrics that are recorded beside the main one, by task and variant; None without any.

    Args:
        summary: as `polypath.report.summary.summarise` returns it.
    """
    rows = _rows(summary, "test", lambda figures: [n for n in figures["test"] if n not in {figures["metric"], *LOSSES}])
    used = {row[1] for row in rows}.union(summary["metrics"])
    notes = tuple(text for name, text in UNITS.items() if name in used)
    return Grid("Other test metrics", ("task", "metric", *summary["variants"]), rows, notes) if rows else None


def f1_grid(summary: Mapping[str, Any]) -> Grid | None:
    """Test F1 of every label of every task by variant, mean ± sample standard deviation over seeds; None without any.

    Args:
        summary: as `polypath.report.summary.summarise` returns it.
    """
    rows = _rows(summary, "f1", lambda figures: figures.get("f1", {}))
    note = "A label that is neither true nor answered anywhere has no F1."
    return Grid("Test F1 by label", ("task", "label", *summary["variants"]), rows, (note,)) if rows else None


def _rows(
    summary: Mapping[str, Any], kind: str, named: Callable[[Mapping[str, Any]], Iterable[str]]
) -> tuple[tuple[str, ...], ...]:
    """A row for every task and every name that any variant has of it, with a cell a variant.

    Args:
        summary: as `polypath.report.summary.summarise` returns it.
        kind: of the figures of a task, by name.
        named: which names the figures of a task have.
    """
    variants = [variant["tasks"] for variant in summary["variants"].values()]
    known = {
        (task, name): None
        for task in summary["tasks"]
        for tasks in variants
        if task in tasks
        for name in named(tasks[task])
    }
    return tuple(
        (task, name, *(measured(tasks.get(task, {}).get(kind, {}).get(name)) for tasks in variants))
        for task, name in known
    )


def ensemble_grid(summary: Mapping[str, Any]) -> Grid | None:
    """Tasks with one test set: their common answer beside each alone; None where no variant recorded it."""
    rows = []
    for name, variant in summary["variants"].items():
        for group in variant["ensembles"]:
            count = len(group["tasks"])
            who = f"{group['tasks'][0]} to {group['tasks'][-1]} ({count})"
            rows.append((name, who, group["metric"], *(measured(group[key]) for key in ("together", "mean", "best"))))
    if not rows:
        return None
    header = ("variant", "tasks", "metric", "together", "alone, mean", "alone, best")
    return Grid("Ensembles", header, tuple(rows), ("Together: the class with the largest sum of softmax outputs.",))
