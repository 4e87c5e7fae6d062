"""Jobs of Run.map: answers in order, on disk as soon as they are there, and a way to stop them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polypath.core.errors import Cancelled
from polypath.core.run import beat
from polypath.train.checkpoint import load_answer, save_answer
from polypath.train.display import Display
from polypath.train.engine import Engine

ASKED: list[int] = []


def answer(shared: int, job: int) -> dict[str, Any]:
    ASKED.append(job)
    return {
        "value": shared + job,
        "tensors": {"a": {"w": torch.full((2,), float(job))}},
        "none": None,
        "list": [1, 2.5],
    }


def dies_at_two(shared: int, job: int) -> dict[str, Any]:
    if job == 2:
        raise KeyboardInterrupt
    return answer(shared, job)


def engine(out: Path | None = None, *, resume: bool = False) -> Engine:
    return Engine(out=out, resume=resume, progress=False)


def test_answers_come_in_the_order_of_the_jobs() -> None:
    assert [one["value"] for one in engine().map(answer, [3, 1, 2], 10)] == [13, 11, 12]


def test_an_answer_survives_the_disk_as_it_was(tmp_path: Path) -> None:
    given = {**answer(0, 1), "trace": torch.ones(2, dtype=torch.bfloat16), "empty": {}}
    save_answer(tmp_path / "one.safetensors", given)
    found = load_answer(tmp_path / "one.safetensors")
    assert found.pop("trace").dtype == torch.bfloat16
    assert torch.equal(found.pop("tensors")["a"]["w"], torch.ones(2))
    assert found == {"value": 1, "none": None, "list": [1, 2.5], "empty": {}}


def test_a_resumed_run_asks_only_for_answers_that_are_not_there(tmp_path: Path) -> None:
    ASKED.clear()
    with pytest.raises(KeyboardInterrupt):
        engine(tmp_path).map(dies_at_two, [0, 1, 2, 3], 10, name="generation-0")
    assert ASKED == [0, 1]
    again = engine(tmp_path, resume=True)
    found = again.map(answer, [0, 1, 2, 3], 10, name="generation-0")
    assert ASKED == [0, 1, 2, 3] and [one["value"] for one in found] == [10, 11, 12, 13]
    again.map(answer, [0], 10, name="generation-1")
    assert ASKED[-1] == 0 and len(ASKED) == 5  # another name, other answers
    again.end_stage(0)
    assert not list((tmp_path / "checkpoint").iterdir())


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    ASKED.clear()
    engine(tmp_path).map(answer, [5], 0, name="g")
    (file,) = (tmp_path / "checkpoint").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert engine(tmp_path, resume=True).map(answer, [5], 0, name="g")[0]["value"] == 5
    assert ASKED == [5, 5]


def beats(shared: Engine, job: int) -> int:
    shared.cancel()
    beat()
    return job


def test_a_job_is_stopped_in_its_middle() -> None:
    run = engine()
    with pytest.raises(Cancelled):
        run.map(beats, [1], run)
    beat()  # outside of a run nothing listens


def test_the_terminal_shows_a_row_a_job_with_its_note_and_the_time_left_above() -> None:
    display = Display("evolving", show=True, on_progress=None)
    display._show = True  # as on a terminal
    with display:
        display.begin(0, 1, 0, epochs=2, steps=2, first=0)
        with display.jobs(lambda answer: f"score {answer:.2f}") as rows:
            rows.began(0)
            rows.done(1, 0.5)  # its answer was on disk
            assert [task.description for task in display.bar.tasks] == ["evolving", "  child 1", "  child 2"]
            whole, first, second = display.bar.tasks
            assert (first.finished, first.fields["note"]) == (False, "training")
            assert (second.finished, second.fields["note"]) == (True, "score 0.50")
            rows.done(0, 0.75)
            assert first.fields["note"] == "score 0.75"
        assert (whole.completed, whole.total) == (2, 4)
        assert len(display.bar.tasks) == 1


def test_jobs_without_a_loop_around_them_are_shown_too() -> None:
    display = Display("working", show=True, on_progress=None)
    display._show = True
    with display, display.jobs(None) as rows:
        rows.began(0)
        rows.done(0, None)
        assert display.bar.tasks[0].fields["note"] == "done"
