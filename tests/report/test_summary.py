"""Means, deviations and paired differences, by hand."""

from __future__ import annotations

import json
from math import sqrt

import pytest

from polypath.core.result import Lifelong
from polypath.report.summary import lower_is_better, spread, summarise, write_summary


def with_tests(samples, variant, seed, values, metric="accuracy", **changes):
    """A record whose tasks have just these test values."""
    result = samples.sample(variant, seed, tasks=tuple(values))
    tasks = [task.changed(test={metric: values[task.name]}) for task in result.tasks]
    return result.changed(tasks=tasks, **changes)


def test_spread_by_hand():
    # mean of 1, 2, 6 is 3; squared deviations 4 + 1 + 9 = 14, over n - 1 = 2 is 7
    assert spread([1, 2, 6]) == {"mean": 3.0, "sd": pytest.approx(sqrt(7)), "n": 3}
    assert spread([5]) == {"mean": 5.0, "sd": None, "n": 1}
    assert spread([]) is None


def test_figures_per_task_and_overall(samples):
    results = [with_tests(samples, "a", 0, {"s": 0.8, "t": 0.6}), with_tests(samples, "a", 1, {"s": 0.6, "t": 0.2})]
    figures = summarise(results)["variants"]["a"]
    assert figures["tasks"]["s"]["test"]["accuracy"] == {
        "mean": pytest.approx(0.7),
        "sd": pytest.approx(sqrt(0.02)),
        "n": 2,
    }
    # overall: each seed's mean over tasks (0.7 and 0.4), then mean and deviation over seeds
    assert figures["overall"]["accuracy"] == {"mean": pytest.approx(0.55), "sd": pytest.approx(sqrt(0.045)), "n": 2}
    assert figures["seeds"] == [0, 1]
    # 9 layers x 4 modules of the grid (methods.md: one path 43,995,648) and 5,130 outputs
    assert figures["tasks"]["s"]["parameters"]["mean"] == 43_995_648 + 5_130
    assert figures["timing"]["train_s"]["mean"] == 280.75


def test_added_parameters_and_flops_are_in_every_task(samples):
    results = [with_tests(samples, "a", seed, {"s": 0.5, "t": 0.5}) for seed in (0, 1)]
    tasks = summarise(results)["variants"]["a"]["tasks"]
    added = [r.tasks[1].added_parameters for r in results]
    assert tasks["t"]["added_parameters"]["mean"] == sum(added) / 2
    assert tasks["t"]["flops"] == {"mean": 2_220_000_000.0, "sd": 0.0, "n": 2}


def test_paired_differences_use_common_seeds_only(samples):
    results = [with_tests(samples, "a", s, {"t": v}) for s, v in ((0, 0.5), (1, 0.7), (2, 0.1))]
    results += [with_tests(samples, "b", s, {"t": v}) for s, v in ((1, 0.4), (0, 0.4), (7, 0.9))]
    (pair,) = summarise(results)["paired"]
    assert pair["variants"] == ["a", "b"]
    figure = pair["overall"]["accuracy"]
    # seed 0: 0.1, seed 1: 0.3
    assert figure["by_seed"] == {"0": pytest.approx(0.1), "1": pytest.approx(0.3)}
    assert (figure["mean"], figure["sd"], figure["n"]) == (pytest.approx(0.2), pytest.approx(sqrt(0.02)), 2)
    assert pair["tasks"]["t"]["mean"] == pytest.approx(0.2)


def test_a_paired_difference_compares_common_tasks_only(samples):
    results = [with_tests(samples, "a", 0, {"easy": 0.9}), with_tests(samples, "b", 0, {"easy": 0.9, "hard": 0.1})]
    (pair,) = summarise(results)["paired"]
    assert pair["overall"]["accuracy"]["mean"] == 0.0
    assert pair["tasks"]["hard"] is None


def test_metrics_are_never_mixed_into_one_mean(samples):
    result = samples.sample("a", 0, tasks=("s", "t"))
    tasks = [result.tasks[0].changed(test={"accuracy": 0.5}), result.tasks[1].changed(test={"mse": 20.0})]
    summary = summarise([result.changed(tasks=tasks)])
    assert summary["metrics"] == ["accuracy", "mse"]
    assert {m: f["mean"] for m, f in summary["variants"]["a"]["overall"].items()} == {"accuracy": 0.5, "mse": 20.0}


def test_matrices_are_averaged_cell_by_cell_over_the_seeds_that_have_the_cell(samples):
    matrices = ([[0.2, None], [0.4, 0.6]], [[0.4, None]])
    results = [
        with_tests(samples, "a", s, {"s": 0.1, "t": 0.1}, lifelong=Lifelong(matrix=m)) for s, m in enumerate(matrices)
    ]
    matrix = summarise(results)["variants"]["a"]["lifelong"]["matrix"]
    assert matrix[0][0] == {"mean": pytest.approx(0.3), "sd": pytest.approx(sqrt(0.02)), "n": 2}
    assert matrix[0][1] is None
    assert matrix[1] == [{"mean": 0.4, "sd": None, "n": 1}, {"mean": 0.6, "sd": None, "n": 1}]


@pytest.mark.parametrize(
    ("metric", "lower"),
    [("mse", True), ("test_mae", True), ("loss", True), ("accuracy", False), ("r2", False), ("closeness", False)],
)
def test_direction_of_metrics(metric, lower):
    assert lower_is_better(metric) is lower


def test_no_result_gives_an_empty_summary():
    assert summarise([]) == {
        "recipe": None,
        "suite": None,
        "size": None,
        "main": None,
        "metrics": [],
        "tasks": [],
        "variants": {},
        "paired": [],
    }


def test_write_summary_writes_strict_json_with_what_is_missing(samples, make_run):
    run = make_run([with_tests(samples, "a", 0, {"t": 0.5})], {"seeds": 2})
    path = write_summary(run)
    assert path == run / "summary.json"
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert written["missing"] == ["Variant a, seed 1: not started."]
    assert written["variants"]["a"]["overall"]["accuracy"] == {"mean": 0.5, "sd": None, "n": 1}
    before = path.read_bytes()
    assert write_summary(run).read_bytes() == before
