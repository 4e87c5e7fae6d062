"""`polypath verify`: proof that a system is what it was."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from polypath.cli.show import AsJson, SystemFolder, listing, print_json, print_tables, table
from polypath.cli.systems import opened


def verify(folder: SystemFolder, as_json: AsJson = False) -> None:
    """Hash every component again, replay the recorded answers of every task, and name the tasks that fail.

    Exit code 1 where something is not as recorded.
    """
    found = opened(folder).verify()
    if as_json:
        print_json({"ok": found.ok, "failing": found.failing, "summary": found.summary(), **asdict(found)})
    else:
        rows = [
            (
                name,
                "fails" if name in found.failing else "holds",
                task.replay,
                _figure(task.difference),
                _figure(task.drift),
                ", ".join(task.damaged) or "–",
            )
            for name, task in found.tasks.items()
        ]
        header = ("task", "outcome", "replay", "difference", "drift since learned", "damaged components")
        tables: list[Any] = [table(f"Verification of {folder}", header, rows)]
        if found.damaged:
            tables.append(listing("Damaged", ("component", "what is wrong"), found.damaged.items()))
        print_tables(*tables)
        typer.echo(found.summary())
    if not found.ok:
        raise typer.Exit(1)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
