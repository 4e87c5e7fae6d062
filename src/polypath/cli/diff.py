"""`polypath diff`: what differs between two states of a system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polypath.cli.show import AsJson, SystemFolder, listing, metric, print_json, print_tables, scaled
from polypath.cli.systems import folder_of

if TYPE_CHECKING:
    from polypath.difference import Difference


def diff(
    folder: SystemFolder,
    before: Annotated[
        str | None, typer.Argument(metavar="A", help="A snapshot, or `current`.", show_default="the newest snapshot")
    ] = None,
    after: Annotated[
        str | None, typer.Argument(metavar="B", help="A snapshot, or `current`.", show_default="current")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tasks, components, bytes and metrics that differ between two snapshots, or a snapshot and the system now."""
    from polypath.difference import difference

    found = difference(folder_of(folder), before, after)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show(found, folder)


def show(found: Difference, folder: str) -> None:
    """The difference as tables."""
    if found.empty:
        typer.echo(f"{folder}: {found.before} and {found.after} are the same.")
        return
    rows = [
        ("tasks added", _names(found.added)),
        ("tasks removed", _names(found.removed)),
        ("tasks renamed", _names(tuple(f"{old} → {new}" for old, new in found.renamed.items()))),
        ("tasks changed", _names(found.altered)),
        ("components added", _names(found.components_added)),
        ("components removed", _names(found.components_removed)),
        ("components changed", _names(found.components_changed)),
        ("files only in the later", scaled(found.new_bytes, "B")),
        ("files only in the earlier", scaled(found.freed_bytes, "B")),
    ]
    tables = [listing(f"{folder}: from {found.before} to {found.after}", ("what", "which"), rows)]
    if found.metrics:
        changes = [(one.task, one.metric, metric(one.before), metric(one.after)) for one in found.metrics]
        tables.append(listing("Test metrics", ("task", "metric", found.before, found.after), changes))
    print_tables(*tables)


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) + more) or "–"
