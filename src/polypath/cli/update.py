"""`polypath update`: known tasks from other data."""

from __future__ import annotations

from typing import Annotated

import typer

from polypath.cli.changes import (
    Files,
    Groups,
    MethodName,
    Proof,
    Settings,
    all_or_nothing,
    prepared,
    read_and_shown,
    show_change,
)
from polypath.cli.show import AsJson, SystemFolder
from polypath.cli.systems import folder_of


def update(
    folder: SystemFolder,
    files: Files,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", metavar="NAME", help="Learn only this task again; the others give their data to a joint method."
        ),
    ] = None,
    overrides: Settings = None,
    further: Annotated[
        bool, typer.Option("--further", help="Go on from what the tasks have learned, with the same data (mu2net).")
    ] = False,
    method: MethodName = None,
    group: Groups = None,
    proof: Proof = True,
    as_json: AsJson = False,
) -> None:
    """Learn known tasks again: more data, a new class, corrected labels. Nothing of the old version stays in them.

    What that does to the other tasks is the method's isolation, proved or measured as in `polypath add`.
    """
    from polypath import lifecycle

    where = folder_of(folder)
    _, settings = prepared(where, overrides, method)
    with all_or_nothing(where):
        suite = read_and_shown(files, as_json)
        done = lifecycle.update(where, suite, task, proof=proof, further=further, groups=group, **settings)
    names = list(task or suite.names)
    said = f"Updated {', '.join(names)} in {where} ({done.system.isolation})."
    show_change(done, where, said, as_json, names)
