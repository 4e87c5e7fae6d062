"""Pictures and table of lifelong learning, from records made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from polypath.core.result import Curve, Lifelong, Result
from polypath.report import lifelong
from polypath.report.page import render
from polypath.report.records import read_run


@pytest.fixture
def two(samples: Any) -> list[Result]:
    """Two variants of two tasks and two stages of twenty epochs, measured every ten."""
    made = []
    for variant, forgets in (("dfcnn", 0.02), ("single", 0.0)):
        curves = [
            Curve(
                task="task0",
                split=split,
                metric="accuracy",
                stages=[0, 0, 1] if variant == "dfcnn" and split == "test" else [0, 0],
                epochs=[9, 19, 19] if variant == "dfcnn" and split == "test" else [9, 19],
                values=[0.5, 0.4, 0.4 - forgets] if variant == "dfcnn" and split == "test" else [0.5, 0.4],
            )
            for split in ("test", "val")
        ]
        curves += [
            Curve(task="task1", split=split, metric="accuracy", stages=[1, 1], epochs=[9, 19], values=[0.3, 0.6])
            for split in ("test", "val")
        ]
        record = Lifelong(
            matrix=[[0.4, None], [0.4 - forgets, 0.6]],
            by_peak={
                by: {
                    "peak_accuracy": {"task0": 0.5, "task1": 0.6},
                    "forgetting_ratio": {"task0": (0.4 - forgets) / 0.5},
                    "convergence_epochs": {"task0": 10, "task1": 20},
                }
                for by in ("validation", "test")
            },
            backward_transfer=-forgets,
        )
        made.append(samples.sample(variant, tasks=("task0", "task1"), curves=curves, lifelong=record))
    return made


def test_the_table_has_peaks_by_validation_and_by_test(two: list[Result]) -> None:
    grid = lifelong.lifelong_grid(two)
    assert grid is not None
    row = dict(zip(grid.header, grid.rows[0], strict=True))
    assert row["variant"] == "dfcnn" and row["seeds"] == "1"
    assert row["peak (peak by validation)"] == "0.550" and row["epochs to 98 % (peak by test)"] == "15.00"
    assert row["kept at the end / peak (peak by test)"] == "0.760"
    assert row["backward transfer"] == "-0.020"


def test_a_task_that_an_exact_method_did_not_measure_again_is_kept(two: list[Result]) -> None:
    """Single, exact: task0 ends at 0.4 of a peak of 0.5, and the picture says 0.8 after one more task."""
    svg = lifelong.kept_figure(two, "accuracy", "test")
    assert svg is not None
    assert "dfcnn: 0.760 after 1" in svg and "single: 0.800 after 1" in svg


def test_the_peak_of_an_error_is_its_lowest_value(samples: Any) -> None:
    """Two epochs of 0.5 and 0.4, then 0.8 after another task: twice the best, not 1.6 times the worst."""
    curves = [
        Curve(task="task0", split="test", metric="mse", stages=[0, 0, 1], epochs=[0, 1, 1], values=[0.5, 0.4, 0.8]),
        Curve(task="task1", split="test", metric="mse", stages=[1], epochs=[1], values=[0.3]),
    ]
    record = Lifelong(matrix=[[0.4, None], [0.8, 0.3]], by_peak={"test": {"peak_accuracy": {"task0": 0.4}}})
    made = samples.sample("ewc", tasks=("task0", "task1"), curves=curves, lifelong=record)
    svg = lifelong.kept_figure([made], "mse", "test")
    assert svg is not None and "ewc: 2.000 after 1" in svg


def test_timelines_run_over_all_stages(two: list[Result]) -> None:
    assert lifelong.stage_lengths(two) == [20, 20]
    svg = lifelong.timeline_figure(two[:1], "accuracy", {"single": {"task0": 0.5}})
    assert svg is not None and "At the end: task0 0.380; task1 0.600" in svg


def test_the_section_is_left_out_where_nothing_was_measured_over_time(two: list[Result], samples: Any) -> None:
    assert lifelong.section([samples.sample("parallel")], ["accuracy"]) is None
    found = lifelong.section(two, ["accuracy"])
    assert found is not None and found["by"] == "validation" and found["alone"] == ["single"]
    assert set(found["timelines"]) == {"dfcnn", "single"} and "dfcnn 15.0" in found["convergence"]


def test_reproduction_tables_can_ask_for_lifelong_figures(two: list[Result]) -> None:
    from polypath.report.summary import lifelong_by_seed

    assert lifelong_by_seed(two, "dfcnn", "peak_accuracy", "test") == {two[0].seed: pytest.approx(0.55)}
    assert lifelong_by_seed(two, "other", "peak_accuracy", "test") == {}


def test_the_menu_of_a_report_leads_to_the_section_where_there_is_one(
    two: list[Result], samples: Any, make_run: Any
) -> None:
    without = render(read_run(make_run([samples.sample("parallel")])))
    assert 'id="lifelong"' not in without and "#lifelong" not in without
    page = render(read_run(make_run(two)))  # beside the one that is there
    assert page.count('<h2 id="lifelong">') == page.count('<a href="#lifelong">') == 1
