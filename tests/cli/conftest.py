"""The command line in this process, and one finished run that tests copy from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from polypath.cli import app

Invoke = Callable[..., Any]
# Threads and precision are part of a run: fixed here, so that equal commands give equal bits.
FIXED = ("--set", f"threads={os.environ.get('POLYPATH_TEST_THREADS', '1')}", "--set", "precision=32-true")

THREE_TASKS = ("--set", "suite.tasks=3", "--set", "suite.classes_per_task=2")


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """`invoke("run", "part/digits")` -> a result with exit_code, stdout and stderr; traces are never expected."""
    runner = CliRunner(env={"COLUMNS": "200", "POLYPATH_DEBUG": ""})

    def call(*words: object) -> Any:
        result = runner.invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.stdout + result.stderr
        return result

    return call


@pytest.fixture(scope="session")
def finished(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of `run part/digits --smoke` with one variant and two seeds, and what the command printed."""
    out = tmp_path_factory.mktemp("cli") / "run"
    words = ("run", "part/digits", "--smoke", "--variant", "sequential", "--seeds", 2, *THREE_TASKS)
    result = invoke(*words, "--out", out, *FIXED)
    assert result.exit_code == 0, result.stderr
    return out, result


@pytest.fixture
def system(finished: tuple[Path, Any], tmp_path: Path) -> Path:
    """A system of its own for every test."""
    folder = tmp_path / "system"
    shutil.copytree(finished[0] / "sequential" / "seed-0" / "system", folder)
    return folder


@pytest.fixture
def fixed() -> tuple[str, ...]:
    """Options that fix threads and precision."""
    return FIXED
