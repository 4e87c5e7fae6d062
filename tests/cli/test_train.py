"""`polypath train`: the user's own tasks, from a file to a system that answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Invoke = Callable[..., Any]
SMALL = (
    "--set",
    "method.modules=2",
    "--set",
    "method.selected=1",
    "--set",
    "method.width=2",
    "--set",
    "method.epochs=1",
)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A tasks.yaml of two tasks whose archives lie beside it: is the left or the upper half brighter?"""
    draw = np.random.default_rng(0)
    for name, axis in (("left", 2), ("upper", 1)):
        x = draw.integers(0, 256, (60, 16, 16, 1), dtype=np.uint8)
        halves = np.split(x.astype(np.int64), 2, axis=axis)
        y = (halves[0].sum((1, 2, 3)) > halves[1].sum((1, 2, 3))).astype(np.int64)
        np.savez(tmp_path / f"{name}.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    file = tmp_path / "tasks.yaml"
    file.write_text("tasks:\n- {name: left, dataset: 'npz:left.npz'}\n- {name: upper, dataset: 'npz:upper.npz'}\n")
    return file


def test_own_tasks_end_to_end(
    tasks: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: tuple[str, ...]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # data is found beside the file, not where the command was given
    out = tmp_path / "clinic"
    words = ("train", tasks, "--method", "part", "--out", out, "--seed", 3, *SMALL, *fixed)
    made = invoke(*words, "--json")
    assert made.exit_code == 0, made.stderr
    summary = json.loads(made.stdout)
    assert summary["tasks"] == ["left", "upper"] and summary["report"] == str(out / "report.html")
    record = json.loads((out / "results.json").read_text())
    assert (record["recipe"], record["seed"], record["method"]) == ("own", 3, "part")
    assert record["config"]["config"]["modules"] == 2
    assert not (out / "checkpoint").exists()  # nothing goes on from them
    np.save(tmp_path / "x.npy", np.zeros((3, 16, 16, 1), np.uint8))
    rows = invoke("predict", out, "upper", tmp_path / "x.npy", "--json").stdout.splitlines()
    assert [json.loads(row)["label"] in ("0", "1") for row in rows] == [True] * 3
    scores = json.loads(invoke("evaluate", out, "--json").stdout)
    assert scores["left"]["accuracy"] == pytest.approx(record["tasks"][0]["test"]["accuracy"])

    again = invoke(*words)
    assert again.exit_code == 2 and "--resume" in again.stderr
    other = invoke("train", tasks, "--method", "part", "--out", out, *fixed)
    assert other.exit_code == 2 and "already holds another run" in other.stderr
    assert json.loads((out / "results.json").read_text()) == record
    assert invoke(*words, "--resume").exit_code == 0


def test_dry_run_counts_and_writes_nothing(tasks: Path, invoke: Invoke, tmp_path: Path) -> None:
    words = ("train", tasks, "--method", "part", "--out", tmp_path / "out", *SMALL, "--dry-run")
    plan = json.loads(invoke(*words, "--json").stdout)
    assert plan["main"] == "part" and [task["name"] for task in plan["variants"]["part"]["tasks"]] == ["left", "upper"]
    shown = invoke(*words).stdout
    assert "method.modules" in shown and "method.weight_decay" not in shown  # what is as by default is not shown
    assert "variants.part.config.weight_decay" in invoke(*words, "--all").stdout
    assert not (tmp_path / "out").exists()


def test_a_suite_of_another_kind_in_json(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "suite.json"
    file.write_text(json.dumps({"kind": "split", "dataset": "digits", "tasks": 5}))
    plan = invoke("train", file, "--method", "part", "--out", tmp_path / "out", *SMALL, "--dry-run", "--json")
    assert len(json.loads(plan.stdout)["variants"]["part"]["tasks"]) == 5


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("tasks: [", (), "is no YAML"),
        ("names: []", (), "a mapping with a list of tasks is required"),
        ("tasks: [{name: a, dataset: digit}, {name: a, datset: digits}]", (), "two tasks are called 'a'"),
        ("{kind: splitt, dataset: digits}", (), "unknown kind of suite 'splitt'. Did you mean 'split'?"),
        ("tasks: [{name: a, dataset: wine}]", (), "part needs image tasks"),
        ("tasks: [{name: a, dataset: digits}]", ("--method", "prt"), "unknown method 'prt'. Did you mean 'part'?"),
        ("tasks: [{name: a, dataset: digits}]", ("--set", "method.modles=2"), "Did you mean 'modules'?"),
        ("tasks: [{name: a, dataset: digits}]", ("--method", "no.module:M"), "cannot be imported"),
    ],
)
def test_mistakes_leave_no_folder(invoke: Invoke, tmp_path: Path, text: str, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "tasks.yaml").write_text(text)
    result = invoke("train", tmp_path / "tasks.yaml", "--method", "part", "--out", tmp_path / "out", *words)
    assert result.exit_code == 2 and said in result.stderr and result.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.yaml"]


def test_no_such_file(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("train", tmp_path / "none.yaml", "--method", "part", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "none.yaml: cannot be read" in result.stderr


def test_a_folder_in_place_of_a_file(invoke: Invoke, tmp_path: Path) -> None:
    words = ("train", tmp_path, "--method", "part", "--out", tmp_path / "out")
    assert f"`polypath init {tmp_path}` makes a first tasks.yaml" in invoke(*words).stderr
    (tmp_path / "tasks.yaml").write_text("")
    result = invoke(*words)
    assert result.exit_code == 2 and "is a folder, and a file that names tasks is required" in result.stderr
    assert f"give {tmp_path / 'tasks.yaml'}" in result.stderr
