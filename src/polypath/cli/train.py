"""`polypath train`: the user's own tasks with one method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polypath.cli import outcome
from polypath.cli.errors import resumable
from polypath.cli.run import DryRun, Overrides, Resume
from polypath.cli.show import AsJson

if TYPE_CHECKING:
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
    as_json: AsJson = False,
) -> None:
    """Learn your own tasks, print the table, write report.html and a system that answers raw inputs."""
    from polypath.cli.suites import described
    from polypath.methods import method_class
    from polypath.recipes import experiment as experiments
    from polypath.train.devices import first_process

    values = described(suite)
    chosen = values.get("seed", 0) if seed is None else seed
    name = method_class(method).name
    experiment = experiments.altered(
        experiments.Experiment.of(
            {
                "recipe": "own",
                "title": str(values.get("name") or suite.stem),
                "paper": "",
                "suite": values,
                "variants": {name: {"method": method}},
                "main": name,
                "seeds": [chosen],
            }
        ),
        overrides or (),
    )
    if dry_run:
        outcome.show_plan(experiment, experiments.planned(experiment), as_json)
        return
    words = ["train", str(suite), "--method", method, "--out", str(out)]
    words += [word for text in overrides or () for word in ("--set", text)]
    words += ["--seed", str(seed)] if seed is not None else []
    with resumable(out, words, "run.json"):
        _learn(experiment, out, resume)
        if not first_process():
            return  # one of several processes of this run; the first one shows and writes
        outcome.finish(out, as_json)


def _learn(experiment: Experiment, out: Path, resume: bool) -> None:
    from polypath.learning import learn
    from polypath.recipes import experiment as experiments

    ((name, variant),) = experiment.variants.items()
    seed = experiment.seeds[0]
    learn(
        variant.method,
        experiments.fitting(experiment, seed)[name],
        seed=seed,
        out=out,
        resume=resume,
        labels={"recipe": experiment.recipe, "variant": name, "size": experiment.size},
        **variant.config,
        **experiment.run_config(),
    )
