"""The Python examples of README.md and docs/ run as they stand there, each page in one namespace, top to bottom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?P<marker><!-- not run:(?P<reason>[^>]*)-->\s*)?^```python[^\n]*\n(?P<code>.*?)^```", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """One block: where its code starts, the code, and why it does not run (None: it runs)."""

    line: int
    code: str
    reason: str | None


def examples(text: str) -> Iterator[Example]:
    for found in BLOCK.finditer(text):
        reason = found["reason"].strip() if found["marker"] else None
        yield Example(text.count("\n", 0, found.start("code")) + 1, found["code"], reason)


def with_code() -> list[Path]:
    return [page for page in PAGES if any(example.reason is None for example in examples(page.read_text()))]


def test_blocks_are_found_and_marked_ones_left_out() -> None:
    text = "x\n\n```python\na = 1\n```\n\n<!-- not run: needs a server -->\n```python\nb\n```\n```sh\nc\n```\n"
    assert list(examples(text)) == [Example(4, "a = 1\n", None), Example(9, "b\n", "needs a server")]


def test_the_readme_has_an_example_that_runs() -> None:
    assert ROOT / "README.md" in with_code()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_that_does_not_run_says_why(page: Path) -> None:
    assert not [example.line for example in examples(page.read_text()) if example.reason == ""]


@pytest.mark.parametrize("page", with_code(), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # they save systems
    namespace: dict[str, object] = {"__name__": "__main__"}
    for example in examples(page.read_text()):
        if example.reason is None:
            # Blank lines in front: a traceback names the page and its line.
            code = compile("\n" * (example.line - 1) + example.code, str(page), "exec", dont_inherit=True)
            exec(code, namespace)
