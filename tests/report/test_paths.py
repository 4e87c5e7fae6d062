"""The path picture shows each use of each component once."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from polypath.core.result import PathPicture
from polypath.report.paths import path_picture_svg, task_colour

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
SMALL = PathPicture(
    steps=[["a", "b", "c"], ["d", "e"]],
    tasks={"one": [["a", "b"], ["d"]], "two": [["b"], []], "three": [["c"], ["d", "e"]]},
    sizes={"a": 1000, "b": 2, "c": 3, "d": 4},
)


def tree(picture, **options):
    return ET.fromstring(path_picture_svg(picture, **options))


def boxes(root):
    """Title of a component's box -> tasks that have a stripe in it."""
    groups = [g for g in root.iter("g") if g.get("data-task") is None]
    return {
        g.find("title").text: [int(r.get("data-task")) for r in g.findall("rect") if r.get("data-task")] for g in groups
    }


def boxes_of(svg):
    space = "{http://www.w3.org/2000/svg}"
    groups = [g for g in ET.fromstring(svg).iter(f"{space}g") if g.get("data-task") is None]
    return [[r for r in g.findall(f"{space}rect") if r.get("data-task")] for g in groups]


def test_boxes_say_name_size_and_users():
    assert boxes(tree(SMALL)) == {
        "a: 1,000 parameters, used by one": [0],
        "b: 2 parameters, used by one, two": [0, 1],
        "c: 3 parameters, used by three": [2],
        "d: 4 parameters, used by one, three": [0, 2],
        "e, used by three": [2],
    }


def test_every_task_is_one_lane_with_two_curves_a_component():
    lanes = {g.get("data-task"): g for g in tree(SMALL).iter("g") if g.get("data-task")}
    assert [g.find("text").text for g in lanes.values()] == ["one", "two", "three"]
    assert [g.find("path").get("d").count("C") for g in lanes.values()] == [6, 2, 6]
    assert [g.find("path").get("stroke") for g in lanes.values()] == [task_colour(i) for i in range(3)]
    assert lanes["0"].find("title").text == "one: 3 components in 2 steps"


def test_lanes_of_tasks_that_share_nothing_do_not_cross():
    """Of each column the first task's component is drawn above the second's, whatever the components are called."""
    paths = {"one": [["a"], ["d"]], "two": [["b"], ["c"]]}
    found = path_picture_svg(PathPicture(steps=[["a", "b"], ["c", "d"]], tasks=paths, sizes=dict.fromkeys("abcd", 1)))
    root = ET.fromstring(found)
    at = {g.find("title").text[0]: float(g.find("rect").get("y")) for g in root.iter("g") if g.get("data-task") is None}
    assert at["a"] < at["b"] and at["d"] < at["c"]


def test_a_task_that_ends_early_ends_before_the_last_column():
    ends = [[float(c.get("cx")) for c in g.findall("circle")] for g in tree(SMALL).iter("g") if g.get("data-task")]
    assert ends[1][1] < ends[0][1] == ends[2][1]


def test_a_step_in_between_that_is_not_used_is_passed_straight():
    picture = PathPicture(steps=[["a"], ["b"], ["c"]], tasks={"t": [["a"], [], ["c"]]}, sizes={})
    (lane,) = [g for g in tree(picture).iter("g") if g.get("data-task")]
    assert lane.find("path").get("d").count("H") == 1


def test_focus_marks_the_tasks_and_the_picture():
    root = tree(SMALL, focus=("two",))
    assert root.get("class") == "paths focus"
    marked = {e.get("data-task") for e in root.iter() if "on" in (e.get("class") or "").split() and e.get("data-task")}
    assert marked == {"1"}


def test_names_are_escaped_and_long_ones_cut():
    names = ("<&\"'>", "x" * 60)
    picture = PathPicture(steps=[["<m>"]], tasks={name: [["<m>"]] for name in names}, sizes={"<m>": 1})
    labels = [g.find("text").text for g in tree(picture).iter("g") if g.get("data-task")]
    assert labels == ["<&\"'>", "x" * 21 + "…"]
    assert list(boxes(tree(picture))) == [f"<m>: 1 parameters, used by {', '.join(names)}"]


def test_many_tasks_have_colours_of_their_own():
    assert len({task_colour(place) for place in range(60)}) == 60


@pytest.mark.parametrize(
    "empty",
    [
        PathPicture(steps=[], tasks={}, sizes={}),
        PathPicture(steps=[["a"]], tasks={}, sizes={}),
        PathPicture(steps=[["a"]], tasks={"t": [[]]}, sizes={}),
    ],
)
def test_almost_nothing_is_still_a_picture(empty):
    assert tree(empty).get("role") == "img"


def test_all_parts_lie_inside_the_picture(samples):
    root = tree(samples.picture(1))
    _, _, width, height = map(float, root.get("viewBox").split())
    for box in root.iter("rect"):
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height
    assert all(float(c.get("cx")) + 5 <= width for c in root.iter("circle"))


def test_a_standalone_picture_is_a_file_of_its_own():
    root = tree(SMALL, standalone=True)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and float(root.get("width")) > 0
    assert "prefers-color-scheme:dark" in root.find("{http://www.w3.org/2000/svg}style").text


def test_the_readme_picture_is_what_its_script_draws():
    spec = importlib.util.spec_from_file_location("readme_picture", ASSETS / "paths.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ASSETS / "paths.svg").read_text(encoding="utf-8") == module.drawn() + "\n"
    # 10 tasks x 9 layers x 4 modules, a stripe for each use
    assert sum(map(len, boxes_of(module.drawn()))) == 360
