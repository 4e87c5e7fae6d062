"""`polypath remove`: a task out of every file of a system."""

from __future__ import annotations

from typing import Annotated

import typer

from polypath.cli.changes import all_or_nothing
from polypath.cli.show import AsJson, SystemFolder, print_json
from polypath.cli.systems import folder_of


def remove(
    folder: SystemFolder,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Which task.")],
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Also remove the tasks that cannot stay without it.")
    ] = False,
    keep_residue: Annotated[
        bool | None,
        typer.Option(
            "--keep-residue/--no-residue",
            help="Whether components that other tasks use may stay although its data helped to shape them.",
            show_default="they may; not for a private task",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forget a task: components, method state, recorded answers, checkpoints, and every snapshot that held it.

    The other tasks stay as they are, which is proved. What stays of it (the residue) is listed. There is no way back.
    """
    from polypath import lifecycle

    where = folder_of(folder)
    with all_or_nothing(where):
        report, path = lifecycle.remove(where, task, cascade=cascade, keep_residue=keep_residue)
    if as_json:
        print_json({"report": str(path), **report.model_dump(mode="json")})
        return
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"Report: {path} (and .md)")
