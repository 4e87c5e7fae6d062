"""Jobs of `Run.map`: done here or elsewhere, every answer kept on disk as soon as it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from polypath.core.errors import CorruptError
from polypath.core.run import PULSE
from polypath.core.threads import threads
from polypath.train.checkpoint import load_answer, save_answer

log = logging.getLogger(__name__)
Function = Callable[[Any, Any], Any]


class Executor(Protocol):
    """Does jobs; the result must not depend on where or in which order."""

    def __call__(
        self,
        function: Function,
        jobs: Sequence[Any],
        shared: Any,
        beat: Callable[[], None],
        began: Callable[[int], None],
    ) -> Generator[tuple[int, Any], None, None]:
        """(position of the job, its answer) in the order in which answers come.

        Args:
            function: pure, module-level.
            jobs: what is asked.
            shared: shipped once.
            beat: to be called while waiting; raises where the run was told to stop.
            began: called with the position of a job that is started.
        """
        ...


class Rows(Protocol):
    """Shows jobs while they are done."""

    def began(self, position: int) -> None:
        """A job is started."""

    def done(self, position: int, answer: Any) -> None:
        """Its answer is there."""


def here(
    count: int,
    function: Function,
    jobs: Sequence[Any],
    shared: Any,
    beat: Callable[[], None],
    began: Callable[[int], None],
) -> Generator[tuple[int, Any], None, None]:
    """One job after the other in this process, each with `count` threads."""
    for position, job in enumerate(jobs):
        beat()
        began(position)
        token = PULSE.set(beat)
        try:
            with threads(count):
                answer = function(shared, job)
        finally:
            PULSE.reset(token)
        yield position, answer


def mapped(
    function: Function,
    jobs: Iterable[Any],
    shared: Any,
    *,
    kept: Path | None,
    resume: bool,
    beat: Callable[[], None],
    rows: Rows,
    execute: Executor,
) -> list[Any]:
    """Answers in the order of the jobs.

    Args:
        function: see `polypath.core.run.Run.map`.
        jobs: see there.
        shared: see there.
        kept: answers are written beside this file, `NAME-3.safetensors` for the fourth; None keeps none.
        resume: read answers that are there.
        beat: called while jobs are done; raises where the run was told to stop.
        rows: told of every job that begins and of every answer.
        execute: does the jobs.
    """
    asked = list(jobs)
    files = [None if kept is None else kept.with_stem(f"{kept.stem}-{number}") for number in range(len(asked))]
    answers: dict[int, Any] = {}
    for number, file in enumerate(files):
        if resume and file is not None and file.exists():
            try:
                answers[number] = load_answer(file)
            except CorruptError as error:  # an answer can be had again
                log.warning("%s; the job is done again", error)
    missing = [number for number in range(len(asked)) if number not in answers]
    for number, answer in answers.items():
        rows.done(number, answer)
    due = [asked[number] for number in missing]
    with closing(execute(function, due, shared, beat, lambda position: rows.began(missing[position]))) as coming:
        for position, answer in coming:
            file = files[missing[position]]
            if file is not None:
                save_answer(file, answer)
            answers[missing[position]] = answer
            rows.done(missing[position], answer)
    return [answers[number] for number in range(len(asked))]
