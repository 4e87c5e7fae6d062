"""Tables by hand, in every medium."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from polypath.core.errors import CorruptError, InvalidInput
from polypath.report.summary import summarise
from polypath.report.tables import (
    Grid,
    accuracy_grid,
    cost_grid,
    count,
    machine,
    measured,
    number,
    paired_grid,
    reproduction_grid,
    scaled,
    totals_grid,
)


def with_tests(samples, variant, seed, values, metric="accuracy", **changes):
    result = samples.sample(variant, seed, tasks=tuple(values))
    tasks = [task.changed(test={metric: values[task.name]}) for task in result.tasks]
    return result.changed(tasks=tasks, **changes)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.79123, "0.791"),
        (-0.043, "-0.043"),
        (9.9994, "9.999"),
        (12.345, "12.35"),
        (123.456, "123.5"),
        (12345.6, "12,346"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.9, "1 k"),
        (1_234, "1.23 k"),
        (43_995_648, "44 M"),
        (2.22e9, "2.22 G"),
        (1.5e15, "1,500 T"),
    ],
)
def test_scaled(value, text):
    assert scaled({"mean": value}) == text


def test_units_follow_the_prefix():
    assert scaled({"mean": 528_391_168}, "B") == "528 MB"
    assert scaled({"mean": 12}, "B") == "12 B"


def test_measured_and_count():
    assert measured({"mean": 0.5, "sd": 0.0124, "n": 3}) == "0.500 ± 0.012"
    assert measured({"mean": 0.5, "sd": None, "n": 1}) == "0.500"
    assert measured(None) == count(None) == scaled(None) == "–"
    assert count({"mean": 1234567.0, "sd": 0.0, "n": 3}) == "1,234,567"
    assert count({"mean": 10.0, "sd": 2.0, "n": 3}) == "10 ± 2"


def test_accuracy_table_by_hand(samples):
    results = [with_tests(samples, "a", 0, {"s": 0.8, "t": 0.6}), with_tests(samples, "a", 1, {"s": 0.6, "t": 0.2})]
    results += [with_tests(samples, "b", 0, {"s": 0.5})]
    grid = accuracy_grid(summarise(results))
    assert grid.header == ("task", "a", "b")
    assert grid.rows == (
        ("s", "0.700 ± 0.141", "0.500"),
        ("t", "0.400 ± 0.283", "–"),
        ("mean", "0.550 ± 0.212", "0.500"),
    )
    assert grid.notes == ("Mean ± sample standard deviation over seeds (a 2, b 1).",)


def test_tasks_of_several_metrics_are_labelled_and_averaged_apart(samples):
    result = samples.sample("a", 0, tasks=("s", "t"))
    tasks = [result.tasks[0].changed(test={"accuracy": 0.5}), result.tasks[1].changed(test={"mse": 20.0})]
    rows = accuracy_grid(summarise([result.changed(tasks=tasks)])).rows
    assert rows == (
        ("s (accuracy)", "0.500"),
        ("t (mse)", "20.00"),
        ("mean (accuracy)", "0.500"),
        ("mean (mse)", "20.00"),
    )


def test_equal_costs_are_shown_once_and_different_ones_by_variant(samples):
    same = [with_tests(samples, v, 0, {"t": 0.5}) for v in ("a", "b")]
    grid = cost_grid(summarise(same))
    assert grid.header == ("task", "parameters", "added parameters", "FLOPs")
    assert grid.rows == (("t", "44,000,778", "44,000,778", "2.22 G"),)
    cheap = same[1].changed(tasks=[same[1].tasks[0].changed(parameters=1000, added_parameters=10, flops=5)])
    grid = cost_grid(summarise([same[0], cheap]))
    assert grid.header[4:] == ("parameters (b)", "added parameters (b)", "FLOPs (b)")
    assert grid.rows[0][4:] == ("1,000", "10", "5")


def test_totals_and_pairs(samples):
    results = [
        with_tests(samples, v, s, {"t": x}) for v, s, x in (("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.4), ("b", 1, 0.8))
    ]
    summary = summarise(results)
    assert totals_grid(summary).rows[0] == ("a", "0.600 ± 0.141", "132,038,244", "528 MB", "2", "281 s")
    # differences 0.1 and -0.1
    assert paired_grid(summary).rows == (("a minus b", "accuracy", "0.000 ± 0.141", "1 of 2"),)


def test_where_less_is_better_the_first_leads_by_being_lower(samples):
    results = [with_tests(samples, v, 0, {"t": x}, metric="mse") for v, x in (("a", 1.0), ("b", 2.0))]
    assert paired_grid(summarise(results)).rows[0][3] == "1 of 1"


def test_markdown_escapes_what_would_break_the_table():
    grid = Grid("T", ("task", "a"), (("x|y <b>&\nz", "1"),), ("note",))
    assert grid.markdown() == "| task | a |\n| --- | ---: |\n| x\\|y &lt;b&gt;&amp; z | 1 |\n\nnote\n"


def test_terminal_tables_print_names_as_they_are():
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(Grid("T [red]", ("task", "a"), (("[bold]x[/bold]", "0.5"),), ("n",)).rich())
        text = console.export_text()
    assert "[bold]x[/bold]" in text and "T [red]" in text and "0.5" in text


@pytest.fixture
def folder(tmp_path, samples):
    results = [with_tests(samples, "parallel", s, {"t": v}) for s, v in ((0, 0.80), (1, 0.82))]
    results += [with_tests(samples, "single", s, {"t": v}) for s, v in ((0, 0.60), (1, 0.62))]
    samples.write(tmp_path, results)
    figures = [
        {"label": "PaRT", "variant": "parallel", "metric": "accuracy", "value": 0.82, "sd": 0.01},
        {"label": "single", "variant": "single", "metric": "accuracy", "task": "t", "value": 0.75},
        {"label": "EWC", "variant": "ewc", "metric": "accuracy", "value": 0.3},
    ]
    (tmp_path / "paper.json").write_text(json.dumps({"source": "A paper, Table 1", "figures": figures}))
    return tmp_path


def test_reproduction_table_by_hand(folder):
    grid = reproduction_grid(folder)
    assert grid.header == ("figure", "paper", "ours", "seeds", "spread", "machine", "commit")
    assert grid.rows == (
        ("PaRT", "0.820 ± 0.010", "0.810", "2", "0.014", "2 x test CPU, 2 threads", "0123456789abcdef"),
        ("single", "0.750", "0.610 (not reached)", "2", "0.014", "2 x test CPU, 2 threads", "0123456789abcdef"),
        ("EWC", "0.300", "not run", "0", "–", "–", "–"),
    )


def test_reproduction_needs_the_papers_figures(folder):
    (folder / "paper.json").write_text('{"source": "x", "figures": [{"label": "y"}]}')
    with pytest.raises(InvalidInput, match=r"paper\.json: required is"):
        reproduction_grid(folder)
    (folder / "paper.json").write_text("{")
    with pytest.raises(CorruptError, match=r"paper\.json cannot be read as JSON"):
        reproduction_grid(folder)
    (folder / "paper.json").unlink()
    with pytest.raises(InvalidInput, match=r"paper\.json: required for a reproduction table"):
        reproduction_grid(folder)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"cpu": "Some CPU", "cores": 2, "threads": 2}, "Some CPU, 2 cores, 2 threads"),
        ({"cpu": "Some CPU", "gpu": "Some GPU", "threads": 8}, "Some GPU, 8 threads"),
        ({}, "–"),
    ],
)
def test_machine(environment, words):
    assert machine(environment) == words
