"""`polypath run`: what it writes, what it prints, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polypath.cli.outcome import differing
from polypath.cli.run import tell
from polypath.core.result import Result
from polypath.methods import METHODS, method_class
from polypath.recipes.experiment import Experiment, Variant

Invoke = Callable[..., Any]
SMOKE = ("run", "part/digits", "--smoke")
THREE_TASKS = ("--set", "suite.tasks=3", "--set", "suite.classes_per_task=2")


def test_a_run_leaves_its_records_and_names_the_report(finished: tuple[Path, Any]) -> None:
    out, result = finished
    for name in ("config.json", "environment.json", "summary.json", "report.html"):
        assert (out / name).is_file()
    for seed in (0, 1000):  # the recipe's own seed is 0; further ones go on from 1000
        folder = out / "sequential" / f"seed-{seed}"
        assert (folder / "results.json").is_file() and (folder / "system" / "manifest.json").is_file()
        assert f"sequential, seed {seed}: mean test accuracy" in result.stderr
    assert f"Report: {out / 'report.html'}" in result.stdout
    assert "task3" in result.stdout and "mean" in result.stdout
    assert json.loads((out / "environment.json").read_text())["command"].startswith("polypath run part/digits --smoke")


def test_means_of_a_run_are_told_by_metric_and_never_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    costs = {"parameters": 1, "added_parameters": 1, "flops": 1}
    tests = {"a": {"mse": 3e6, "r2": 0.5}, "b": {"accuracy": 0.75}, "c": {"accuracy": 0.25}}
    tasks = [{"name": name, "test": test, "activated": 1.0, "examples": {}, **costs} for name, test in tests.items()]
    said = {"recipe": "r", "variant": "v", "method": "single", "isolation": "exact", "suite": "s", "seed": 3}
    timing = {"wall_s": 2.0, "train_s": 1.0, "evaluate_s": 1.0, "samples": 1}
    timing |= {"samples_per_second": 1.0, "peak_memory_bytes": 1}
    tell(Result.of({**said, "tasks": tasks, "totals": {"parameters": 1, "size_bytes": 1}, "timing": timing}))
    told = " ".join(capsys.readouterr().err.split())
    assert told == "v, seed 3: mean test mse 3,000,000, mean test accuracy 0.500 (2.0 s)"


def test_printed_means_are_those_of_the_records(finished: tuple[Path, Any]) -> None:
    out, result = finished
    records = [json.loads(path.read_text()) for path in sorted(out.glob("sequential/seed-*/results.json"))]
    means = [sum(task["test"]["accuracy"] for task in record["tasks"]) / 3 for record in records]
    assert len(means) == 2
    summary = json.loads((out / "summary.json").read_text())
    assert summary["variants"]["sequential"]["overall"]["accuracy"]["mean"] == pytest.approx(sum(means) / 2)
    assert f"{sum(means) / 2:.3f} ±" in result.stdout


def test_report_says_the_same_again(finished: tuple[Path, Any], invoke: Invoke) -> None:
    out, _ = finished
    page = (out / "report.html").read_bytes()
    answer = json.loads(invoke("report", out, "--json").stdout)
    assert answer["report"] == str(out / "report.html") and answer["variants"]["sequential"]["seeds"] == [0, 1000]
    assert (out / "report.html").read_bytes() == page


def test_dry_run_shows_data_costs_and_settings_and_writes_nothing(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (*SMOKE, "--dry-run", "--set", "method.modules=4", "--set", "variants.single.epochs=3")
    words += ("--variant", "parallel", "--variant", "single")
    result = invoke(*words)
    assert result.exit_code == 0
    data, cost, settings = (result.stdout.index(title) for title in ("Data of", "Cost of", "Settings that differ"))
    assert data < cost < settings
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout[settings:].splitlines()]
    assert ["method.modules", "4", "all"] in rows and ["method.epochs", "3", "single"] in rows
    assert ["method.mode", "single", "single"] in rows and ["suite.dataset", "digits", ""] in rows
    assert not [row for row in rows if "null" in row or "method.weight_decay" in row]
    everything = invoke(*words, "--all").stdout
    assert "variants.parallel.config.modules" in everything and "variants.parallel.config.weight_decay" in everything
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_defaults_to_compare_settings_with(name: str) -> None:
    config = method_class(name).config_class.of({})
    of_defaults = Variant(method=name, config=config.model_dump(mode="json"))
    plain = {"recipe": "own", "title": "", "paper": "", "suite": {"kind": "own"}, "variants": {"x": of_defaults}}
    assert differing(Experiment(**plain, main="x")) == [("seeds", "0", "")]


def test_dry_run_json_is_pure_and_counts_by_hand(invoke: Invoke) -> None:
    one = ("--set", "method.modules=1", "--set", "method.selected=1", "--set", "suite.tasks=2")
    result = invoke(*SMOKE, "--dry-run", "--json", *one, "--set", "suite.classes_per_task=2", "--variant", "parallel")
    plan = json.loads(result.stdout)
    assert set(plan) == {"recipe", "main", "variants"}
    assert (plan["recipe"], plan["main"]) == ("part/digits", "parallel")
    variant = plan["variants"]["parallel"]
    assert set(variant) == {"method", "tasks", "totals"} and variant["method"] == "part"
    assert [set(task) for task in variant["tasks"]] == [{"name", "parameters", "added_parameters", "flops"}] * 2
    first, second = variant["tasks"]
    # One module a layer: the second task adds its head alone: two classes out of 8 x 8 = 64 features.
    assert second["added_parameters"] == 64 * 2 + 2
    assert variant["totals"] == {"parameters": first["parameters"] + second["added_parameters"]}


def test_the_default_folder_is_numbered_and_resume_finds_its_own(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (*SMOKE, "--variant", "parallel", "--set", "suite.tasks=2", "--json", *fixed)
    other = tmp_path / "runs" / "part-digits-smoke"
    other.mkdir(parents=True)
    (other / "mine.txt").write_text("keep")
    made = json.loads(invoke(*words).stdout)
    assert made["run"] == "runs/part-digits-smoke-2"
    results = Path(made["run"], "parallel", "seed-0", "results.json")
    before = (results.read_bytes(), results.stat().st_mtime_ns)
    again = json.loads(invoke(*words, "--resume").stdout)
    assert again["run"] == made["run"]
    assert (results.read_bytes(), results.stat().st_mtime_ns) == before
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "part/digist"], "unknown recipe 'part/digist'. Did you mean 'part/digits'?"),
        ([*SMOKE, "--variant", "paralel"], "unknown variant 'paralel'. Did you mean 'parallel'?"),
        ([*SMOKE, "--set", "method.modles=3"], "'modles'. Did you mean 'modules'?"),
        ([*SMOKE, "--set", "suite.taks=3"], "'taks'. Did you mean 'tasks'?"),
        ([*SMOKE, "--set", "precison=32-true"], "'precison'. Did you mean 'precision'?"),
        ([*SMOKE, "--set", "suite.dataset=digit"], "unknown data set 'digit'. Did you mean 'digits'?"),
        ([*SMOKE, "--set", "method.modules=abc"], "method.modules: input should be a valid integer"),
        ([*SMOKE, "--set", "variants.single.epochs=[]"], "variants.single.epochs: input should be a valid integer"),
        ([*SMOKE, "--set", "device=tpu"], "device: input should be"),
        ([*SMOKE, "--set", "method.modules"], "PATH=VALUE required"),
        ([*SMOKE, "--set", "method.modules.x=1"], "leads below a plain value"),
        ([*SMOKE, "--set", "method.selected=9"], "selected (N = 9) must not exceed modules (M = 6)"),
        ([*SMOKE, "--set", 'method.paths={"task1": [[0, 1]]}'], "9 rows required (one a layer), received 1"),
        ([*SMOKE, "--set", "method.paths_file=none.json"], "paths file 'none.json' cannot be read"),
        ([*SMOKE, "--set", "suite.tasks=3", "--set", "suite.classes_per_task=4"], "10 classes"),
        (["run", "part/digits", "--quick", "--smoke"], "not both"),
        ([*SMOKE, "--seeds", 2, "--seed", 3], "not both"),
    ],
)
def test_mistakes_are_one_message_and_nothing_is_written(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*words, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_another_run_is_not_touched(
    finished: tuple[Path, Any], invoke: Invoke, tmp_path: Path
) -> None:
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    other = invoke(*SMOKE, "--out", out)
    assert other.exit_code == 2 and "already holds another run (different:" in other.stderr
    resumed = invoke(*SMOKE, "--out", out, "--resume")
    assert resumed.exit_code == 2 and "already holds another run" in resumed.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    (tmp_path / "letter.txt").write_text("mine")
    assert "holds no polypath run" in invoke(*SMOKE, "--out", tmp_path).stderr
    result = invoke(*SMOKE, "--out", tmp_path / "letter.txt")
    assert result.exit_code == 2 and "is a file" in result.stderr
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_the_same_run_again_needs_resume(finished: tuple[Path, Any], invoke: Invoke, fixed: tuple[str, ...]) -> None:
    out, _ = finished
    words = (*SMOKE, "--variant", "sequential", "--seeds", 2, *THREE_TASKS, "--out", out, *fixed)
    result = invoke(*words)
    assert result.exit_code == 2 and "continue it with --resume" in result.stderr
    assert invoke(*words, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("make", "said"), [(lambda path: None, "no such folder"), (lambda path: path.mkdir(), "holds neither")]
)
def test_report_of_no_run(invoke: Invoke, tmp_path: Path, make: Callable[[Path], Any], said: str) -> None:
    make(tmp_path / "run")
    result = invoke("report", tmp_path / "run")
    assert result.exit_code == 2 and said in result.stderr
