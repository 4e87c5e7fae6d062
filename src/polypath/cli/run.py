"""`polypath run`: a recipe, from data to report.html."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypath.cli import outcome
from polypath.cli.errors import resumable
from polypath.cli.show import AsJson, note

if TYPE_CHECKING:
    from polypath.recipes import Size
    from polypath.recipes.experiment import Experiment

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change the resolved configuration: method.KEY (all variants), variants.NAME.KEY (one), suite.KEY, "
        "precision, device, threads. May be given several times.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run; it reaches the same result.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what is in the data, what every task costs and the settings; train nothing."),
]
Everything = Annotated[
    bool, typer.Option("--all", help="With --dry-run: every setting, not only those that differ from their defaults.")
]


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of the recipe; `polypath recipes` lists them.")],
    quick: Annotated[bool, typer.Option("--quick", help="The small size: minutes on two cores.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="The tiny size: seconds, only to see that it runs.")] = False,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, metavar="N", help="A count: run the recipe's first N seeds.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="K", help="A value: run seed K only.")] = None,
    overrides: Overrides = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="NAME", help="Run only this variant. May be given several times."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the run.", show_default="runs/RECIPE-SIZE, numbered"),
    ] = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: learn every variant with every seed, print the table, write report.html.

    Recipes have three sizes: full (the paper's), --quick and --smoke.
    """
    if quick and smoke:
        raise typer.BadParameter("give --quick or --smoke, not both")
    if seeds is not None and seed is not None:
        raise typer.BadParameter("give --seeds N (a count) or --seed K (a value), not both")
    size: Size = "quick" if quick else "smoke" if smoke else "full"
    from polypath.recipes import experiment as experiments
    from polypath.train.devices import first_process

    chosen = experiments.first_seeds(recipe, size, seeds) if seeds is not None else None
    if seed is not None:
        chosen = [seed]
    experiment = experiments.experiment_of(recipe, size, overrides or (), chosen, variant or ())
    if dry_run:
        suites = experiments.suites_of(experiment, experiment.seeds[0])
        outcome.show_plan(experiment, suites, experiments.planned(experiment, suites), as_json, everything)
        return
    folder = out or _default_folder(experiment, resume)
    words = ["run", recipe, *([f"--{size}"] if size != "full" else [])]
    words += ["--seeds", str(seeds)] if seeds is not None else ["--seed", str(seed)] if seed is not None else []
    words += [word for text in overrides or () for word in ("--set", text)]
    words += [word for name in variant or () for word in ("--variant", name)]
    with resumable(folder, [*words, "--out", str(folder)], "config.json"):
        experiments.run_experiment(experiment, folder, resume=resume, on_result=tell)
        if not first_process():
            return  # one of several processes of this run; the first one shows and writes
        remember_command(folder, shlex.join(["polypath", *words]))
        outcome.finish(folder, as_json)


def _default_folder(experiment: Experiment, resume: bool) -> Path:
    """`runs/part-digits-smoke`, or its next free numbered sibling; with resume the newest that holds this very run."""
    from polypath.core.errors import InvalidInput
    from polypath.core.files import read_json
    from polypath.train.config import RunConfig

    if experiment.devices > 1:
        raise InvalidInput(f"devices={experiment.devices}: give --out, so that all processes write to one folder")
    name = f"{experiment.recipe.replace('/', '-')}-{experiment.size}"
    names = (Path("runs", name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    taken = list(itertools.takewhile(lambda path: path.exists(), names))
    if resume:
        plain = experiment.model_dump(mode="json", exclude=set(RunConfig.elsewhere))
        for path in reversed(taken):
            if (path / "config.json").exists() and read_json(path / "config.json") == plain:
                return path
        note("Nothing to resume with this configuration under runs/: starting anew.")
    return Path("runs", name if not taken else f"{name}-{len(taken) + 1}")


def tell(result: Any) -> None:
    """One line a finished run: the only sign of life where no bar can be drawn."""
    from polypath.report.summary import main_metric, overall
    from polypath.report.tables import number
    from polypath.train.devices import first_process

    if not first_process():
        return
    means, metrics = overall(result), dict.fromkeys(map(main_metric, result.tasks))
    said = [f"mean test {name} {number(means[name])}" for name in metrics if name]
    note(f"{result.variant}, seed {result.seed}: {', '.join(said) or 'nothing tested'} ({result.timing.wall_s:.1f} s)")


def remember_command(folder: Path, command: str) -> None:
    """The command goes into environment.json, so that the report can name it."""
    from polypath.core.files import read_json, write_json

    file = folder / "environment.json"
    known = read_json(file) if file.exists() else {}
    if "command" not in known:
        write_json(file, {**known, "command": command})
