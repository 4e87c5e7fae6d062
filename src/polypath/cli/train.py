"""`polypath train`: the user's own tasks with one method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypath.cli import outcome
from polypath.cli.errors import resumable
from polypath.cli.own import importable
from polypath.cli.run import DryRun, Everything, Overrides, Resume
from polypath.cli.show import AsJson
from polypath.cli.suites import described, placed, show_data

if TYPE_CHECKING:
    from polypath.core.examples import Suite
    from polypath.recipes.experiment import Experiment


def train(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE", help="tasks.yaml with your own tasks, or a suite in YAML or JSON.")
    ],
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="How to learn; `polypath methods` lists them.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run; the system is DIR/system.")],
    overrides: Overrides = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, metavar="K", help="Of everything random.", show_default="the file's, or 0"),
    ] = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Learn your own tasks: what is in the data is shown first, then a table of results, report.html and a system."""
    from polypath.recipes import experiment as experiments
    from polypath.train.devices import first_process

    with placed(suite):
        experiment = experiment_of(suite, method, overrides or (), seed)
        ((name, variant),) = experiment.variants.items()
        suites = experiments.fitting(experiment, experiment.seeds[0])
    if dry_run:
        _show_plan(experiment, suites, as_json, everything)
        return
    words = ["train", str(suite), "--method", method, "--out", str(out)]
    words += [word for text in overrides or () for word in ("--set", text)]
    words += ["--seed", str(seed)] if seed is not None else []
    if not as_json and first_process():
        show_data(suites[name])
    with resumable(out, words, "run.json"):
        _learn(experiment, suites[name], out, resume)
        if not first_process():
            return  # one of several processes of this run; the first one shows and writes
        outcome.finish(out, as_json)


def experiment_of(file: Path, method: str, overrides: Any, seed: int | None) -> Experiment:
    """The run of one method on the tasks of a file."""
    from polypath.methods import method_class
    from polypath.recipes import experiment as experiments

    values = described(file)
    importable(method)
    name = method_class(method).name
    return experiments.altered(
        experiments.Experiment.of(
            {
                "recipe": "own",
                "title": str(values.get("name") or file.stem),
                "paper": "",
                "suite": values,
                "variants": {name: {"method": method}},
                "main": name,
                "seeds": [values.get("seed", 0) if seed is None else seed],
            }
        ),
        overrides,
    )


def _show_plan(experiment: Experiment, suites: dict[str, Suite], as_json: bool, everything: bool) -> None:
    from polypath.cli.data_table import about
    from polypath.recipes import experiment as experiments

    plan = {**experiments.planned(experiment, suites), "data": [about(data) for data in suites[experiment.main]]}
    outcome.show_plan(experiment, suites, plan, as_json, everything)


def _learn(experiment: Experiment, suite: Suite, out: Path, resume: bool) -> None:
    from polypath.learning import learn

    ((name, variant),) = experiment.variants.items()
    learn(
        variant.method,
        suite,
        seed=experiment.seeds[0],
        out=out,
        resume=resume,
        labels={"recipe": experiment.recipe, "variant": name, "size": experiment.size},
        **variant.config,
        **experiment.run_config(),
    )
