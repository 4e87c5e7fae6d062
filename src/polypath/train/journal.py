"""metrics.jsonl: one line for everything a run measures, written as it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polypath.core.files import write_atomically
from polypath.train.tracking import tracker


class Journal:
    """An append-only list of JSON lines, in memory and, where a file is given, in it.

    Lines carry `kind` (`train`, `score`), `stage` and `epoch`. Every checkpoint notes how many lines there were, and a
    resumed run goes back to that count: no line is missing, none is there twice.

    Args:
        path: the file; None keeps the lines in memory only.
        writes: False only reads the file (every process of a run but the first).
        track: `tensorboard` tells every line there too, see `polypath.train.tracking`.

    Raises:
        InvalidInput: nothing to track with, or no file.
    """

    def __init__(self, path: Path | None, *, writes: bool = True, track: str | None = None) -> None:
        self.lines: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self.lines = list(_readable(path.read_text().splitlines()))
        self.path = path if writes else None
        self._silent = False
        self._mirror = tracker(track, path.parent if path is not None else None, writes)
        if self.path is not None and self.path.exists():
            self._rewrite()  # without the line that was being written when the process was killed

    def write(self, line: dict[str, Any]) -> None:
        """Append one line and flush it."""
        if self._silent:
            return
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line, allow_nan=False, default=float) + "\n")
        if self._mirror is not None:
            self._mirror.write(line)

    def back_to(self, count: int) -> None:
        """Drop every line after the first `count`: a resumed run writes them again."""
        self._silent = False
        if count < len(self.lines):
            self.lines = self.lines[:count]
            self._rewrite()

    def _rewrite(self) -> None:
        if self.path is not None:
            text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self.lines)
            write_atomically(self.path, lambda file: file.write(text.encode()))
        if self._mirror is not None:
            self._mirror.again(self.lines)

    def close(self) -> None:
        """End what is told besides the file."""
        if self._mirror is not None:
            self._mirror.close()

    def before_stage(self, stage: int) -> int:
        """Number of lines before the first one of a stage."""
        return next((i for i, line in enumerate(self.lines) if line["stage"] >= stage), len(self.lines))

    def silence(self) -> None:
        """Ignore lines until the next `back_to`: what is done again between two loops was written before."""
        self._silent = True

    def flush(self) -> None:
        """Flush the file to disk, so that a saved system is never ahead of its measurements."""
        if self.path is not None and self.path.exists():
            with self.path.open("a") as file:
                os.fsync(file.fileno())


def _readable(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            return  # the line being written when the process was killed
