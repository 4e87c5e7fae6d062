"""Pictures show what the records say: marks counted, averages by hand, text kept as text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from polypath.core.result import Curve
from polypath.report import figures, heatmaps
from polypath.report.drawing import VARIABLES, canvas, drawing, inline, short


def parsed(svg):
    """The picture as a tree; raises where it is not well formed."""
    return ET.fromstring(svg)


def texts(svg):
    return [element.text for element in parsed(svg).iter("text")]


def test_accuracy_draws_every_seed_and_every_mean(samples):
    results = [samples.sample(v, s, tasks=("s", "t")) for v in ("a", "b") for s in (0, 1, 2)]
    svg = figures.accuracy_figure(results, "accuracy")
    # 2 variants x 2 tasks x (3 seeds + 1 mean) marks, and one mark a variant in the legend
    first, second = (len(re.findall(rf"<use [^>]*fill: var\(--s{place}\)", svg)) for place in (0, 1))
    assert (first, second) == (2 * 4 + 1, 2 * 4 + 1)
    assert {"s", "t", "a", "b", "chance", "test accuracy"} <= set(texts(svg))


def test_marks_at_the_ends_of_a_share_are_not_cut(samples):
    """The clip path of a mark at 1.0 begins beyond its right edge."""
    result = samples.sample("a", 0, tasks=("t",))
    perfect = result.changed(tasks=[result.tasks[0].changed(test={"accuracy": 1.0})])
    svg = figures.accuracy_figure([perfect], "accuracy")
    clip = re.search(r'<clipPath id="[^"]*">\s*<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    right = float(clip[1]) + float(clip[2])
    marks = [float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)"[^>]*fill: var\(--s0\)', svg)]
    assert marks and max(x for x in marks if x <= right) + 3 < right


def test_chance_is_one_over_the_labels(samples):
    assert figures.chance_levels([samples.sample(tasks=("t",))], "accuracy") == {"t": 0.1}
    assert figures.chance_levels([samples.sample(tasks=("t",))], "mse") == {}


def test_a_metric_nobody_reports_gives_no_picture(samples):
    assert figures.accuracy_figure([samples.sample(tasks=("t",))], "mse") is None
    assert figures.sharing_figure([samples.sample(tasks=("t",), sharing={})]) is None
    assert figures.curve_figures([samples.sample(tasks=("t",), curves=[])], "accuracy") == {}
    assert figures.cost_figure({}) is None
    assert heatmaps.confusion_figures([]) == {}
    assert heatmaps.cka_line_figure([]) is None


def curve(task, stages, epochs, values, split="test"):
    return Curve(task=task, split=split, metric="accuracy", stages=stages, epochs=epochs, values=values)


def test_curves_are_drawn_over_the_epochs_of_the_stage_that_learned_the_task(samples):
    curves = [curve("s", [1, 1, 2, 3], [0, 1, 0, 4], [0.2, 0.4, 0.9, 0.9]), curve("t", [0], [0], [0.7])]
    results = [samples.sample("a", 0, tasks=("s", "t"), curves=curves)]
    assert figures._curves(results, "s", "accuracy") == {("a", "test"): {1: (0.2, 0.0), 2: (0.4, 0.0)}}
    assert figures._curves(results, "t", "accuracy") == {("a", "test"): {1: (0.7, 0.0)}}


@pytest.mark.parametrize(
    ("largest", "unit"),
    [(999, (1.0, "")), (1e3, (1e3, ", thousands")), (2.5e6, (1e6, ", millions")), (1e12, (1e9, ", billions"))],
)
def test_units_of_an_axis(largest, unit):
    assert figures._unit(largest) == unit


def test_curves_are_averaged_over_seeds(samples):
    results = [
        samples.sample("a", s, tasks=("t",), curves=[curve("t", [0, 0], [0, 1], v)])
        for s, v in enumerate(([0.1, 0.5], [0.3, 0.5]))
    ]
    points = figures._curves(results, "t", "accuracy")["a", "test"]
    assert points == {1: (pytest.approx(0.2), pytest.approx(0.2 / 2**0.5)), 2: (0.5, 0.0)}
    (svg,) = figures.curve_figures(results, "accuracy").values()
    assert "a test ends at 0.500" in svg


def test_sharing_says_its_counts_and_has_a_bar_for_each(samples):
    svg = figures.sharing_figure([samples.sample(tasks=("t",), sharing={"observed": [2, 0, 5], "expected": [1, 3, 3]})])
    assert "0: 2.0, 1: 0.0, 2: 5.0" in svg
    assert {"observed", "expected for random paths"} <= set(texts(svg))


def test_confusion_is_summed_over_seeds_of_the_same_labels(samples):
    def result(seed, labels, counts):
        one = samples.sample("a", seed, tasks=("t",))
        return one.changed(tasks=[one.tasks[0].changed(labels=labels, confusion=counts)])

    results = [
        result(0, ["x", "y"], [[3, 1], [0, 2]]),
        result(1, ["x", "y"], [[1, 4], [1, 1]]),
        result(2, ["x", "z"], [[9, 9], [9, 9]]),
    ]
    assert heatmaps.confusion(results, "t") == ([[4, 5], [1, 3]], ["x", "y"])
    (svg,) = heatmaps.confusion_figures(results).values()
    # 4 + 3 of 13 on the diagonal
    assert "53.8% answered rightly; most often mistaken: x for y, 5 times." in svg
    assert {".44", ".56", ".25", ".75"} <= set(texts(svg))


def test_matrix_writes_known_cells_only():
    svg = heatmaps.matrix_figure([[0.25, None], [0.5, 1.0]], ["r1", "r2"], ["c1", "c2"], "m", "M", "task", "after")
    assert [t for t in texts(svg) if t and t[0] in ".1"] == [".25", ".50", "1.00"]


def record(value, rows=("m0", "m1"), columns=("m1", "m2"), **changes):
    layers = [{"layer": 1, "cka": value}]
    modules = [{"layer": 1, "rows": list(rows), "columns": list(columns), "values": [[value, 0.0], [1.0, value]]}]
    return {"setup": "layer 1", "kernel": "rbf", "fraction": 0.5, "debiased": False, "samples": 10, "inputs": "probe",
            "tasks": ["x", "y"], "layers": layers, "modules": modules, "shared": ["m1"], **changes}  # fmt: skip


def test_cka_is_averaged_over_seeds_by_setup(samples):
    results = [
        samples.sample("a", s, tasks=("t",), analysis={"cka": [record(v), record(0.9, setup="none")]})
        for s, v in enumerate((0.2, 0.4))
    ]
    one, two = heatmaps.cka_setups(results)
    assert (one["setup"], one["layers"], one["n"], one["modules_n"]) == ("layer 1", {1: [0.2, 0.4]}, 2, 2)
    assert one["modules"][0]["values"] == [[pytest.approx(0.3), 0.0], [1.0, pytest.approx(0.3)]]
    assert two["setup"] == "none"


def test_maps_of_other_modules_are_not_averaged(samples):
    results = [
        samples.sample("a", s, tasks=("t",), analysis={"cka": [record(v, rows=r)]})
        for s, v, r in ((0, 0.2, ("m0", "m1")), (1, 0.4, ("m5", "m1")))
    ]
    (one,) = heatmaps.cka_setups(results)
    assert (one["n"], one["modules_n"], one["modules"][0]["values"][0][0]) == (2, 1, 0.2)


def test_a_setup_without_a_label_is_its_variant(samples):
    analysis = {"cka": [{k: v for k, v in record(0.5).items() if k != "setup"}]}
    assert heatmaps.cka_setups([samples.sample("a", 0, tasks=("t",), analysis=analysis)])[0]["setup"] == "a"


def test_shared_modules_are_outlined_where_row_and_column_are_the_same_module(samples):
    setup = heatmaps.cka_setups([samples.sample("a", 0, tasks=("t",), analysis={"cka": [record(0.5)]})])[0]
    svg = heatmaps.cka_heat_figure(setup, "c")
    # rows m0, m1 and columns m1, m2: one cell, m1 with m1
    assert svg.count("stroke: var(--shared)") == 1
    assert "1 shared modules outlined" in svg
    assert heatmaps.cka_heat_figure({**setup, "shared": []}, "c").count("stroke: var(--shared)") == 0


@pytest.mark.parametrize("name", ["<b>&\"'", "cost in $ or $x^2$", "数字", "#010101", "x" * 90])
def test_any_task_name_stays_text(samples, name):
    svg = figures.accuracy_figure([samples.sample("a", 0, tasks=(name,))], "accuracy")
    assert short(name) in texts(svg)
    parsed(next(iter(figures.curve_figures([samples.sample("a", 0, tasks=(name,))], "accuracy").values())))


def test_pictures_follow_the_page_and_keep_ids_apart(samples):
    results = [samples.sample("a", 0, tasks=("t",))]
    one, two = (figures.accuracy_figure(results, "accuracy", name) for name in ("one", "two"))
    assert one.replace("one-", "two-") == two
    assert not any(colour in one for colour in VARIABLES)
    assert "var(--ink)" in one and "font-family" not in one and "http" not in one and "<style" not in one
    ids = set(re.findall(r'id="([^"]*)"', one))
    assert all(i.startswith("one-") for i in ids)
    assert set(re.findall(r"url\(#([^)]*)\)", one)) | set(re.findall(r'href="#([^"]*)"', one)) <= ids


def test_a_users_matplotlibrc_changes_nothing_and_is_left_alone(samples):
    import matplotlib

    def draw():
        return figures.accuracy_figure([samples.sample("a", 0, tasks=("t",))], "accuracy")

    before = draw()
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert draw() == before
        assert matplotlib.rcParams["font.size"] == 40


def test_inline_gives_a_named_image():
    with drawing():
        root = parsed(inline(canvas(2, 1), "x", 'a "title" <1>'))
    assert root.get("role") == "img" and root.get("viewBox") == "0 0 144 72"
    assert root.find("title").text == 'a "title" <1>' and root.get("aria-labelledby") == root.find("title").get("id")
