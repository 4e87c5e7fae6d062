"""Answers as rows: for a table, JSON lines or a CSV file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from polypath.cli.show import listing

if TYPE_CHECKING:
    from polypath.core.task import Task

FORMATS = (".csv", ".jsonl", ".ndjson")
Row = dict[str, Any]


def answers_table(task: str, rows: Iterable[Row]) -> Any:
    """Answers for people."""
    shown: list[tuple[str, ...]] = []
    header: tuple[str, ...] = ("input", "label", "probability")
    for row in rows:
        if "error" in row:
            shown.append((row["input"], "could not be read", "–"))
        elif "values" in row:
            header = ("input", "value", "")
            shown.append((row["input"], ", ".join(map(_value, row["values"])), ""))
        elif "labels" in row:
            header = ("input", "labels", "probabilities")
            shares = ", ".join(f"{row['probabilities'][label]:.3f}" for label in row["labels"])
            shown.append((row["input"], ", ".join(row["labels"]) or "none", shares or "–"))
        else:
            shown.append((row["input"], row["label"], f"{row['probability']:.3f}"))
    width = 2 if header[2] == "" else 3
    return listing(f"Answers of {task}", header[:width], [row[:width] for row in shown])


def _value(value: float) -> str:
    """A number in units that nobody knows: "581,037", never 5.81e+05; small ones keep four digits."""
    from polypath.report.tables import number

    return number(value) if abs(value) >= 1 else f"{value:.4g}"


def write_answers(file: Path, task: Task, rows: Iterable[Row]) -> tuple[int, int]:
    """Write answers as they come; the file appears when all are there, so that a failure leaves what was there before.

    Args:
        file: `.csv` (one column a probability or value) or `.jsonl` (one JSON object a line).
        task: who answered.
        rows: the answers, also those that say an error.

    Returns:
        How many inputs were answered, and how many could not be read.
    """
    from polypath.core.files import write_atomically

    told, failed = 0, 0

    def write(opened: BinaryIO) -> None:
        nonlocal told, failed
        text = io.TextIOWrapper(opened, encoding="utf-8", newline="")
        try:
            for row in _written(text, file.suffix.lower(), task, rows):
                failed += "error" in row
                told += "error" not in row
        finally:
            text.detach()  # flushes; the file is the caller's to close

    write_atomically(file, write)
    return told, failed


def _written(opened: TextIO, suffix: str, task: Task, rows: Iterable[Row]) -> Iterator[Row]:
    if suffix != ".csv":
        for row in rows:
            opened.write(json.dumps(row, ensure_ascii=False) + "\n")
            yield row
        return
    writer = csv.DictWriter(opened, columns(task), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(flat(row))
        yield row


def columns(task: Task) -> list[str]:
    """Header of a CSV file of answers."""
    target = task.target
    if target.kind == "regression":
        return ["input", *_values(target.size), "error"]
    first = ["labels"] if target.kind == "multilabel" else ["label", "probability"]
    return ["input", *first, *(f"p({label})" for label in target.labels), "error"]


def _values(size: int) -> list[str]:
    return ["value"] if size == 1 else [f"value{number}" for number in range(1, size + 1)]


def flat(row: Row) -> Row:
    """An answer as the cells of one line; several labels are joined by semicolons."""
    if "values" in row:
        values = row["values"]
        return {"input": row["input"], **dict(zip(_values(len(values)), values, strict=True))}
    out: Row = {key: row[key] for key in row if key in ("input", "label", "probability", "error")}
    if "labels" in row:
        out["labels"] = ";".join(row["labels"])
    return {**out, **{f"p({label})": share for label, share in row.get("probabilities", {}).items()}}
