"""`polypath report`: tables and report.html of a run, finished or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polypath.cli import outcome
from polypath.cli.show import AsJson


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of `polypath run` or `train`.")],
    as_json: AsJson = False,
) -> None:
    """Print the tables of a run and write its report.html and summary.json again; says what is missing."""
    outcome.finish(folder, as_json)
