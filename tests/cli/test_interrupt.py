"""Ctrl-C in the middle of a run: exit code 130, the command that goes on, and the same system in the end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polypath.core.errors import Cancelled
from polypath.recipes.experiment import experiment_of, run_experiment
from polypath.train.engine import Progress


def components(out: Path) -> dict[str, str]:
    manifest = json.loads((out / "parallel" / "seed-0" / "system" / "manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["components"].items()}


def interrupted(words: list[str], journal: Path, epochs: int) -> tuple[str, str]:
    """What the command says where Ctrl-C comes after some epochs."""
    # A shell that starts jobs in the background may ignore SIGINT for them; the child must not inherit that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from polypath.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    deadline = time.monotonic() + 300
    while not (journal.exists() and journal.read_text().count('"train"') >= epochs):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    return stdout, stderr


def test_ctrl_c_says_how_to_go_on_and_resume_reaches_the_unbroken_result(
    invoke: Callable[..., Any], tmp_path: Path, fixed: tuple[str, ...]
) -> None:
    words = ["run", "part/digits", "--smoke", "--variant", "parallel", "--set", "suite.tasks=2"]
    words += ["--set", "method.epochs=15", "--set", "method.width=2", "--set", "method.evaluate_every=0", *fixed]
    out = tmp_path / "a run"  # a space: the command that is printed must be quoted
    journal = out / "parallel" / "seed-0" / "metrics.jsonl"
    stdout, stderr = interrupted([*words, "--out", str(out)], journal, epochs=3)
    assert "Traceback" not in stderr and stdout == ""
    assert not (out / "parallel" / "seed-0" / "results.json").exists()
    command = shlex.split(stderr.strip().splitlines()[-1])
    assert command == ["polypath", *normal(words), "--out", str(out), "--resume"]

    assert invoke(*command[1:]).exit_code == 0
    assert invoke(*words, "--out", tmp_path / "unbroken").exit_code == 0
    assert components(out) == components(tmp_path / "unbroken")


def test_ctrl_c_and_resume_of_own_tasks_reach_the_unbroken_result(
    invoke: Callable[..., Any], tmp_path: Path, fixed: tuple[str, ...]
) -> None:
    rows = "".join(f"{n % 7},{n % 5},{'a' if n % 7 > 3 else 'b'}\n" for n in range(200))
    (tmp_path / "plants.csv").write_text("x,y,kind\n" + rows)
    (tmp_path / "tasks.yaml").write_text("name: kind\ndataset: csv:plants.csv\ntarget: kind\n")
    words = ["train", str(tmp_path / "tasks.yaml"), "--method", "hard_sharing", "--set", "method.epochs=12"]
    words += ["--set", 'method.backbone={"kind":"mlp","hidden":[4]}', "--set", "method.batch=4", *fixed]
    out = tmp_path / "own"
    stdout, stderr = interrupted([*words, "--out", str(out)], out / "metrics.jsonl", epochs=2)
    assert "Traceback" not in stderr and "Data of" in stdout  # the data is shown first; of results nothing is
    assert not (out / "results.json").exists() and list((out / "checkpoint").iterdir())
    command = shlex.split(stderr.strip().splitlines()[-1])
    assert command[:2] == ["polypath", "train"] and command[-1] == "--resume"
    refused = invoke(*words, "--out", out)
    assert refused.exit_code == 2 and "--resume" in refused.stderr

    assert invoke(*command[1:]).exit_code == 0
    assert invoke(*words, "--out", tmp_path / "unbroken").exit_code == 0
    one, other = (json.loads((at / "system" / "manifest.json").read_text()) for at in (out, tmp_path / "unbroken"))
    assert one["components"] == other["components"] and not (out / "checkpoint").exists()
    epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in epochs if line["kind"] == "train"] == list(range(12))


def test_ctrl_c_after_the_last_step_stops_the_next_variant(tmp_path: Path, fixed: tuple[str, ...]) -> None:
    words = [word for word in (*fixed, "--set", "suite.tasks=2", "--set", "method.width=2") if word != "--set"]
    experiment = experiment_of("part/digits", "smoke", words, variants=["parallel", "single"])

    def stop(now: Progress) -> bool:
        return now.epoch == now.epochs  # told at the end of the last epoch: no optimizer step follows

    with pytest.raises(Cancelled, match="--resume"):
        run_experiment(experiment, tmp_path / "out", progress=False, on_progress=stop)
    assert (tmp_path / "out" / "parallel" / "seed-0" / "results.json").exists()
    assert not (tmp_path / "out" / "single").exists()
    results = run_experiment(experiment, tmp_path / "out", resume=True, progress=False)
    assert [result.variant for result in results] == ["parallel", "single"]


def normal(words: list[str]) -> list[str]:
    """The order in which the command is printed: overrides before variants."""
    pairs = [words[i : i + 2] for i in range(3, len(words), 2)]
    return words[:3] + [w for pair in sorted(pairs, key=lambda pair: pair[0] != "--set") for w in pair]
