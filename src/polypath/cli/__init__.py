"""The command line: one file per command, heavy imports only inside commands, so that `--help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

import polypath
from polypath.cli.add import add
from polypath.cli.compare import compare
from polypath.cli.datasets import datasets
from polypath.cli.diff import diff
from polypath.cli.errors import Commands
from polypath.cli.evaluate import evaluate
from polypath.cli.export import export
from polypath.cli.history import history, prune, rollback
from polypath.cli.init import init
from polypath.cli.inspect import inspect
from polypath.cli.methods import methods
from polypath.cli.predict import predict
from polypath.cli.recipes import recipes
from polypath.cli.remove import remove
from polypath.cli.rename import rename
from polypath.cli.report import report
from polypath.cli.run import run
from polypath.cli.schema import schema
from polypath.cli.serve import serve, token
from polypath.cli.show import examples
from polypath.cli.train import train
from polypath.cli.update import update
from polypath.cli.verify import verify

app = typer.Typer(
    name="polypath",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # a trace must not print whole tensors
    epilog=examples(
        "polypath run part/digits                   the demo: table and report.html",
        "polypath run part/digits --dry-run         what it would cost",
        "polypath train tasks.yaml --method part --out clinic    your own data",
        "polypath predict clinic/system TASK photo.png           ask one task",
        "polypath COMMAND --help                    examples of one command",
        after="Exit codes: 0 done, 1 a verification failed, 2 something is wrong with what was asked, 130 stopped.",
    ),
)


def _version(show: bool) -> None:
    if show:
        typer.echo(polypath.__version__)
        raise typer.Exit()


@app.callback()
def polypath_command(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="POLYPATH_DEBUG", help="Show the whole trace of an error."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """One network, many tasks: train, measure, prove and use systems whose tasks are paths through shared components.

    A recipe is an experiment of a paper, ready to run; a system is what learning leaves on disk.
    """


_LEARN, _USE, _GROW, _LOOK = "Learn", "Use a system", "Change a system", "Look up"

for _function, _panel, _epilog in (
    (
        run,
        _LEARN,
        examples(
            "polypath run part/digits",
            "polypath run part/cifar100 --quick --seeds 5 --out runs/x",
            "polypath run part/cifar100 --quick --set method.modules=8 --dry-run",
            "polypath run part/cifar100 --quick --variant parallel --seed 456",
            "polypath run part/cifar100 --quick --seeds 5 --out runs/x --resume",
            after="Leaves report.html, summary.json and VARIANT/seed-N/{results.json, metrics.jsonl, system/} in the "
            "folder of the run. `polypath recipes` lists what can be run.",
        ),
    ),
    (
        init,
        _LEARN,
        examples(
            "polypath init photos", after="Writes photos/tasks.yaml and tasks.schema.json beside it; trains nothing."
        ),
    ),
    (
        train,
        _LEARN,
        examples(
            "polypath train tasks.yaml --method part --out clinic",
            "polypath train tasks.yaml --method part --out clinic --set method.modules=8 --dry-run",
            after="tasks.yaml names tasks and where their examples are: docs/data.md. The system is OUT/system.",
        ),
    ),
    (
        compare,
        _LEARN,
        examples(
            "polypath compare tasks.yaml --methods rsn2,hard_sharing,single --budget 10m --seeds 3 --out runs/methods",
            "polypath compare tasks.yaml --methods part,single --budget 20e --set method.batch=64 --out runs/x",
            after="Leaves report.html with a recommendation, summary.json and METHOD/seed-N/ with a system each.",
        ),
    ),
    (evaluate, _USE, examples("polypath evaluate clinic/system", "polypath evaluate clinic/system --json")),
    (
        inspect,
        _USE,
        examples(
            "polypath inspect clinic/system",
            "polypath inspect clinic/system --paths p.json   then --set method.paths_file=p.json",
        ),
    ),
    (verify, _USE, examples("polypath verify clinic/system", after="Exit code 1 where something is not as recorded.")),
    (
        predict,
        _USE,
        examples(
            "polypath predict clinic/system xray a.png b.png",
            "polypath predict clinic/system risk patients.csv --json",
            "polypath predict clinic/system digits images.npy",
        ),
    ),
    (
        serve,
        _USE,
        examples(
            "polypath serve clinic/system                     this machine only, http://127.0.0.1:8000",
            "polypath token --file tokens.json --name alice --group radiology",
            "polypath serve clinic/system --host 0.0.0.0 --tokens tokens.json",
            "polypath serve clinic/system --set max_rows=32 --set max_wait_ms=5",
            after="What can be asked: docs/howto/serve.md, and /openapi.json of the server. The page is at /.",
        ),
    ),
    (
        token,
        _USE,
        examples(
            "polypath token --file tokens.json --name alice --group radiology --group metrics",
            "polypath token --file tokens.json --name alice --remove",
        ),
    ),
    (
        export,
        _USE,
        examples(
            "polypath export clinic/system xray --format onnx --out xray.onnx",
            "polypath export clinic/system xray --out xray.pt2 --exit layer3",
            after="ONNX needs `pip install polypath\\[onnx]`. docs/howto/export.md has a script for each format.",
        ),
    ),
    (
        add,
        _GROW,
        examples(
            "polypath add clinic/system ct.yaml",
            "polypath add clinic/system ct.yaml mr.yaml --set method.epochs=20",
            after="Ends with a certificate in SYSTEM/certificates/: what this did to every old task.",
        ),
    ),
    (
        update,
        _GROW,
        examples("polypath update clinic/system xray.yaml", "polypath update clinic/system all.yaml --task xray"),
    ),
    (rename, _GROW, examples("polypath rename clinic/system xray thorax")),
    (
        remove,
        _GROW,
        examples(
            "polypath remove clinic/system xray",
            "polypath remove clinic/system xray --cascade",
            "polypath remove clinic/system xray --no-residue --cascade   and all that its data trained",
            after="Writes a deletion report to SYSTEM/certificates/.",
        ),
    ),
    (history, _GROW, examples("polypath history clinic/system", "polypath history clinic/system --json")),
    (
        diff,
        _GROW,
        examples(
            "polypath diff clinic/system                        since the newest snapshot",
            "polypath diff clinic/system 3fa9c1 current",
        ),
    ),
    (rollback, _GROW, examples("polypath rollback clinic/system 3fa9c1")),
    (prune, _GROW, examples("polypath prune clinic/system --keep 3", "polypath prune clinic/system --keep 0")),
    (schema, _LOOK, examples("polypath schema", "polypath schema --out tasks.schema.json")),
    (report, _LOOK, examples("polypath report runs/part-digits-full")),
    (recipes, _LOOK, examples("polypath recipes", "polypath recipes part/digits   its sizes and variants")),
    (methods, _LOOK, examples("polypath methods", "polypath methods part   every setting of one method")),
    (datasets, _LOOK, examples("polypath datasets", "POLYPATH_DATA=/data polypath datasets --json")),
):
    app.command(epilog=_epilog, rich_help_panel=_panel, no_args_is_help=_panel != _LOOK)(_function)


def main() -> None:
    """Entry of the `polypath` script and of `python -m polypath`."""
    app(prog_name="polypath")


__all__ = ["app", "main"]
