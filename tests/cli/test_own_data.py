"""The user's own data on the command line: init, train and predict on images, tables and texts."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from polypath.cli.answers import answers_table, columns, flat
from polypath.cli.data_table import data_table
from polypath.cli.show import metric
from polypath.core.examples import Suite
from polypath.core.task import MultiLabel, Regression, Task

Invoke = Callable[..., Any]
SMALL = ("--set", 'method.backbone={"kind":"mlp","hidden":[4]}', "--set", "method.epochs=2", "--set", "method.batch=16")


FIXED = ("--set", f"threads={os.environ.get('POLYPATH_TEST_THREADS', '1')}", "--set", "precision=32-true")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / ".cache"))


def trained(invoke: Invoke, folder: Path) -> Any:
    words = ("train", folder / "tasks.yaml", "--method", "hard_sharing", "--out", folder / "run", *SMALL, *FIXED)
    result = invoke(*words)
    assert result.exit_code == 0, result.stderr
    return result


def table(folder: Path) -> None:
    lines = ["area,city,price,sold"]
    for n in range(60):
        lines.append(f"{20 + n},{('Rome', 'Bari')[n % 2]},{'' if n == 7 else 1000 + 10 * n + n % 3 / 10},{n % 3 == 0}")
    (folder / "homes.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    table(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def agency(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A folder with a table and what was learned from it; what init and train said."""
    folder = tmp_path_factory.mktemp("agency")
    table(folder)
    made = invoke("init", folder)
    return folder, made, trained(invoke, folder)


def test_a_table_from_init_to_answers_in_its_own_units(
    agency: tuple[Path, Any, Any], invoke: Invoke, tmp_path: Path
) -> None:
    homes, made, learned = agency
    assert made.exit_code == 0 and "price, sold" in made.stderr
    assert (homes / "tasks.yaml").read_text().startswith("# yaml-language-server: $schema=tasks.schema.json\n")
    again = invoke("init", homes)
    assert again.exit_code == 2 and "exists already; --force" in again.stderr
    assert "1 without a label" in learned.stdout and "2 classes: False" in learned.stdout
    assert learned.stdout.index("Data of") < learned.stdout.index("Test main metric")  # before anything is trained

    new, out = tmp_path / "new.csv", tmp_path / "answers.csv"
    new.write_text("city,area,note\nRome,30,x\nOslo,40,y\n,50,z\n")  # other order, an unknown city, no city
    result = invoke("predict", homes / "run", "price", new, "--out", out)
    assert result.exit_code == 0 and result.stdout == "" and "3 answer(s)" in result.stderr
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["input"] for row in rows] == [f"{new}[{n}]" for n in range(3)]
    assert all(900 < float(row["value"]) < 1700 for row in rows)  # two epochs: near the mean, and in its units
    scores = json.loads(invoke("evaluate", homes / "run", "--json").stdout)
    assert 1 < scores["price"]["mae"] < 1000


def test_rows_that_cannot_be_read_stop_or_are_skipped(
    agency: tuple[Path, Any, Any], invoke: Invoke, tmp_path: Path
) -> None:
    run, bad, out = agency[0] / "run", tmp_path / "bad.csv", tmp_path / "answers.jsonl"
    bad.write_text("area,city\n" + "20,Rome\n" * 300 + "big,Rome\n,Bari\n30,Rome,7\n\n50,Bari\n")
    out.write_text("as it was\n")
    words = ("predict", run, "sold", bad, "--out", out)
    stopped = invoke(*words)
    assert stopped.exit_code == 2 and "bad.csv[300]: rows: numbers required in column 'area'" in stopped.stderr
    assert out.read_text() == "as it was\n" and not list(tmp_path.glob(".answers*"))
    result = invoke(*words, "--on-error", "skip")
    assert result.exit_code == 0 and "301 answer(s)" in result.stderr
    assert "3 input(s) could not be read" in result.stderr
    assert f"{bad}: line 304 has 3 cell(s), and the header has 2 columns" in result.stderr
    assert out.stat().st_mode & 0o777 == bad.stat().st_mode & 0o777  # as of any file this user makes
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 304 and [n for n, row in enumerate(rows) if "error" in row] == [300, 301, 302]
    assert rows[303]["label"] in ("True", "False") and sum(rows[303]["probabilities"].values()) == pytest.approx(1)
    assert rows[303]["input"] == f"{bad}[303]"

    (tmp_path / "none.csv").write_text("area,city\nbig,Rome\n")
    none = invoke("predict", run, "sold", tmp_path / "none.csv", "--on-error", "skip")
    assert none.exit_code == 2 and "none of the 1 input(s)" in none.stderr
    for name, said in (("a.txt", ".csv, .jsonl"), ("bad.csv", "is one of the inputs"), ("x/a.csv", "does not exist")):
        refused = invoke("predict", run, "sold", bad, "--out", tmp_path / name)
        assert refused.exit_code == 2 and said in refused.stderr
    (tmp_path / "short.csv").write_text("area\n3\n")
    assert "['city'] missing" in invoke("predict", run, "sold", tmp_path / "short.csv").stderr


def test_values_are_shown_as_people_write_them() -> None:
    values = [581037.1875, -1234.6, 412.25, 0.000125, 0.0]
    shown = answers_table("price", [{"input": "x", "task": "price", "values": values}])
    assert list(shown.columns[1].cells)[0].plain == "581,037, -1,235, 412.2, 0.000125, 0"


@pytest.mark.parametrize(("value", "shown"), [(0.79126, "0.7913"), (16979208797.59, "16,979,208,798"), (None, "–")])
def test_metrics_are_shown_as_people_write_them(value: float | None, shown: str) -> None:
    assert metric(value) == shown


def test_folders_of_images(tmp_path: Path, invoke: Invoke) -> None:
    draw = np.random.default_rng(0)
    for name in ("sky", "sea"):
        for number, label in enumerate(("dark", "light")):
            (tmp_path / name / label).mkdir(parents=True)
            for n in range(20):
                pixels = draw.integers(128 * number, 128 * number + 128, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{n:02}.png")
    assert invoke("init", tmp_path).exit_code == 0
    assert "images 1 x 8 x 8" in trained(invoke, tmp_path).stdout
    new = tmp_path / "new"
    (new / "deep").mkdir(parents=True)
    for n in range(3):
        Image.new("L", (8, 8), 100 * n).save(new / ("deep" if n else "") / f"{n}.png")
    (new / "broken.png").write_text("no image")
    (new / "notes.txt").write_text("not an image, and not asked about")
    stopped = invoke("predict", tmp_path / "run", "sea", new)
    assert stopped.exit_code == 2 and "broken.png" in stopped.stderr and stopped.stdout == ""
    found = invoke("predict", tmp_path / "run", "sea", new, "--on-error", "skip", "--json")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [Path(row["input"]).name for row in rows] == ["0.png", "broken.png", "1.png", "2.png"]
    assert "error" in rows[1] and rows[0]["label"] in ("dark", "light") and "broken.png" in found.stderr
    assert "could not be read" in invoke("predict", tmp_path / "run", "sea", new, "--on-error", "skip").stdout
    (tmp_path / "empty").mkdir()
    assert "without a file that the task reads" in invoke("predict", tmp_path / "run", "sea", tmp_path / "empty").stderr


def test_texts_of_a_table_and_of_files(tmp_path: Path, invoke: Invoke) -> None:
    rows = "\n".join(f"a {('good', 'bad')[n % 2]} film number {n},{('yes', 'no')[n % 2]}" for n in range(60))
    (tmp_path / "reviews.csv").write_text(f"review,liked_label\n{rows}\n")
    invoke("init", tmp_path)
    assert "texts: " in trained(invoke, tmp_path).stdout
    (tmp_path / "one.txt").write_text("what a good film")
    (tmp_path / "more.csv").write_text("id,review,remark\n1,bad film,x\n2,,y\n")
    words = ("predict", tmp_path / "run", "reviews", tmp_path / "one.txt", tmp_path / "more.csv", "--json")
    found = invoke(*words, "--on-error", "skip")
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert [Path(row["input"]).name for row in answers] == ["one.txt", "more.csv[0]", "more.csv[1]"]
    assert answers[0]["label"] in ("yes", "no") and "nothing is in this cell" in answers[2]["error"]
    assert "no column 'text'" in invoke(*words, "--column", "text").stderr
    (tmp_path / "other.csv").write_text("id,text\n1,bad film\n")
    other = ("predict", tmp_path / "run", "reviews", tmp_path / "other.csv")
    assert "name the column of the inputs by --column" in invoke(*other).stderr
    assert invoke(*other, "--column", "text").exit_code == 0


def test_a_file_with_mistakes_trains_nothing_and_names_its_lines(homes: Path, invoke: Invoke) -> None:
    (homes / "tasks.yaml").write_text("tasks:\n- name: a\n  dataset: csv:homes.csv\n  target: prize\n  colour: red\n")
    result = invoke("train", homes / "tasks.yaml", "--method", "hard_sharing", "--out", homes / "run")
    assert result.exit_code == 2 and result.stdout == "" and not (homes / "run").exists()
    assert "line 5: unknown key of task 'a' 'colour'" in result.stderr


def test_a_dry_run_says_what_was_found(homes: Path, invoke: Invoke) -> None:
    invoke("init", homes)
    words = ("train", homes / "tasks.yaml", "--method", "hard_sharing", "--out", homes / "run", *SMALL, "--dry-run")
    found = json.loads(invoke(*words, "--json").stdout)["data"]
    assert [one["name"] for one in found] == ["price", "sold"] and found[0]["missing_labels"] == 1
    assert found[1]["input_columns"] == ["area", "city"] and set(found[1]["classes"]) == {"False", "True"}
    assert sum(found[1]["examples"].values()) == 60
    assert "Data of" in invoke(*words).stdout and not (homes / "run").exists()


def test_one_is_one() -> None:
    for count, said in (
        (1, "1 unreadable image, 1 test example also in train"),
        (2, "2 unreadable images, 2 test exam"),
    ):
        facts = {"unreadable_images": count, "duplicates_train_test": count, "examples": {"test": 9}}
        shown = data_table(Suite("s", (replace(tiny.data("a"), facts=facts),)))
        assert said in list(shown.columns[6].cells)[0].plain


def test_a_dry_run_says_which_columns_are_not_inputs(tmp_path: Path, invoke: Invoke) -> None:
    rows = [f"{n},2024-01-{n % 28 + 1:02},{n % 2}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["a,day,y", *rows]) + "\n")
    (tmp_path / "tasks.yaml").write_text("tasks:\n- {name: t, dataset: 'csv:t.csv', target: y}\n")
    words = ("train", tmp_path / "tasks.yaml", "--method", "hard_sharing", "--out", tmp_path / "run", "--dry-run")
    (found,) = json.loads(invoke(*words, "--json").stdout)["data"]
    assert found["noted"] == ["not an input, being neither numbers nor texts: day (date32[day])"]
    assert "day" in invoke(*words).stdout


def test_the_schema_is_json(invoke: Invoke, tmp_path: Path) -> None:
    assert json.loads(invoke("schema").stdout)["title"] == "polypath tasks.yaml"
    assert invoke("schema", "--out", tmp_path / "s.json").exit_code == 0
    assert json.loads((tmp_path / "s.json").read_text()) == json.loads(invoke("schema").stdout)


def test_cells_of_several_labels_and_of_several_numbers() -> None:
    pre = {"kind": "table", "columns": ("a",), "mean": (0.0,), "std": (1.0,)}
    task = {"name": "t", "inputs": {"kind": "features", "size": 1}, "preprocess": pre}
    many = Task.of({**task, "target": MultiLabel(labels=("hat", "scarf"))})
    row = {"input": "x", "task": "t", "labels": ["hat", "scarf"], "probabilities": {"hat": 0.9, "scarf": 0.8}}
    assert flat(row) == {"input": "x", "labels": "hat;scarf", "p(hat)": 0.9, "p(scarf)": 0.8}
    assert set(flat(row)) <= set(columns(many))
    two = Task.of({**task, "target": Regression(size=2)})
    assert flat({"input": "x", "task": "t", "values": [1.5, 2.5]}) == {"input": "x", "value1": 1.5, "value2": 2.5}
    assert columns(two) == ["input", "value1", "value2", "error"]
