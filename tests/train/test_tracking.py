"""Runs followed in TensorBoard: its event files say what the journal says, and only where somebody asked."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tiny

from polypath.core.errors import Cancelled, InvalidInput

pytest.importorskip("tensorboard", reason="pip install 'polypath[track]'")


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), read back by TensorBoard's own reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        held = EventAccumulator(str(folder))
        held.Reload()
    return {tag: [(e.step, e.value) for e in held.Scalars(tag)] for tag in held.Tags()["scalars"]}


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"]["task1"] for line in lines if line["kind"] == "train" and "task1" in line["loss"]]


def test_the_event_file_says_what_the_journal_says(tmp_path: Path) -> None:
    tiny.learn(tiny.suite(2), out=tmp_path / "run", track="tensorboard", mode="sequential")
    found = events(tmp_path / "run" / "tensorboard")
    first = found["train/loss/task1"]
    assert [step for step, _ in first] == [0, 1]
    assert [value for _, value in first] == pytest.approx(losses(tmp_path / "run"))
    assert [step for step, _ in found["train/loss/task2"]] == [2, 3]  # two epochs a stage, counted on
    assert not [tag for tag in found if "test" in tag]  # nobody is to steer by test labels


def test_validation_scores_are_scalars_too(tmp_path: Path) -> None:
    import polypath as pp

    suite = tiny.suite(1, validation=True)
    settings = {"backbone": {"kind": "mlp", "hidden": [4]}, "epochs": 3, "patience": 2, "batch": 8, "threads": 1}
    pp.learn("single", suite, out=tmp_path / "run", track="tensorboard", progress=False, **settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = [line["values"]["accuracy"] for line in lines if line["kind"] == "score" and line["split"] == "val"]
    found = events(tmp_path / "run" / "tensorboard")["val/accuracy/task1"]
    assert scores and [value for _, value in found] == pytest.approx(scores)


def test_a_resumed_run_has_every_epoch_once(tmp_path: Path) -> None:
    settings = {"out": tmp_path / "run", "track": "tensorboard", "epochs": 4}
    with pytest.raises(Cancelled):
        tiny.learn(tiny.suite(1), on_progress=lambda now: now.epoch == 2, **settings)
    tiny.learn(tiny.suite(1), resume=True, **settings)
    found = events(tmp_path / "run" / "tensorboard")["train/loss/task1"]
    assert [step for step, _ in found] == [0, 1, 2, 3]
    assert [value for _, value in found] == pytest.approx(losses(tmp_path / "run"))


def test_tracking_may_be_switched_on_when_a_run_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        tiny.learn(tiny.suite(1), out=tmp_path / "run", epochs=3, on_progress=lambda now: now.epoch == 2)
    tiny.learn(tiny.suite(1), out=tmp_path / "run", epochs=3, resume=True, track="tensorboard")
    assert len(events(tmp_path / "run" / "tensorboard")["train/loss/task1"]) == 3


def test_a_run_in_memory_has_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"give out=\.\.\. \(--out\)"):
        tiny.learn(tiny.suite(1), track="tensorboard")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    gone = {"tensorboard"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in gone else found(name, *a))
    with pytest.raises(InvalidInput, match=r"pip install 'polypath\[track\]'"):
        tiny.learn(tiny.suite(1), out=tmp_path / "run", track="tensorboard")


def test_nobody_imports_tensorboard_unasked(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'helpers')!r})\n"
        "import tiny; tiny.learn(tiny.suite(1), epochs=1)\n"
        "print('tensorboard' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.stdout.strip() == "False", done.stderr
