"""`polypath history`, `rollback`, `prune`: earlier states of a system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypath.cli.changes import all_or_nothing
from polypath.cli.show import AsJson, SystemFolder, listing, print_json, print_tables, scaled
from polypath.cli.systems import folder_of, opened

if TYPE_CHECKING:
    from polypath.store import Event, Snapshot


def history(folder: SystemFolder, as_json: AsJson = False) -> None:
    """What happened to a system, also what a rollback took back, and the snapshots it can be rolled back to."""
    from polypath.removal import damaged_certificates
    from polypath.store.events import alone

    system = opened(folder)
    kept = system.snapshots()
    damaged = damaged_certificates(folder_of(folder))
    if as_json:
        print_json(
            {
                "history": plain(system.history),
                "snapshots": [_plain(one) for one in kept],
                "keep": system.keep_snapshots,
                "damaged_certificates": [path.name for path in damaged],
            }
        )
        return
    rows, said = told(system.history)
    events_table = listing(f"History of {folder}", ("when", "what", "isolation", "tasks"), rows)
    snapshots = listing(
        "Snapshots, oldest first",
        ("snapshot", "its last event", "when", "tasks", "size"),
        [
            (
                one.id,
                said.get(alone(one.event).model_dump_json(), _what(one.event))
                if one.event
                else "damaged"
                if one.damaged
                else "–",
                one.event.at if one.event is not None else "–",
                _some(one.tasks),
                scaled(one.size_bytes, "B"),
            )
            for one in kept
        ],
        (f"The newest {system.keep_snapshots} are kept (polypath prune SYSTEM --keep N --remember).",),
    )
    print_tables(events_table, snapshots)
    bad = [one for one in kept if one.damaged]
    going = system.store.snapshots.damaged() if bad and system.store is not None else []
    for one in bad:
        gone = one.path in going
        typer.echo(f"Damaged: {one.damaged}. `polypath prune` deletes it." if gone else f"Kept: {one.damaged}.")
    for why in damaged.values():
        typer.echo(f"Damaged: {why}. `polypath prune` deletes it.")


def rollback(
    folder: SystemFolder,
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Its id in `polypath history`.")],
    as_json: AsJson = False,
) -> None:
    """Make a system what a snapshot holds. What it is now becomes a snapshot, so that this too can be undone."""
    from polypath import lifecycle
    from polypath.cli.diff import show
    from polypath.difference import difference

    where = folder_of(folder)
    with all_or_nothing(where):
        system = lifecycle.rollback(where, snapshot)
    kept = system.snapshots()
    found = difference(where) if kept and not kept[-1].damaged else None
    if as_json:
        values = found.model_dump(mode="json") if found is not None else {}
        print_json({"system": str(where), "tasks": list(system.tasks), "difference": values})
        return
    if found is not None:
        show(found, str(where))
    typer.echo(f"{where} is what snapshot {snapshot} held: {', '.join(system.tasks) or 'no task'}.")


def prune(
    folder: SystemFolder,
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=0, metavar="N", help="How many stay.", show_default="what the system is set to"),
    ] = None,
    remember: Annotated[bool, typer.Option("--remember", help="Keep so many from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete all but the newest snapshots, what only they named, their certificates, and what a killed process left.

    Reports on removed tasks stay.
    """
    from polypath import lifecycle

    gone, papers = lifecycle.prune(folder_of(folder), keep, remember=remember)
    if as_json:
        print_json({"deleted": [_plain(one) for one in gone], "certificates": [path.name for path in papers]})
        return
    typer.echo(f"Deleted {len(gone)} snapshot(s)" + (f": {', '.join(one.id for one in gone)}." if gone else "."))
    if papers:
        typer.echo(
            f"Deleted {len(papers)} certificate(s) of states that are gone: {', '.join(p.name for p in papers)}."
        )


def told(history: Sequence[Event]) -> tuple[list[tuple[str, str, str, str]], dict[str, str]]:
    """The history for people: (when, what, isolation, tasks), oldest first; and what is said of every event.

    A task that is updated is forgotten and learned again: two events, one line. What a rollback took back is marked.
    """
    from polypath.store.events import logged

    rows, said = [], {}
    known: set[str] = set()
    updating: set[str] = set()  # tasks that are still to be learned again
    updated = ""
    for event, undone in logged(history):
        what, tasks = _what(event), " → ".join(event.tasks) if event.what == "renamed" else _some(event.tasks)
        if what == "updated":
            updating, updated = set(event.tasks), tasks
        elif what == "learned" and updating:
            what, tasks = "updated", updated
            updating -= set(event.tasks)
        elif (
            what == "learned" and event.run is None
        ):  # in a system that was there; the stages of `learn` name their run
            new = [name for name in event.tasks if name not in known]
            what, tasks = ("added", _some(new)) if new else ("updated", tasks)
        known = _after(event, known)
        said[event.model_dump_json()] = what
        if not updating:
            rows.append((event.at, f"{what} (undone)" if undone else what, event.isolation or "–", tasks or "–"))
    return rows, said


def plain(history: Sequence[Event]) -> list[dict[str, Any]]:
    """The history for programs: every event, also what a rollback took back."""
    from polypath.store.events import logged

    return [{**event.model_dump(mode="json"), "undone": undone} for event, undone in logged(history)]


def _what(event: Event) -> str:
    return f"rolled back to {event.config['snapshot']}" if event.what == "rolled back" else event.what


def _after(event: Event, known: set[str]) -> set[str]:
    """The tasks that there are after an event."""
    if event.what == "removed":
        return known - set(event.tasks)
    if event.what == "renamed":
        return known - {event.tasks[0]} | {event.tasks[1]}
    if event.what == "rolled back":
        return set(event.tasks) or known  # earlier versions did not write down which
    return known | set(event.tasks)


def _some(tasks: Sequence[str]) -> str:
    return ", ".join(tasks) if len(tasks) <= 8 else f"{len(tasks)} tasks"


def _plain(one: Snapshot) -> dict[str, Any]:
    return {
        "id": one.id,
        "event": one.event.model_dump(mode="json") if one.event is not None else None,
        "tasks": list(one.tasks),
        "size_bytes": one.size_bytes,
        **({"damaged": one.damaged} if one.damaged else {}),
    }
