"""metrics.jsonl: one line for everything a run measures, written as it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Journal:
    """An append-only list of JSON lines, in memory and, where a folder is given, in a file.

    Lines carry `kind` (`train`, `score`), `stage` and `epoch`.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self.lines = list(_readable(path.read_text().splitlines()))

    def write(self, line: dict[str, Any]) -> None:
        """Append one line and flush it."""
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line, allow_nan=False, default=float) + "\n")

    def rewind(self, stage: int, epoch: int) -> None:
        """Drop what was written at or after (stage, epoch): a resumed run writes it again."""
        kept = [line for line in self.lines if (line["stage"], line["epoch"]) < (stage, epoch)]
        if len(kept) == len(self.lines) and (self.path is None or not self.path.exists()):
            return
        self.lines = kept
        if self.path is not None:
            part = self.path.with_suffix(".part")
            part.write_text("".join(json.dumps(line) + "\n" for line in kept))
            os.replace(part, self.path)


def _readable(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            return  # the line being written when the process was killed
