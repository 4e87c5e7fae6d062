"""F1 by label and ensembles: figures by hand, tables, the page, the paper's figures, parts that were never planned."""

from __future__ import annotations

import json

import pytest

from polypath.core.result import Lifelong
from polypath.report.answers import ensemble_grid, f1_grid, other_grid
from polypath.report.page import render
from polypath.report.records import read_run
from polypath.report.sections import matrices
from polypath.report.summary import summarise
from polypath.report.tables import reproduction_grid


def record(samples, variant, seed, f1, **changes):
    result = samples.sample(variant, seed, tasks=tuple(f1))
    return result.changed(tasks=[task.changed(f1=f1[task.name]) for task in result.tasks], **changes)


def together(accuracy, **members):
    """What the analysis `ensemble` writes."""
    values = {name: {"accuracy": value, "f1_macro": 0.1} for name, value in members.items()}
    return {"ensemble": [{"tasks": list(members), "test": {"accuracy": accuracy}, "f1": {}, "members": values}]}


@pytest.fixture
def results(samples):
    return [
        record(samples, "a", 0, {"s": {"cat": 0.5, "dog": 0.9}, "t": {}}, analysis=together(0.9, s=0.7, t=0.8)),
        record(samples, "a", 1, {"s": {"cat": 0.7}, "t": {}}, analysis=together(0.8, s=0.6, t=0.5)),
        record(samples, "b", 0, {"s": {"cat": 0.4, "cow": 0.2}}),
    ]


def priced(samples, variant, seed, **changes):
    """A regression and a classification with all that is measured of them."""
    result = samples.sample(variant, seed, tasks=("price", "sold"))
    tests = ({"mse": 4e6 + 1e6 * seed, "mae": 1500.0, "r2": 0.25}, {"accuracy": 0.75, "f1_macro": 0.5, "loss": 0.7})
    tasks = [task.changed(test=test) for task, test in zip(result.tasks, tests, strict=True)]
    return result.changed(tasks=tasks, **changes)


def test_other_metrics_stand_beside_the_main_one_with_their_units(samples):
    grid = other_grid(summarise([priced(samples, "a", 0), priced(samples, "a", 1), priced(samples, "b", 0)]))
    assert grid.header == ("task", "metric", "a", "b")
    assert grid.rows == (
        ("price", "mae", "1,500 ± 0.000", "1,500"),
        ("price", "r2", "0.250 ± 0.000", "0.250"),
        ("sold", "f1_macro", "0.500 ± 0.000", "0.500"),
    )
    assert [note.split()[0] for note in grid.notes] == ["mse", "mae", "r2"] and "squared units" in grid.notes[0]
    alone = samples.sample("a", 0, tasks=("t",))
    alone = alone.changed(tasks=[task.changed(test={"accuracy": 0.5, "loss": 0.7}) for task in alone.tasks])
    assert other_grid(summarise([alone])) is None


def test_values_of_two_metrics_share_no_scale_of_colours(samples):
    stages = Lifelong(matrix=[[4e6, None], [5e6, 0.75]])
    found = matrices(summarise([priced(samples, "a", 0, lifelong=stages)]))
    assert [part["title"] for part in found] == [
        "a: test mse of every task after every stage",
        "a: test accuracy of every task after every stage",
    ]
    assert [part["grid"].header[1:] for part in found] == [("price",), ("sold",)]
    assert found[1]["grid"].rows == (("price", "–"), ("sold", "0.750"))


def test_f1_by_label_and_variant(results):
    grid = f1_grid(summarise(results))
    assert grid.header == ("task", "label", "a", "b")
    assert grid.rows == (
        ("s", "cat", "0.600 ± 0.141", "0.400"),
        ("s", "dog", "0.900", "–"),
        ("s", "cow", "–", "0.200"),
    )


def test_no_labels_no_table(samples):
    assert f1_grid(summarise([samples.sample("a", 0, tasks=("t",))])) is None
    assert ensemble_grid(summarise([samples.sample("a", 0, tasks=("t",))])) is None


def test_an_ensemble_beside_its_members(results):
    grid = ensemble_grid(summarise(results))
    # together 0.9 and 0.8; means of members 0.75 and 0.55; best members 0.8 and 0.6
    assert grid.rows == (("a", "s to t (2)", "accuracy", "0.850 ± 0.071", "0.650 ± 0.141", "0.700 ± 0.141"),)


def test_both_are_on_the_page(samples, results, tmp_path):
    page = render(read_run(samples.write(tmp_path / "run", results)))
    assert "Test F1 by label" in page and "largest sum of softmax outputs" in page
    other = samples.write(tmp_path / "other", [samples.sample("a", 0, tasks=("t",))])
    assert "Test F1 by label" not in render(read_run(other))


def test_the_papers_ensemble_is_compared_with_ours(samples, results, tmp_path):
    samples.write(tmp_path, results)
    figures = [
        {"label": "five", "variant": "a", "metric": "accuracy", "ensemble": True, "value": 0.86},
        {"label": "none", "variant": "b", "metric": "accuracy", "ensemble": True, "value": 0.86},
    ]
    (tmp_path / "paper.json").write_text(json.dumps({"source": "A paper", "figures": figures}))
    first, second = reproduction_grid(tmp_path).rows
    assert first[:5] == ("five", "0.860", "0.850", "2", "0.071")
    assert second[2] == "not run"


def test_what_was_not_planned_is_not_missing(samples, tmp_path):
    """Variant b was planned with task s alone, c with a suite of its own, d with all."""
    results = [samples.sample(v, 0, tasks=t) for v, t in (("a", ("s", "t")), ("b", ("s",)), ("c", ("u",)))]
    plans = {"a": {}, "b": {"tasks": ["s"]}, "c": {"suite": {"kind": "whole"}}, "d": {}}
    config = {"recipe": "part/cifar100", "main": "a", "variants": plans, "seeds": [0]}
    assert read_run(samples.write(tmp_path / "whole", results, config)).missing == (
        "Variant d: no finished result (it was not started).",
    )
    short = [*results, samples.sample("d", 0, tasks=("s",))]
    assert read_run(samples.write(tmp_path / "short", short, config)).missing == (
        "Variant d, seed 0: task t is absent.",
    )
