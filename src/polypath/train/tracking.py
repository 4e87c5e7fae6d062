"""The journal's training and validation lines as scalars of TensorBoard, where a run asks for it."""

from __future__ import annotations

import importlib.util
import numbers
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput

FOLDER = "tensorboard"  # in the run's folder


class Scalars:
    """Event files in OUT/tensorboard that say what metrics.jsonl says.

    The journal is what counts: a resumed run goes back in it, and the event files are written anew from its lines.
    Test lines stay out, so that nobody steers by them while a run goes on.

    Args:
        folder: of the event files; made when the first line is written.

    Raises:
        InvalidInput: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise InvalidInput("track: tensorboard is not installed; pip install 'polypath[track]', or leave track out")
        self.folder = folder
        self._writer: Any = None
        self._stage, self._offset, self._last = 0, 0, -1

    def write(self, line: Mapping[str, Any]) -> None:
        """Add the scalars of one line.

        The step is the epoch, counted on from stage to stage.
        """
        stage = int(line["stage"])
        if stage != self._stage:
            self._stage, self._offset = stage, self._last + 1
        step = self._offset + int(line["epoch"])
        self._last = max(self._last, step)
        for tag, value in scalars(line):
            self._opened().add_scalar(tag, value, step)
        if self._writer is not None:
            self._writer.flush()

    def again(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Begin anew with these lines."""
        self.close()
        for file in self.folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._stage, self._offset, self._last = 0, 0, -1
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """End the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> Any:
        if self._writer is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecations inside tensorboard
                from torch.utils.tensorboard import SummaryWriter
            self._writer = SummaryWriter(str(self.folder))
        return self._writer


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(tag, value) of every number in a journal line: `train/loss/TASK`, `val/accuracy/TASK`, `val/.../TASK/EXIT`."""
    if line["kind"] == "score":
        if line["split"] == "val":
            place = "/".join([line["task"], *([line["exit"]] if "exit" in line else [])])
            yield from ((f"val/{metric}/{place}", float(value)) for metric, value in line["values"].items())
        return
    for key, value in line.items():
        if key in ("kind", "stage", "epoch"):
            continue
        held = value.items() if isinstance(value, Mapping) else [(None, value)]
        for name, one in held:
            if isinstance(one, numbers.Real) and not isinstance(one, bool):
                yield f"{line['kind']}/{key}" + (f"/{name}" if name is not None else ""), float(one)


def tracker(kind: str | None, out: Path | None, writes: bool) -> Scalars | None:
    """What a run's journal also tells; None where nobody asked.

    Args:
        kind: setting `track` of the run.
        out: folder of the run.
        writes: whether this process is the one that writes.

    Raises:
        InvalidInput: a run that is kept in memory has nothing to write to.
    """
    if kind is None:
        return None
    if out is None:
        raise InvalidInput(f"track={kind!r}: a run's folder is required to write to; give out=... (--out)")
    return Scalars(out / FOLDER) if writes else None
