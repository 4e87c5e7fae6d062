"""The checks of an evolved system find what they are there to find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polypath as pp
from polypath.analysis.evolution import evolution_record, leaks, score_falls
from polypath.nn.layered import Layered
from polypath.testing import tiny_features

TINY: dict[str, Any] = {
    "root": {"kind": "mlp", "hidden": [6]},
    "iterations": 1,
    "generations": 1,
    "children": 1,
    "cycles": 1,
    "batch": 5,
    "threads": 1,
    "progress": False,
}


def test_only_a_lower_score_in_a_later_iteration_is_a_fall() -> None:
    rows = [("a", 0.5), ("b", 0.9), ("a", 0.5), ("b", 0.8), ("a", 0.7), ("b", 0.85)]
    growth = [{"retained": task, "activation": n, "score": score} for n, (task, score) in enumerate(rows)]
    assert score_falls(growth) == [{"task": "b", "activation": 3, "before": 0.9, "after": 0.8}]


def test_steps_on_private_data_in_another_tasks_layer_are_a_leak() -> None:
    suite = tiny_features(3)
    last = suite.tasks[2]
    hidden = replace(last, task=last.task.changed(private_to="clinic"))
    network = pp.learn("mu2net", replace(suite, tasks=(*suite.tasks[:2], hidden)), **TINY).network
    assert isinstance(network, Layered)
    record = evolution_record(network, [])
    assert record["checks"] == {"score_falls": [], "leaks": []}
    first, second, third = network.tasks
    # 10, 11 and 12 rows in batches of five, a single one joined to the batch before: 2, 2 and 3 steps.
    assert [model["steps"][model["task"]] for model in record["models"]] == [2, 2, 3]
    _, name = network.model_of(first).layers[-1]
    network.records[name] = network.records[name].changed(steps={first: 2, third: 1})
    assert leaks(network) == [{"task": first, "data": third}]
    _, name = network.model_of(third).layers[-1]
    network.records[name] = network.records[name].changed(steps={second: 2, third: 1})
    assert leaks(network) == [{"task": first, "data": third}], "what is public may be used by a private task"
