"""What `run`, `train` and `report` show in common: plans, tables of results, the report's place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polypath.cli.show import flat, listing, note, number, print_json, print_tables, scaled, table

if TYPE_CHECKING:
    from polypath.recipes.experiment import Experiment


def show_plan(experiment: Experiment, plan: Mapping[str, Any], as_json: bool) -> None:
    """A dry run: the resolved configuration and the cost of every task."""
    if as_json:
        print_json(plan)
        return
    tables = [listing(f"{experiment.title}: resolved configuration", ("path", "value"), flat(resolved(experiment)))]
    shown: dict[str, list[str]] = {}
    for name, variant in plan["variants"].items():
        same = [first for first in shown if plan["variants"][first] == variant]
        if same:
            shown[same[0]].append(name)
            continue
        shown[name] = [name]
    for first, names in shown.items():
        tables.append(cost_table(f"Cost of {', '.join(names)}", plan["variants"][first]))
    print_tables(*tables)
    note("Nothing was trained.")


def resolved(experiment: Experiment) -> dict[str, Any]:
    """The configuration with every default of every method filled in."""
    from polypath.methods import method_class

    values = experiment.model_dump(mode="json")
    for variant in values["variants"].values():
        config = method_class(variant["method"]).config_class.of(variant["config"], "method")
        variant["config"] = config.model_dump(mode="json")
    return values


def cost_table(title: str, variant: Mapping[str, Any]) -> Any:
    """Parameters, added parameters and FLOPs of every task, and the total."""
    rows = [
        (task["name"], number(task["parameters"]), number(task["added_parameters"]), scaled(task["flops"]))
        for task in variant["tasks"]
    ]
    rows.append(("whole network", number(variant["totals"]["parameters"]), "", ""))
    notes = ("FLOPs: 2 x multiply-accumulates, one example. Added: parameters that no earlier task uses.",)
    return table(f"{title} ({variant['method']})", ("task", "parameters", "added", "FLOPs"), rows, notes)


def finish(folder: Path, as_json: bool) -> None:
    """Write summary.json and report.html, show the tables and say where the page is."""
    from polypath.core.files import read_json
    from polypath.report.answers import ensemble_grid
    from polypath.report.comparison import comparison_grid, recommendation
    from polypath.report.headline import verdict
    from polypath.report.page import write_report
    from polypath.report.records import read_run
    from polypath.report.tables import accuracy_grid, totals_grid

    page = write_report(folder)
    summary = read_json(folder / "summary.json")
    if as_json:
        more = {}
        if summary["recipe"] == "compare":
            more = {"recommendation": recommendation(read_run(folder).results, summary)}
        print_json({"run": str(folder), "report": str(page), **summary, **more})
        return
    if summary["recipe"] == "compare":
        results = read_run(folder).results
        grids, said = [accuracy_grid(summary), comparison_grid(results, summary)], recommendation(results, summary)
    else:
        together = ensemble_grid(summary)
        grids, said = (
            [accuracy_grid(summary), *([together] if together else []), totals_grid(summary)],
            verdict(summary),
        )
    print_tables(*(grid.rich() for grid in grids))
    for line in (*said, *summary["missing"], f"Report: {page}"):
        print_line(line)


def print_line(text: str) -> None:
    """A sentence on standard output, as it is."""
    import typer

    typer.echo(text)
