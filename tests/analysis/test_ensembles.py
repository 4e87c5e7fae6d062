"""Which tasks answer together, and what the record says of them."""

from __future__ import annotations

import pytest
import torch

import polypath as pp
from polypath.analysis import ensembles
from polypath.metrics import accuracy
from polypath.metrics.evaluation import outputs_of

SETTINGS = {"backbone": {"kind": "mlp", "hidden": [8]}, "epochs": 2, "batch": 16, "threads": 1, "device": "cpu"}


def learned(suite):
    return pp.learn("single", suite, precision="32-true", progress=False, **SETTINGS)


def test_tasks_over_one_test_set_are_one_ensemble():
    names = ["net1", "net2", "net3"]
    same = {"kind": "attributes", "dataset": "digits", "per_class": 8, "test_per_class": 6}
    other = {"kind": "split", "dataset": "digits", "tasks": 2, "classes_per_task": 2, "per_class": 8}
    suite = pp.data.mix([{**same, "attributes": [{"name": n, "column": "label"} for n in names]}, other])
    system = learned(suite)
    (record,) = ensembles(system.network, suite)
    assert record["tasks"] == names and list(record["members"]) == names
    test = suite["net1"].test.unseal()
    sums = torch.zeros(len(test), 10, dtype=torch.float64)
    for name in names:
        outputs = outputs_of(system.network.extract(name), suite[name].task, test)
        sums += outputs.double().softmax(1)
        assert record["members"][name]["accuracy"] == accuracy(outputs, test.targets)
    assert record["test"]["accuracy"] == float((sums.argmax(1) == test.targets).double().mean())
    assert set(record["f1"]) <= set(map(str, range(10)))


def test_no_ensemble_where_questions_differ():
    suite = pp.data.split("digits", tasks=2, classes_per_task=2, per_class=8)
    assert ensembles(learned(suite).network, suite) == []


def test_records_hold_f1_by_label():
    suite = pp.data.split("digits", tasks=1, classes_per_task=2, per_class=8)
    (task,) = learned(suite).result.tasks
    (a, b), (c, d) = task.confusion  # rows true, columns answered
    assert task.f1 == {"0": pytest.approx(2 * a / (2 * a + b + c)), "1": pytest.approx(2 * d / (2 * d + b + c))}
