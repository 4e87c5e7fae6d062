"""`polypath predict`: raw files in, labels and probabilities out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypath.cli.show import SystemFolder, listing, print_tables
from polypath.cli.systems import opened

if TYPE_CHECKING:
    from polypath.core.task import Task
    from polypath.prediction import Prediction
    from polypath.system import System

BATCH = 256
INPUTS = ("inputs", "images", "x", "X", "x_test", "arr_0")  # keys of an archive that are taken for the inputs


def predict(
    folder: SystemFolder,
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="Who answers; `polypath inspect SYSTEM` lists the tasks.")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Image files, .npy or .npz arrays, .csv rows, .txt texts (one a file)."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line and input.")] = False,
) -> None:
    """Ask one task about raw inputs; everything they need on the way to the network travels with the task."""
    system = opened(folder)
    found = system.network.task_named(task)
    inputs = [(name, one) for file in files for name, one in read(file, found)]  # all are checked before any answer
    answers = (row for start in range(0, len(inputs), BATCH) for row in _asked(system, task, inputs[start:][:BATCH]))
    if as_json:
        for row in answers:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    print_tables(_table(task, answers))


def read(file: Path, task: Task) -> Iterator[tuple[str, Any]]:
    """(name, decoded input) of everything in a file; a file of several inputs numbers them from 0.

    Raises:
        InvalidInput: the file cannot be read or does not fit the task; names the file.
    """
    from polypath.core.errors import InvalidInput

    try:
        if task.preprocess.kind == "text":
            yield str(file), file.read_text(encoding="utf-8")
            return
        decoded = task.preprocess.decode(_raw(file, task.preprocess.kind))
    except InvalidInput as error:
        text = str(error)
        raise InvalidInput(text if str(file) in text else f"{file}: {text}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: is no text in UTF-8 ({error.reason})") from error
    for number, one in enumerate(decoded):
        yield str(file) if len(decoded) == 1 else f"{file}[{number}]", one


def _raw(file: Path, kind: str) -> Any:
    from polypath.core.errors import InvalidInput

    suffix = file.suffix.lower()
    if not file.is_file():
        raise InvalidInput(f"{file}: {'is a folder; name files' if file.is_dir() else 'does not exist'}")
    if suffix in (".npy", ".npz"):
        return _array(file)
    if kind == "image":
        return file
    if suffix == ".csv":
        return _columns(file)
    raise InvalidInput(f"{file}: a .csv, .npy or .npz file is required for a task on tables")


def _array(file: Path) -> Any:
    import numpy as np

    from polypath.core.errors import InvalidInput

    try:
        with file.open("rb") as handle:  # ours to close: NumPy leaves a damaged archive open
            held = np.load(handle, allow_pickle=False)
            if isinstance(held, np.ndarray):
                return held
            keys = [key for key in INPUTS if key in held] or (list(held) if len(held.files) == 1 else [])
            if not keys:
                raise InvalidInput(
                    f"{file}: one array, or one named {', '.join(INPUTS)}, is required; found {held.files}"
                )
            return held[keys[0]]
    except InvalidInput:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own for damaged files
        raise InvalidInput(f"{file}: cannot be read as NumPy arrays: {error}") from error


def _columns(file: Path) -> dict[str, list[str]]:
    import csv

    from polypath.core.errors import InvalidInput

    try:
        with file.open(newline="", encoding="utf-8-sig") as opened_file:
            rows = list(csv.DictReader(opened_file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: cannot be read as CSV: {error}") from error
    if not rows:
        raise InvalidInput(f"{file}: a header line with column names and at least one row are required")
    ragged = [number for number, row in enumerate(rows, start=2) if None in row or None in row.values()]
    if ragged:
        raise InvalidInput(f"{file}: line {ragged[0]} has not as many values as the header has columns")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _asked(system: System, task: str, inputs: list[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    import torch

    held = [one for _, one in inputs]
    prediction = system.predict(task, held if isinstance(held[0], str) else torch.stack(held))
    labels = getattr(system.tasks[task].target, "labels", ())
    for number, (name, _) in enumerate(inputs):
        yield {"input": name, "task": task, **_answer(prediction, number, labels)}


def _answer(prediction: Prediction, number: int, labels: Iterable[str]) -> dict[str, Any]:
    if prediction.values is not None:
        return {"values": prediction.values[number].tolist()}
    assert prediction.labels is not None and prediction.probabilities is not None
    shares = prediction.probabilities[number].tolist()
    label = prediction.labels[number]
    out: dict[str, Any] = {"labels": label} if isinstance(label, list) else {"label": label, "probability": max(shares)}
    return {**out, "probabilities": dict(zip(labels, shares, strict=True))}


def _table(task: str, answers: Iterable[dict[str, Any]]) -> Any:
    rows: list[tuple[str, ...]] = []
    header: tuple[str, ...] = ("input", "label", "probability")
    for row in answers:
        if "values" in row:
            header = ("input", "value")
            rows.append((row["input"], ", ".join(f"{value:.4g}" for value in row["values"])))
        elif "labels" in row:
            header = ("input", "labels", "probabilities")
            shares = ", ".join(f"{row['probabilities'][label]:.3f}" for label in row["labels"])
            rows.append((row["input"], ", ".join(row["labels"]) or "none", shares or "–"))
        else:
            rows.append((row["input"], row["label"], f"{row['probability']:.3f}"))
    return listing(f"Answers of {task}", header, rows)
