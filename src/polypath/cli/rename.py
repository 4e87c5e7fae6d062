"""`polypath rename`: another name for a task."""

from __future__ import annotations

from typing import Annotated

import typer

from polypath.cli.changes import all_or_nothing, show_change
from polypath.cli.show import AsJson, SystemFolder
from polypath.cli.systems import folder_of


def rename(
    folder: SystemFolder,
    old: Annotated[str, typer.Argument(metavar="OLD", help="What the task is called.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="What it will be called.")],
    as_json: AsJson = False,
) -> None:
    """Call a task otherwise. Components stay as they are, byte for byte, and every answer too."""
    from polypath import lifecycle

    where = folder_of(folder)
    with all_or_nothing(where):
        done = lifecycle.rename(where, old, new)
    show_change(done, where, f"{old} is now called {new}.", as_json)
