"""Progress of a run: a bar with the time left on a terminal, callbacks from Python, silence elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Args:
        stage, stages: stage being learned, and how many there are.
        loop: which of the stage's loops over epochs (training, retraining after pruning, ...), from 0.
        epoch, epochs: of this loop.
        step, steps: optimizer steps done and due in this epoch.
        seconds_left: estimate for this stage, None before the first steps.
    """

    stage: int
    stages: int
    loop: int
    epoch: int
    epochs: int
    step: int
    steps: int
    seconds_left: float | None


class JobRows:
    """A row for every job of `Run.map`: for how long it has been running, then what came of it.

    Args:
        display: above whose bar the rows stand; every job is one of its steps.
        note: what is shown of an answer.
    """

    def __init__(self, display: Display, note: Callable[[Any], str] | None) -> None:
        self._display, self._note = display, note
        self._rows: dict[int, Any] = {}

    def began(self, position: int) -> None:
        """A job is started."""
        bar = self._display.bar
        if bar is not None:
            self._rows[position] = bar.add_task(f"  child {position + 1}", total=1, note="training")

    def done(self, position: int, answer: Any) -> None:
        """Its answer is there."""
        bar = self._display.bar
        if bar is not None:
            if position not in self._rows:  # read from disk
                self.began(position)
            bar.update(self._rows[position], completed=1, note=self._note(answer) if self._note else "done")
        self._display.advance()

    def remove(self) -> None:
        """All are done: their rows go."""
        for row in self._rows.values():
            self._display.bar.remove_task(row)
        self._rows.clear()


class Display:
    """Shows a stage's progress and tells callbacks.

    Args:
        title: what is being learned.
        show: draw a bar (only when standard error is a terminal).
        on_progress: called at most four times a second and at the end of every epoch.
    """

    def __init__(self, title: str, show: bool, on_progress: Callable[[Progress], Any] | None) -> None:
        self._title, self._on_progress = title, on_progress
        self._show = show and sys.stderr.isatty()
        self.bar: Any = None  # rich's, on a terminal
        self._row: Any = None
        self._told = 0.0
        self._began = 0.0
        self._first = 0
        self.stage, self.stages, self.loop, self.epoch, self.epochs, self.step, self.steps = 0, 1, 0, 0, 0, 0, 0

    def __enter__(self) -> Self:
        if self._show:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps,"),
                TimeElapsedColumn(),
                TextColumn("gone,"),
                TimeRemainingColumn(),
                TextColumn("left "),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def begin(self, stage: int, stages: int, loop: int, epochs: int, steps: int, first: int) -> None:
        """A loop of a stage starts at epoch `first`."""
        self.stage, self.stages, self.loop, self.epochs, self.steps = stage, stages, loop, epochs, steps
        self.epoch, self.step, self._first, self._began = first, 0, first, time.monotonic()
        if self.bar is not None:
            if self._row is not None:
                self.bar.remove_task(self._row)
            name = self._title if stages == 1 else f"{self._title} stage {stage + 1}/{stages}"
            self._row = self.bar.add_task(name, total=epochs * steps, completed=first * steps, note="")

    def advance(self) -> None:
        """One optimizer step is done."""
        self.step += 1
        if self.bar is not None and self._row is not None:
            self.bar.update(self._row, advance=1)
        now = time.monotonic()
        if self._on_progress is not None and now - self._told > 0.25:
            self._tell(now)

    @contextmanager
    def jobs(self, note: Callable[[Any], str] | None) -> Iterator[JobRows]:
        """Rows for jobs that are done inside the block; each ends with `note(answer)` and stays to the end of all."""
        rows = JobRows(self, note)
        try:
            yield rows
        finally:
            rows.remove()

    def end_epoch(self, note: str) -> None:
        """An epoch is done."""
        self.epoch, self.step = self.epoch + 1, 0
        if self.bar is not None:
            self.bar.update(self._row, completed=self.epoch * self.steps, note=note)
        if self._on_progress is not None:
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        self._told = now
        done = (self.epoch - self._first) * self.steps + self.step
        due = (self.epochs - self.epoch) * self.steps - self.step
        left = (now - self._began) / done * due if done else None
        assert self._on_progress is not None
        where = (self.stage, self.stages, self.loop, self.epoch, self.epochs, self.step, self.steps)
        self._on_progress(Progress(*where, left))
