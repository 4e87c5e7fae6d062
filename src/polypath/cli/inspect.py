"""`polypath inspect`: what is in a system, without its data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypath.cli import show
from polypath.cli.history import plain, told
from polypath.cli.show import AsJson, SystemFolder, listing, note, number, print_json, print_tables, scaled, table
from polypath.cli.systems import opened

if TYPE_CHECKING:
    from polypath.system import System


def inspect(
    folder: SystemFolder,
    paths: Annotated[
        Path | None,
        typer.Option(
            "--paths", metavar="FILE", help="Also write the paths of all tasks to FILE, for method.paths_file."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Also list every component (in JSON: sharing, access and history too).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a system: tasks with costs and metrics, who shares what, who may use what, its history, its size."""
    system = opened(folder)
    if paths is not None:
        _write_paths(system, paths)
    found = about(system)
    if as_json:
        print_json({**found, **details(system)} if full else found)
    else:
        more = details(system)
        print_tables(*_tables(found, more, told(system.history)[0], folder, full))
    if paths is not None:
        note(f"Paths: {paths}")


def about(system: System) -> dict[str, Any]:
    """What a system holds and costs, as plain values."""
    from polypath.core import accounting

    network = type(system.network).restore(system.network.plan())  # costs need shapes, no values
    tasks = []
    for name, task in system.tasks.items():
        cost = accounting.cost(network, name)
        entry = system.entries.get(name)
        tasks.append(
            {
                "name": name,
                "private_to": task.private_to,
                "parameters": cost.parameters,
                "added_parameters": cost.added_parameters,
                "flops": cost.flops,
                "metrics": dict(entry.metrics) if entry is not None else {},
                **({"exits": exits} if (exits := exits_of(system, name)) else {}),
            }
        )
    totals = {
        "parameters": accounting.total_parameters(network),
        "size_bytes": sum(accounting.byte_counts(network).values()),
    }
    return {
        "method": system.method,
        "isolation": system.isolation,
        "tasks": tasks,
        "totals": totals,
        "components": len(network.components()),
        **_capacity(system),
    }


def exits_of(system: System, task: str) -> list[dict[str, Any]]:
    """The accuracy-cost table of a task: every exit with what it costs and its last test metrics; [] for one exit."""
    costs, entry = system.exit_costs(task), system.entries.get(task)
    if len(costs) < 2:
        return []
    return [
        {
            "name": cost.exit,
            "parameters": cost.parameters,
            "flops": cost.flops,
            "ms": cost.ms,
            "metrics": dict(entry.exits.get(cost.exit, {})) if entry is not None else {},
        }
        for cost in costs
    ]


def _exit_table(task: dict[str, Any]) -> Any:
    metrics = list(dict.fromkeys(name for exit in task["exits"] for name in exit["metrics"]))
    rows = [
        (
            exit["name"],
            number(exit["parameters"]),
            scaled(exit["flops"]),
            "–" if exit["ms"] is None else f"{exit['ms']:.2f}",
            *(show.metric(exit["metrics"].get(name)) for name in metrics),
        )
        for exit in task["exits"]
    ]
    return table(f"Exits of {task['name']}", ("exit", "parameters", "FLOPs", "ms", *metrics), rows)


def _capacity(system: System) -> dict[str, Any]:
    """How full shared layers are, for systems whose tasks own parts of them."""
    from polypath.core.errors import InvalidInput

    try:
        found = system.capacity()
    except InvalidInput:  # no such system, or tasks of many sizes
        return {}
    layers = {
        name: {"size": layer.size, "free": layer.free, "fits": layer.fits} for name, layer in found.layers.items()
    }
    return {"capacity": {"share": found.share, "fits": found.fits, "layers": layers}}


def details(system: System) -> dict[str, Any]:
    """Sharing, access, history and every component, as plain values."""
    assert system.store is not None
    manifest = system.store.manifest()
    sharing = system.sharing()
    return {
        "size_on_disk_bytes": system.store.size_bytes(manifest),
        "sharing_profile": sharing.profile,
        "access": {name: sorted(system.access(name)) for name in system.tasks},
        "history": plain(system.history),
        "component_list": [
            {
                "name": name,
                "kind": entry.kind,
                "size_bytes": entry.size_bytes,
                "sha256": entry.sha256,
                "users": list(sharing.users[name]),
                "sources": sorted(entry.sources),
            }
            for name, entry in manifest.components.items()
        ],
    }


def _tables(
    found: dict[str, Any], more: dict[str, Any], events: list[tuple[str, str, str, str]], folder: str, full: bool
) -> list[Any]:
    metrics = list(dict.fromkeys(name for task in found["tasks"] for name in task["metrics"]))
    rows = [
        (
            task["name"],
            number(task["parameters"]),
            number(task["added_parameters"]),
            scaled(task["flops"]),
            *(show.metric(task["metrics"].get(name)) for name in metrics),
            task["private_to"] or "–",
            ", ".join(more["access"][task["name"]]) or "everybody",
        )
        for task in found["tasks"]
    ]
    header = ("task", "parameters", "added", "FLOPs", *metrics, "private to", "may be used by")
    size = f"{scaled(found['totals']['size_bytes'], 'B')}, {scaled(more['size_on_disk_bytes'], 'B')} on disk"
    notes = (
        f"{found['components']} components, {number(found['totals']['parameters'])} parameters, {size}.",
        f"Isolation: {found['isolation'] or 'nothing learned yet'}.",
    )
    tables = [table(f"{folder} ({found['method']})", header, rows, notes)]
    tables += [_exit_table(task) for task in found["tasks"] if "exits" in task]
    profile = [(str(users), str(count)) for users, count in enumerate(more["sharing_profile"])]
    tables.append(table("Sharing", ("used by tasks", "components that can be shared"), profile))
    if "capacity" in found:
        full_layers = found["capacity"]
        free = [
            (name, number(layer["size"]), f"{layer['free'] / layer['size']:.1%}", str(layer["fits"]))
            for name, layer in full_layers["layers"].items()
        ]
        told = f"{full_layers['fits']} more task(s) that own {full_layers['share']:.0%} of every layer fit."
        tables.append(table("Capacity", ("layer", "weights", "free", "fits"), free, (told,)))
    tables.append(listing("History", ("when", "what", "isolation", "tasks"), events))
    if full:
        parts = [
            (part["name"], part["kind"], scaled(part["size_bytes"], "B"), part["sha256"][:12], ", ".join(part["users"]))
            for part in more["component_list"]
        ]
        tables.append(table("Components", ("component", "kind", "size", "sha256", "used by"), parts))
    return tables


def _write_paths(system: System, file: Path) -> None:
    from polypath.core.errors import InvalidInput
    from polypath.core.files import write_json

    rows = getattr(system.network, "rows", None)
    if rows is None:
        raise InvalidInput(
            f"--paths: the paths of {system.method!r} are no rows of modules; --full --json shows who uses what"
        )
    if file.exists():
        raise InvalidInput(f"--paths: {file} exists already; choose another file")
    write_json(file, {name: rows(name) for name in system.tasks})
