"""What the commands that change a system share: reading task files and settings, showing what it did to the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polypath.cli.own import importable
from polypath.cli.show import metric, note, print_json, print_tables, table

if TYPE_CHECKING:
    from polypath.certificate import Certificate
    from polypath.core.examples import Suite
    from polypath.lifecycle import Change

Files = Annotated[
    list[Path], typer.Argument(metavar="TASKS...", help="tasks.yaml with one task or several, or a suite; or several.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change how it is learned: method.KEY, precision, device, threads. May be given several times.",
    ),
]
Proof = Annotated[
    bool,
    typer.Option("--proof/--no-proof", help="Hash and replay every other task before and after; write a certificate."),
]


MethodName = Annotated[
    str | None,
    typer.Option("--method", metavar="NAME", help="package.module:Class, where the system's method is your own."),
]


Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        metavar="NAME",
        help="Add as a member of this access group (and of others, given again): tasks private to another are refused.",
    ),
]


def suite_of(files: Sequence[Path]) -> Suite:
    """The tasks of one file or several."""
    from polypath.cli.suites import described, placed
    from polypath.core.examples import Suite
    from polypath.data import build

    suites = []
    for file in files:
        with placed(file):
            suites.append(build(described(file)))
    if len(suites) == 1:
        return suites[0]
    configs = [suite.config for suite in suites]
    own = all(config.get("kind") == "own" for config in configs)
    together = {**configs[0], "tasks": [task for config in configs for task in config["tasks"]]} if own else {}
    return Suite(suites[0].name, tuple(data for suite in suites for data in suite), suites[0].seed, together)


def prepared(folder: Path, texts: Sequence[str] | None, method: str | None = None) -> tuple[list[str], dict[str, Any]]:
    """Names of the tasks known, and keyword arguments of `System.learn` from `--set` texts.

    Raises:
        Locked: another process changes the system; said before any data is read.
    """
    from polypath.recipes.experiment import changed_settings
    from polypath.store import Store

    importable(*([method] if method is not None else []))
    store = Store.existing(folder)
    with store.hold():
        manifest = store.manifest()
    named = {"method": method} if method is not None else {}
    if not texts:
        return list(manifest.tasks), named
    return list(manifest.tasks), {**changed_settings(method or manifest.method, manifest.config, texts), **named}


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[None]:
    """Inside the block Ctrl-C is answered with what became of the system: nothing, or all where it came too late."""
    from polypath.core.errors import Cancelled
    from polypath.store import Store

    before = Store(folder).stamp()
    try:
        yield
    except (Cancelled, KeyboardInterrupt) as stop:
        if Store(folder).stamp() == before:
            raise Cancelled(f"Stopped. {folder} is what it was before the command.") from stop
        raise Cancelled(f"Stopped, but too late: {folder} was changed; `polypath history {folder}` says how.") from stop


def read_and_shown(files: Sequence[Path], as_json: bool) -> Suite:
    """The tasks of one file or several; what is in their data is shown before anything is learned."""
    from polypath.cli.suites import show_data

    suite = suite_of(files)
    if not as_json:
        show_data(suite)
    return suite


def show_change(change: Change, folder: Path, said: str, as_json: bool, learned: Sequence[str] = ()) -> None:
    """What was done, how good what was learned is, what that did to the other tasks, how to go back."""
    certificate = change.certificate
    metrics = {name: change.system.entries[name].metrics for name in learned}
    if as_json:
        print_json(
            {
                "system": str(folder),
                "tasks": list(change.system.tasks),
                "metrics": metrics,
                "isolation": change.system.isolation,
                "identical": certificate.identical if certificate is not None else None,
                "summary": certificate.summary() if certificate is not None else None,
                "certificate": str(change.path) if change.path is not None else None,
                "snapshot": change.snapshot.id if change.snapshot is not None else None,
            }
        )
        return
    if any(metrics.values()):
        print_tables(test_table(metrics))
    if certificate is not None and certificate.others:
        print_tables(proof_table(certificate))
    typer.echo(said)
    if certificate is not None:
        typer.echo(f"Others: {certificate.summary()}.")
        typer.echo(f"Certificate: {change.path}")
    if change.snapshot is not None:
        note(f"To go back: polypath rollback {folder} {change.snapshot.id}")


def test_table(metrics: Mapping[str, Mapping[str, float]]) -> Any:
    """A line for each test metric of each task."""
    rows = [(task, name, metric(value)) for task, values in metrics.items() for name, value in values.items()]
    return table("Test metrics", ("task", "metric", "value"), rows)


def proof_table(certificate: Certificate) -> Any:
    """A line for each other task; of many only those that changed, and the first ones."""
    shown = list(certificate.others.items())
    notes = []
    if len(shown) > 20:
        changed = [(name, proof) for name, proof in shown if not proof.identical]
        notes = [f"{len(shown)} tasks; the rest is in the certificate."]
        shown = [*changed, *(pair for pair in shown if pair[1].identical)][:20]
    rows = [
        (
            name,
            f"{len(proof.components)}",
            f"{len(proof.differing)}",
            "bit-identical" if proof.identical else "changed",
            _figure(proof.probe.largest),
            "–" if proof.probe.answers is None else f"{proof.probe.answers:.0%}",
        )
        for name, proof in shown
    ]
    header = ("other task", "components", "moved", "answers", "largest change", "other label")
    return table(f"{_said(certificate)} ({certificate.method})", header, rows, notes)


def _said(certificate: Certificate) -> str:
    """What was done: "xray added", "xray renamed to thorax"; a renamed task is one of those that are proved."""
    names = [f"{proof.was} renamed to {name}" for name, proof in certificate.others.items() if proof.was != name]
    return ", ".join(names) if names else f"{', '.join(certificate.tasks)} {certificate.what}"


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
