"""`recipes`, `methods` and `datasets`: tables of what there is, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polypath.cli.errors import message
from polypath.cli.methods import documented
from polypath.data import CATALOGUE
from polypath.methods import METHODS
from polypath.recipes import RECIPES

Invoke = Callable[..., Any]


def test_recipes(invoke: Invoke) -> None:
    found = {about["name"]: about for about in json.loads(invoke("recipes", "--json").stdout)}
    assert list(found) == list(RECIPES)
    assert found["part/cifar100"]["sizes"]["full"] == 5  # the paper's seeds
    for about in found.values():
        assert about["title"] and about["paper"] and about["main"] in about["variants"]
        assert {*about["sizes"], *about["needs"]} == {"full", "quick", "smoke"}
    shown = invoke("recipes").stdout.splitlines()
    assert len(shown) == len(RECIPES) + 6  # a line each, title, header and its two rules, the lower edge, a note
    assert all(any(f"│ {name} " in line for line in shown) for name in RECIPES)


def test_one_recipe(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no data folder lies here
    monkeypatch.delenv("POLYPATH_DATA", raising=False)
    about = json.loads(invoke("recipes", "dfcnn/cifar10_mtl", "--json").stdout)
    shown = invoke("recipes", "dfcnn/cifar10_mtl").stdout
    assert len(about["variants"]) > 20 and all(f"│ {name} " in shown for name in about["variants"])  # none is broken
    assert about["methods"]["heterogeneous_4_dfcnn"] == "dfcnn" and about["paper"] in shown
    missing = invoke("recipes", "part/five_tasks").stdout  # data that cannot be redistributed
    assert "one sub-folder a class" in missing and "data/five_tasks/" in missing
    wrong = invoke("recipes", "part/digit")
    assert wrong.exit_code == 2 and "Did you mean 'part/digits'?" in wrong.stderr


def test_methods(invoke: Invoke) -> None:
    found = json.loads(invoke("methods", "--json").stdout)
    assert [about["name"] for about in found] == list(METHODS)
    part = json.loads(invoke("methods", "part", "--json").stdout)
    assert part["settings"]["modules"]["default"] == 12 and part["settings"]["learning_rate"]["default"] == 1e-3
    assert [key for about in found for key, setting in about["settings"].items() if not setting["meaning"]] == []
    assert "method.learning_rate" in invoke("methods", "part").stdout
    wrong = invoke("methods", "prt")
    assert wrong.exit_code == 2 and "Did you mean 'part'?" in wrong.stderr
    assert f"Known: {', '.join(sorted(METHODS))}." in wrong.stderr  # all of them


def test_types_of_settings_are_shown_as_one_writes_them(invoke: Invoke) -> None:
    found = {name: json.loads(invoke("methods", name, "--json").stdout)["settings"] for name in METHODS}
    types = {name: {key: about["type"] for key, about in settings.items()} for name, settings in found.items()}
    assert types["ewc"]["batch"] == "int | dict[str, int]"
    assert types["cpg"]["optimizer"] == "'adam' | 'adamw' | 'sgd'"
    assert types["dfcnn"]["knowledge"] == "tuple[int | tuple[int, int], ...] | None"
    assert types["part"]["paths"] == "dict[str, list[list[int]]]"
    assert not [text for settings in types.values() for text in settings.values() if "FieldInfo" in text]


def test_meanings_are_read_from_docstrings() -> None:
    text = """Title.

    Args:
        one: is a
            long one.
        two, three: see: there.

    Raises:
        four: is none.
    """
    assert documented(text) == {"one": "is a long one.", "two": "see: there.", "three": "see: there."}


def test_datasets(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    (tmp_path / "imdb").mkdir()
    for split, rows in (("train", 7), ("test", 3)):
        table = pa.table({"text": ["a"] * rows, "label": [0] * rows})
        pq.write_table(table, tmp_path / "imdb" / f"{split}-00000-of-00001.parquet")
    found = {about["name"]: about for about in json.loads(invoke("datasets", "--json").stdout)}
    assert list(found) == list(CATALOGUE)
    assert found["imdb"]["found"] == "$POLYPATH_DATA" and found["imdb"]["examples"] == {"train": 7, "test": 3}
    assert found["digits"]["found"] == "bundled" and found["digits"]["examples"] == {"train": 1797}
    assert found["cifar10"]["found"] == "hub: uoft-cs/cifar10" and found["cifar10"]["examples"] == {}
    shown = invoke("datasets").stdout
    assert "and 38 more" in shown and f"POLYPATH_DATA is {tmp_path}" in shown
    monkeypatch.delenv("POLYPATH_DATA")
    assert "POLYPATH_DATA is not set" in invoke("datasets").stdout


def test_a_damaged_data_file_is_named(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-0.parquet").write_bytes(b"no parquet")
    result = invoke("datasets")
    assert result.exit_code == 0 and "damaged" in result.stdout


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "x/y"), "x/y: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (BrokenPipeError(32, "Broken pipe"), None),
        (ZeroDivisionError("ours"), None),
    ],
)
def test_messages_of_errors_that_are_not_ours(error: Exception, said: str | None) -> None:
    assert message(error) == said
