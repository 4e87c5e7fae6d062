"""`polypath init`: a first tasks.yaml from what lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polypath.cli.show import note


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where your images, tables and texts are.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a tasks.yaml that is there.")] = False,
) -> None:
    """Write FOLDER/tasks.yaml with the tasks that the data could be for, and the schema for editors beside it."""
    from polypath.cli.schema import write_schema
    from polypath.core.errors import InvalidInput
    from polypath.data.discover import discover
    from polypath.data.first_file import chosen, first_file
    from polypath.data.schema import FILE

    file = folder / "tasks.yaml"
    if file.exists() and not force:
        raise InvalidInput(f"{file} exists already; --force replaces it")
    found = discover(folder)
    file.write_text(first_file(found, folder.resolve().name or "own"), encoding="utf-8")
    write_schema(folder / FILE)
    used, others = chosen(found)
    names = ", ".join(task["name"] for one in used for task in one.tasks)
    note(f"{file} written with the task(s) {names}.")
    if others:
        note(f"{sum(len(one.tasks) for one in others)} more, with other inputs, are in it as comments.")
    note(f"Read it, then: polypath train {file} --method hard_sharing --out run --dry-run")
