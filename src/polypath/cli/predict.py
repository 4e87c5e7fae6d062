"""`polypath predict`: raw files in, labels and probabilities out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypath.cli.answers import FORMATS, Row, answers_table, write_answers
from polypath.cli.inputs import Given, files_of, given, of_one
from polypath.cli.show import SystemFolder, note, print_tables
from polypath.cli.systems import opened

if TYPE_CHECKING:
    from polypath.core.task import Task
    from polypath.system import System

BATCH = 256


class OnError(StrEnum):
    """What an input that cannot be read does."""

    stop = "stop"
    skip = "skip"


def predict(
    folder: SystemFolder,
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="Who answers; `polypath inspect SYSTEM` lists the tasks.")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER...",
            help="Images, .npy or .npz arrays, .csv or .parquet rows, .txt texts (one a file); folders of them.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the answers there: .csv or .jsonl (one object a line)."),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="An input that cannot be read: stop, or skip it and name it.")
    ] = OnError.stop,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="Column of a table that holds texts or images.",
            show_default="the one learned from",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line and input.")] = False,
) -> None:
    """Ask one task about raw inputs; everything they need on the way to the network travels with the task.

    Values of a regression are in the units of the data it was learned from.
    """
    system = opened(folder)
    found = system.network.task_named(task)
    _check_out(out, files)
    paths = files_of(files, found)
    entry = system.entries.get(task)
    recorded = tuple(entry.facts.get("input_columns", ())) if entry is not None else ()
    with _progress(len(paths), out is not None) as step:
        inputs = _inputs(paths, found, column, recorded, on_error, step)
        answers = _asked(system, found, inputs, on_error)
        if out is not None:
            told, failed = write_answers(out, found, answers)
        else:
            rows = list(answers)  # before anything is printed, so that an error leaves no half of an answer
            told, failed = sum("error" not in row for row in rows), sum("error" in row for row in rows)
    if out is not None:
        note(f"{told:,} answer(s) in {out}" + (f"; {failed:,} input(s) could not be read." if failed else "."))
    elif as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
    else:
        print_tables(answers_table(task, rows))
    if not told:
        from polypath.core.errors import InvalidInput

        raise InvalidInput(f"none of the {failed} input(s) could be read")


def _check_out(out: Path | None, files: Sequence[Path]) -> None:
    from polypath.core.errors import InvalidInput

    if out is None:
        return
    if out.suffix.lower() not in FORMATS:
        raise InvalidInput(f"--out {out}: a name that ends in {', '.join(FORMATS)} is required")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise InvalidInput(f"--out {out}: {'is a folder' if out.is_dir() else 'its folder does not exist'}")
    if out.resolve() in [file.resolve() for file in files]:
        raise InvalidInput(f"--out {out}: is one of the inputs, which would be lost")


def _progress(total: int, wanted: bool) -> AbstractContextManager[Any]:
    """A bar over files on a terminal, and what moves it."""
    from contextlib import contextmanager

    @contextmanager
    def bar() -> Iterator[Any]:
        if not sys.stderr.isatty() or (total < 2 and not wanted):
            yield lambda inputs: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("files"), TextColumn("{task.fields[inputs]:,} inputs"))
        with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as shown:
            row = shown.add_task("", total=total, inputs=0)
            done = 0

            def step(inputs: int) -> None:
                nonlocal done
                done += inputs
                shown.update(row, advance=1, inputs=done)

            yield step

    return bar()


def _inputs(
    paths: Sequence[Path], task: Task, column: str | None, recorded: Sequence[str], on_error: OnError, step: Any
) -> Iterator[Given]:
    for path in paths:
        count = 0
        for one in given(path, task, column, recorded):
            _stop_or_name(one, on_error)
            count += 1
            yield one
        step(count)


def _stop_or_name(one: Given, on_error: OnError) -> None:
    from polypath.core.errors import InvalidInput

    if one.error is None:
        return
    if on_error is OnError.stop:
        raise InvalidInput(one.error)
    note(f"Skipped: {one.error}")


def _asked(system: System, task: Task, inputs: Iterable[Given], on_error: OnError) -> Iterator[Row]:
    """Answers in the order of the inputs, a batch at a time."""
    waiting: list[Given] = []
    for one in inputs:
        waiting.append(one)
        if len(waiting) == BATCH:
            yield from _answered(system, task, waiting, on_error)
            waiting = []
    yield from _answered(system, task, waiting, on_error)


def _answered(system: System, task: Task, waiting: Sequence[Given], on_error: OnError) -> Iterator[Row]:
    from polypath.core.errors import InvalidInput

    try:
        told = _told(system, task, waiting)
    except InvalidInput:  # of some there is no finite answer: which, is found by asking about one at a time
        waiting = [_answerable(system, task, one) if one.error is None else one for one in waiting]
        for one in waiting:
            _stop_or_name(one, on_error)
        told = _told(system, task, waiting)
    for one in waiting:
        if one.error is not None:
            yield {"input": one.name, "task": task.name, "error": one.error}
            continue
        yield {"input": one.name, "task": task.name, **next(told)}


def _told(system: System, task: Task, waiting: Sequence[Given]) -> Iterator[Row]:
    import torch

    held = [one.value for one in waiting if one.error is None]
    if not held:
        return iter(())
    given = held if isinstance(held[0], str) else torch.stack(held)
    return iter(system.predict(task.name, given, batch=BATCH).rows(getattr(task.target, "labels", ())))


def _answerable(system: System, task: Task, one: Given) -> Given:
    from polypath.core.errors import InvalidInput

    try:
        _told(system, task, [one])
    except InvalidInput as error:
        return Given(one.name, error=of_one(one.name, error))
    return one
