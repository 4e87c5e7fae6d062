"""How commands show things: tables on standard output, notes on standard error, `--json` for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
SystemFolder = Annotated[
    str, typer.Argument(metavar="SYSTEM", help="Folder of a system, or of a run that holds one in system/.")
]
WIDE = 160  # columns where the output is no terminal: a file or a pipe has no edge to wrap at


def examples(*lines: str, after: str = "") -> str:
    """Text below a command's help; every line stays a line of its own."""
    parts = ["[bold]Examples[/bold]", *(f"  {line.replace('[', chr(92) + '[')}" for line in lines)]
    return "\n\n".join([*parts, *([after] if after else [])])


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def note(text: str) -> None:
    """A line for people, on standard error."""
    typer.echo(text, err=True)


def print_tables(*tables: Table) -> None:
    """Tables on standard output."""
    from rich.console import Console

    # An explicit width only where nobody gave one: rich itself honours COLUMNS and the terminal.
    console = Console(width=None if sys.stdout.isatty() else WIDE, file=sys.stdout, soft_wrap=False)
    for table in tables:
        console.print(table)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str] = ()) -> Table:
    """A table whose first column names the row; names are printed as they are, never read as markup."""
    from polypath.report.tables import Grid

    return Grid(title, tuple(header), tuple(tuple(row) for row in rows), tuple(notes)).rich()


def listing(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str] = ()) -> Table:
    """A table of texts, all columns to the left."""
    found = table(title, header, rows, notes)
    for column in found.columns:
        column.justify = "left"
    return found


def number(value: float | None) -> str:
    """A count with separators, "1,234"; a dash for nothing."""
    return "–" if value is None else f"{value:,.0f}"


def scaled(value: float | None, unit: str = "") -> str:
    """A large number with a decimal prefix, "1.23 G"."""
    from polypath.report.tables import scaled as shown

    return shown(None if value is None else {"mean": value}, unit)


def metric(value: float | None) -> str:
    """A test metric: four decimals, "0.7913"; large errors, in the units of the data, as people write numbers."""
    from polypath.report.tables import number as shown

    return "–" if value is None else f"{value:.4f}" if abs(value) < 100 else shown(value)


def flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """(path, value) of every plain value of a configuration, in the paths that --set takes."""
    if isinstance(values, Mapping) and values:
        return [row for key, value in values.items() for row in flat(value, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, values if isinstance(values, str) else json.dumps(values, ensure_ascii=False))]
