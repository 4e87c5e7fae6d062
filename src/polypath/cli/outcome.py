"""What `run`, `train` and `report` show in common: plans, tables of results, the report's place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polypath.cli.show import flat, listing, note, number, print_json, print_tables, scaled, table

if TYPE_CHECKING:
    from polypath.core.examples import Suite
    from polypath.recipes.experiment import Experiment


def show_plan(
    experiment: Experiment, suites: Mapping[str, Suite], plan: Mapping[str, Any], as_json: bool, everything: bool
) -> None:
    """A dry run: what is in the data, the cost of every task, and the settings.

    Args:
        experiment: the runs.
        suites: what every variant learns.
        plan: their costs.
        as_json: print the plan instead.
        everything: all settings, not only those that differ from their defaults.
    """
    from polypath.cli.data_table import data_table

    if as_json:
        print_json(plan)
        return
    tables = [data_table(suites[experiment.main])]
    shown: dict[str, list[str]] = {}
    for name, variant in plan["variants"].items():
        same = [first for first in shown if plan["variants"][first] == variant]
        if same:
            shown[same[0]].append(name)
            continue
        shown[name] = [name]
    for first, names in shown.items():
        tables.append(cost_table(f"Cost of {', '.join(names)}", plan["variants"][first]))
    if everything:
        tables.append(listing("Every setting", ("path", "value"), flat(resolved(experiment))))
    elif rows := differing(experiment):
        header = ("setting", "value", "variants") if len(experiment.variants) > 1 else ("setting", "value")
        title = "Settings that differ from the defaults"
        tables.append(listing(title, header, [row[: len(header)] for row in rows], ("--all shows every setting.",)))
    print_tables(*tables)
    note("Nothing was trained.")


def differing(experiment: Experiment) -> list[tuple[str, str, str]]:
    """(setting, value, variants) of everything that is not as it would be if nobody had said anything."""
    from polypath.methods import method_class
    from polypath.train.config import RunConfig

    standard = dict(flat(RunConfig().model_dump(mode="json")))
    rows = [(key, value, "") for key, value in flat(experiment.run_config()) if value != standard[key]]
    rows.append(("seeds", ", ".join(map(str, experiment.seeds)), ""))
    shared = any(variant.suite is None for variant in experiment.variants.values())
    if shared and experiment.suite.get("kind") != "own":  # of one's own tasks the table of the data says more
        rows += [(key, _clipped(value), "") for key, value in flat(experiment.suite, "suite") if value != "null"]
    holders: dict[tuple[str, str], list[str]] = {}
    for name, variant in experiment.variants.items():
        config = method_class(variant.method).config_class
        known = flat(config.of({}, "method").model_dump(mode="json"), "method")
        more = variant.model_dump(mode="json", exclude={"method", "config"}, exclude_defaults=True)
        for key, value in [row for row in flat(variant.config, "method") if row not in known] + flat(more):
            if key:  # of nothing there is a line without a path
                holders.setdefault((key, value), []).append(name)
    whole = len(experiment.variants)
    return rows + [(key, _clipped(value), _named(names, whole)) for (key, value), names in holders.items()]


def _clipped(value: str) -> str:
    return value if len(value) <= 80 else f"{value[:76]} ..."


def _named(names: list[str], whole: int) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "all" if len(names) == whole else ", ".join(names[:3]) + more


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
