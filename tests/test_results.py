"""The tables of docs/results.md are what the committed records say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from polypath.report.records import read_results
from polypath.report.tables import Grid

DOCS = Path(__file__).parents[1] / "docs"


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_generated() -> None:
    text = (DOCS / "results.md").read_text()
    assert "<!-- table: reproduction/part/cifar100 -->" in text
    assert maker().generated(text) == text, "run: python docs/make_tables.py"


def test_an_edited_number_is_noticed() -> None:
    text = (DOCS / "results.md").read_text()
    assert "| not run |" in text
    assert maker().generated(text.replace("| not run |", "| 0.999 |", 1)) == text


def test_records_name_machine_and_commit() -> None:
    for result in read_results(DOCS / "results" / "quick"):
        assert result.environment["cpu"] and result.environment["commit"]
        assert not str(result.environment["commit"]).endswith("+changes")


def test_tables_of_full_runs_wait_for_their_records(tmp_path, monkeypatch):
    tables = maker()
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.table("full/rsn2/capacity") == tables.table("f1/rsn2/capacity") == "Not run yet."


def test_machines_and_commits_are_letters_with_notes() -> None:
    """By hand: three rows of two runs and one that nobody ran; what the cells said stands in the notes."""
    header = ("figure", "ours", "machine", "commit")
    rows = (("x", "1", "A", "c1"), ("y", "not run", "–", "–"), ("z", "2", "A", "c2"), ("w", "3", "A", "c1"))
    table = maker().lettered(Grid("title", header, rows, ("Paper.",)))
    assert table.header == ("figure", "ours", "run")
    assert [row[-1] for row in table.rows] == ["a", "–", "b", "a"]
    assert table.notes == ("Paper.", "a: A, c1.", "b: A, c2.")
