from __future__ import annotations

import json
from pathlib import Path

import yaml
from tests.cli.conftest import Invoke

SUITE = {"kind": "split", "dataset": "digits", "tasks": 2, "per_class": 8, "validation": 0.25}
SETTINGS = ("--set", 'method.backbone={"kind":"mlp","hidden":[8]}', "--set", "threads=1")


def file(tmp_path: Path) -> str:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    return str(tmp_path / "suite.yaml")


def test_methods_are_compared_and_one_is_recommended(invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("compare", file(tmp_path), "--methods", "single,hard_sharing", "--budget", "2e", "--seeds", "2", *SETTINGS)
    done = invoke(*asked, "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "Methods compared" in done.stdout and "Take " in done.stdout and "How sure: 2 seeds" in done.stdout
    page = (out / "report.html").read_text()
    assert "has the best mean test accuracy" in page and "old tasks when one is added" in page
    assert json.loads((out / "single/seed-0/results.json").read_text())["config"]["config"]["epochs"] == 2
    again = invoke(*asked, "--out", str(out), "--resume", "--json")
    assert json.loads(again.stdout)["recommendation"][0].endswith(".")
    assert json.loads((out / "environment.json").read_text())["command"].startswith("polypath compare")


def test_a_folder_that_holds_something_else_is_left_alone(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    given = ("--methods", "single", "--budget", "1e", "--seeds", "1", "--out", str(tmp_path / "out"))
    done = invoke("compare", file(tmp_path), *given, *SETTINGS)
    assert done.exit_code == 2 and "holds no polypath run" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_budget_that_is_none_is_refused_before_anything_is_read(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("compare", file(tmp_path), "--methods", "single", "--budget", "soon", "--out", str(tmp_path / "x"))
    assert done.exit_code == 2 and "a time (90s, 10m, 1.5h) or a number of epochs (20e)" in done.stderr


def test_seeds_count_from_the_files_own_and_one_can_be_named(invoke: Invoke, tmp_path: Path) -> None:
    suite = file(tmp_path)
    asked = ("compare", suite, "--methods", "single", "--out", str(tmp_path / "x"), "--dry-run", *SETTINGS)

    def seeds(*words: str) -> str:
        done = invoke(*asked, *words)
        assert done.exit_code == 0, done.stderr
        return next(line for line in done.stdout.splitlines() if " seeds " in line)

    assert "0, 1, 2" in seeds()
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({**SUITE, "seed": 7}))
    assert "7, 8" in seeds("--seeds", "2") and "4" in seeds("--seed", "4") and "7" not in seeds("--seed", "4")
    both = invoke(*asked, "--seeds", "2", "--seed", "4")
    assert both.exit_code == 2 and "not both" in both.stderr
