"""`polypath compare`: several methods on the same tasks, with the same data and the same budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polypath.cli import outcome
from polypath.cli.errors import resumable
from polypath.cli.own import importable
from polypath.cli.run import DryRun, Everything, Resume, remember_command, tell
from polypath.cli.show import AsJson, note


def compare(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE", help="tasks.yaml with your own tasks, or a suite in YAML or JSON.")
    ],
    methods: Annotated[str, typer.Option("--methods", metavar="A,B,...", help="Which; `polypath methods` lists them.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the comparison.")],
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="TIME|Ne",
            help="For each method and seed: a time on this machine (90s, 10m, 1.5h), or passes over every task's "
            "training examples (20e).",
        ),
    ] = "10m",
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, metavar="N", help="A count, from the file's seed or 0 on.", show_default="3"),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="K", help="A value: seed K only.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="method.KEY (every method that has it), METHOD.KEY (one), suite.KEY, precision, device, threads.",
        ),
    ] = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Learn your tasks with several methods, and say which one to take.

    Same data, same sealed test split, same budget; one table, one report with a recommendation.
    """
    if seeds is not None and seed is not None:
        raise typer.BadParameter("give --seeds N (a count) or --seed K (a value), not both")
    import shlex

    from polypath.cli.suites import described, placed, show_data
    from polypath.recipes import comparison as comparisons
    from polypath.recipes import experiment as experiments

    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    importable(*chosen)
    values = described(suite)
    first = values.pop("seed", 0)
    counted = range(first, first + (seeds or 3)) if isinstance(first, int) else [first]  # which is refused below
    title = f"Methods compared: {values.get('name') or suite.stem}"
    limit = comparisons.budget_of(budget)
    with placed(suite):
        experiment = comparisons.comparison(
            values, chosen, title=title, seeds=counted if seed is None else [seed], overrides=overrides or ()
        )
        # What does not fit is said before anything is trained.
        suites = experiments.fitting(experiment, experiment.seeds[0])
    if dry_run:
        outcome.show_plan(experiment, suites, experiments.planned(experiment, suites), as_json, everything)
        return
    if not as_json:
        show_data(next(iter(suites.values())))
    words = ["compare", str(suite), "--methods", ",".join(chosen), "--budget", budget]
    words += ["--seeds", str(seeds or 3)] if seed is None else ["--seed", str(seed)]
    words += [word for text in overrides or () for word in ("--set", text)]
    with resumable(out, [*words, "--out", str(out)], "config.json"):
        paced = comparisons.within(experiment, limit, out, suite=next(iter(suites.values())), tell=note)
        experiments.run_experiment(paced, out, resume=resume, on_result=tell, built=suites)
        remember_command(out, shlex.join(["polypath", *words]))
        outcome.finish(out, as_json)
