"""Pictures of an evolved system, from a small record made by hand."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from polypath.core.result import Result, TaskResult, Timing, Totals
from polypath.report.evolved import MOST_TASKS, colours_of, slots_of, system_svg, tree_svg
from polypath.report.growth import growth_figure, hyperparameter_figure, values_of
from polypath.report.page import render
from polypath.report.records import Records

COLOURS = colours_of(["a", "b"])
RECORD: dict[str, Any] = {
    "components": {
        "patch.0": {"slot": "patch", "last": None, "parameters": 100, "parent": None},
        "norm.1": {"slot": "norm", "last": None, "parameters": 4, "parent": None},
        "head.2": {"slot": "head", "last": "a", "parameters": 10, "parent": None},
        "norm.3": {"slot": "norm", "last": "a", "parameters": 4, "parent": "norm.1"},
        "block.4": {"slot": "block", "last": "b", "parameters": 50, "parent": None},
        "head.5": {"slot": "head", "last": "b", "parameters": 20, "parent": None},
    },
    "models": [
        {
            "task": "a",
            "score": 0.75,
            "parent": None,
            "groups": [],
            "components": ["patch.0", "norm.3", "head.2"],
            "hyperparameters": {"mu": 0.2, "crop": True, "learning_rate": 0.01},
            "shares": {"a": 1.0},
        },
        {
            "task": "b",
            "score": 0.5,
            "parent": "a",
            "groups": ["x"],
            "components": ["patch.0", "block.4", "norm.3", "head.5"],
            "hyperparameters": {"mu": 0.22, "crop": True, "learning_rate": 0.01},
            "shares": {"a": 0.25, "b": 0.75},
        },
    ],
    "growth": [
        {"retained": "a", "activation": 0, "score": 0.75, "tasks": 1, "total": 118, "activated": 114, "added": 14},
        {"retained": "b", "activation": 1, "score": 0.5, "tasks": 2, "total": 188, "activated": 174, "added": 70},
    ],
    "generations": [
        {
            "task": "b",
            "activation": 1,
            "generation": 0,
            "parents": {"0": "root", "3": "a"},
            "best": 5,
            "children": [
                {"number": 4, "parent": 0, "score": None, "kept": None},
                {"number": 5, "parent": 3, "score": 0.4, "kept": 1},
            ],
        },
        {
            "task": "b",
            "activation": 1,
            "generation": 1,
            "parents": {"3": "a"},
            "best": 7,
            "children": [
                {"number": 6, "parent": 3, "score": 0.3, "kept": 0},
                {"number": 7, "parent": 5, "score": 0.5, "kept": 0},
            ],
        },
    ],
}


def circles(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter("circle"))


def title(element: ElementTree.Element) -> str:
    found = element.find("title")
    assert found is not None and found.text is not None
    return found.text


def test_a_layer_that_only_some_models_have_stands_behind_its_predecessor() -> None:
    assert slots_of(RECORD["models"], RECORD["components"]) == ["patch", "block", "norm", "head"]


def test_layers_have_the_colour_of_the_task_that_trained_them_last() -> None:
    svg = system_svg(RECORD, COLOURS)
    assert svg is not None
    found = {title(circle).split(":")[0]: circle for circle in circles(svg)}
    assert found.keys() == {"patch.0", "norm.3", "head.2", "block.4", "head.5"}  # nobody uses norm.1
    assert found["patch.0"].get("class") == "root" and found["patch.0"].get("fill") is None
    assert {found[name].get("fill") for name in ("norm.3", "head.2")} == {COLOURS["a"]}
    assert {found[name].get("fill") for name in ("block.4", "head.5")} == {COLOURS["b"]}
    assert title(found["norm.3"]) == "norm.3: 4 parameters, last trained on a, used by a, b"
    columns = {name: circle.get("cx") for name, circle in found.items()}
    assert columns["head.2"] == columns["head.5"] != columns["norm.3"]
    assert "b: 4 layers; trained on a 25%, b 75%" in svg and "b  0.500" in svg


def test_a_family_tree_shows_every_child_and_the_line_to_the_best() -> None:
    svg = tree_svg(RECORD["generations"], "b", COLOURS["b"])
    assert svg is not None
    found = {title(circle): circle for circle in circles(svg)}
    assert list(found) == [
        "child 4 of 0: dropped",
        "child 5 of 3: score 0.4000",
        "child 6 of 3: score 0.3000",
        "child 7 of 5: score 0.5000",
    ]
    assert found["child 4 of 0: dropped"].get("fill") is None
    assert svg.count('class="chain"') == 2  # 3 -> 5 -> 7
    assert svg.count('class="thin"') == 2
    assert "model 3: of a" in svg and "model 0: the root" in svg
    assert ">2.1<" in svg and ">2.2<" in svg
    assert tree_svg(RECORD["generations"], "a", COLOURS["a"]) is None


def test_names_are_escaped() -> None:
    record = {**RECORD, "models": [{**RECORD["models"][0], "task": "<a & b>"}]}
    svg = system_svg(record, {**COLOURS, "<a & b>": "#000"})
    assert svg is not None and "<a & b>" not in svg
    ElementTree.fromstring(svg)


def test_more_tasks_than_can_be_read_are_not_drawn() -> None:
    models = [{**RECORD["models"][0], "task": f"task{n}"} for n in range(MOST_TASKS + 5)]
    svg = system_svg({**RECORD, "models": models}, colours_of([m["task"] for m in models]) | COLOURS)
    assert svg is not None and svg.count('class="edge"') == MOST_TASKS


def test_settings_are_counted_and_constant_ones_left_out() -> None:
    assert values_of(RECORD["models"]) == {"mu": [("0.2", 1), ("0.22", 1)]}
    svg = hyperparameter_figure(RECORD["models"])
    assert svg is not None and ">0.22<" in svg
    assert hyperparameter_figure(RECORD["models"][:1]) is None


def test_growth_is_drawn_in_per_cent_of_the_whole_system() -> None:
    svg = growth_figure(RECORD["growth"])
    assert svg is not None and "% of all parameters" in svg
    assert growth_figure([]) is None


def result(analysis: dict[str, Any]) -> Result:
    timing = Timing(
        wall_s=1, train_s=1, evaluate_s=0, samples=1, samples_per_second=1, peak_memory_bytes=1
    )  # fmt: skip
    task = {"parameters": 114, "added_parameters": 14, "activated": 1.0, "flops": 1}
    tasks = [TaskResult(name=name, test={"accuracy": 0.5}, **task) for name in ("a", "b")]
    facts = {"recipe": "r", "variant": "v", "method": "mu2net", "isolation": "exact", "suite": "s", "seed": 0}
    totals = Totals(parameters=188, size_bytes=1)
    return Result(**facts, tasks=tasks, totals=totals, timing=timing, analysis=analysis)


@pytest.mark.parametrize("there", [True, False])
def test_the_page_shows_evolution_where_there_was_one(there: bool, tmp_path: Path) -> None:
    page = render(Records(tmp_path, (result({"evolution": RECORD} if there else {}),)))
    assert ('id="evolution"' in page) is there
    ids = re.findall(r'id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    if there:
        assert "Family tree of b" in page and "Family tree of a" not in page
        assert "a 25%, b 75%" in page


def test_the_page_says_what_the_checks_found() -> None:
    none: dict[str, Any] = {"score_falls": [], "leaks": []}
    good = html.unescape(render(Records(Path(), (result({"evolution": {**RECORD, "checks": none}}),))))
    assert "No task's best score fell" in good and "No private task's data reached" in good
    fall = {"task": "a", "activation": 2, "before": 0.75, "after": 0.5}
    checks = {"score_falls": [fall], "leaks": [{"task": "b", "data": "a"}]}
    bad = html.unescape(render(Records(Path(), (result({"evolution": {**RECORD, "checks": checks}}),))))
    assert "a 0.7500 to 0.5000" in bad and "reached other tasks' models: a in b" in bad
