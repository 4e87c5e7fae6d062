"""Tables of what stands behind the main metric: F1 by label, and tasks that answer one question together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polypath.report.tables import Grid, measured


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
