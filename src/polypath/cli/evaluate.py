"""`polypath evaluate`: a system on the sealed test splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polypath.cli.show import AsJson, SystemFolder, metric, note, print_json, print_tables, table
from polypath.cli.systems import opened


def evaluate(
    folder: SystemFolder,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="SUITE", help="Suite file to measure on, instead of what the system learned from."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure every task of a system on its sealed test split, built again from its recorded description."""
    system = opened(folder)
    suite = None
    if data is not None:
        from polypath.cli.suites import described, placed
        from polypath.data import build

        with placed(data):
            suite = build(described(data))
    scores = system.evaluate(suite)
    if as_json:
        print_json(scores)
        return
    metrics = list(dict.fromkeys(name for values in scores.values() for name in values))
    rows = [(task, *(metric(values.get(name)) for name in metrics)) for task, values in scores.items()]
    print_tables(table(f"Test metrics of {folder}", ("task", *metrics), rows))
    absent = [name for name in system.tasks if name not in scores]
    if absent:
        note(f"Without a test split: {', '.join(absent)}.")
