"""Tables of what stands beside the main metric: other metrics, F1 by label, tasks that answer one question together."""

from __future__ import annotations

from collections.abc import Mapping
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
    variants = summary["variants"]
    known: dict[tuple[str, str], None] = {}
    for task in summary["tasks"]:
        for figures in (v["tasks"][task] for v in variants.values() if task in v["tasks"]):
            known |= dict.fromkeys((task, name) for name in figures["test"] if name not in {figures["metric"], *LOSSES})
    if not known:
        return None
    rows = [
        (task, name, *(measured(v["tasks"].get(task, {}).get("test", {}).get(name)) for v in variants.values()))
        for task, name in known
    ]
    used = {name for _, name in known}.union(summary["metrics"])
    notes = tuple(text for name, text in UNITS.items() if name in used)
    return Grid("Other test metrics", ("task", "metric", *variants), tuple(rows), notes)


def f1_grid(summary: Mapping[str, Any]) -> Grid | None:
    """Test F1 of every label of every task by variant, mean ± sample standard deviation over seeds; None without any.

    Args:
        summary: as `polypath.report.summary.summarise` returns it.
    """
    variants = summary["variants"]
    known: dict[tuple[str, str], None] = {}
    for task in summary["tasks"]:
        for variant in variants.values():
            known |= dict.fromkeys((task, label) for label in variant["tasks"].get(task, {}).get("f1", {}))
    if not known:
        return None
    rows = [
        (task, label, *(measured(v["tasks"].get(task, {}).get("f1", {}).get(label)) for v in variants.values()))
        for task, label in known
    ]
    note = "A label that is neither true nor answered anywhere has no F1."
    return Grid("Test F1 by label", ("task", "label", *variants), tuple(rows), (note,))


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
