"""`polypath serve`: every task of a system over HTTP."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from polypath.cli.show import SystemFolder, note

_SETTING = typer.Option("--set", metavar="NAME=VALUE", help="A limit: max_rows, max_batch, max_pixels, ...")


def serve(
    folder: SystemFolder,
    host: Annotated[str, typer.Option("--host", help="Where to listen; other than this machine needs --tokens.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    tokens: Annotated[
        Path | None, typer.Option("--tokens", metavar="FILE", help="Bearer tokens, made by `polypath token`.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one forward.")] = None,
    settings: Annotated[list[str] | None, _SETTING] = None,
) -> None:
    """Serve every task of a system: predictions, health, metrics, and a page for people at /.

    A system that is saved again (a task added, removed, updated) is picked up while requests run. SIGTERM and Ctrl-C
    finish the requests in progress.
    """
    from polypath.core.errors import InvalidInput

    if missing := [
        name for name in ("fastapi", "uvicorn", "prometheus_client", "python_multipart") if not find_spec(name)
    ]:
        raise InvalidInput(f"serve needs {', '.join(missing)}: pip install 'polypath[serve]'")
    path = Path(folder)
    if not (path / "manifest.json").exists() and (path / "system" / "manifest.json").exists():
        path = path / "system"
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    # By name: the command line and the server are rooms of one floor.
    limits = import_module("polypath.serve.settings").Limits.of(_read(settings or []), "set")
    without = "" if tokens else "\nWithout --tokens: this machine only, private tasks are not served."

    def started(url: str) -> None:
        note(f"Serving {path} at {url}{without}")

    import_module("polypath.serve.run").serve(path, host=host, port=port, tokens=tokens, limits=limits, started=started)
    note("Stopped.")


def token(
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="File of tokens; made where it is missing.")],
    name: Annotated[str, typer.Option("--name", help="Who gets the token; unique in the file.")],
    group: Annotated[
        list[str] | None, typer.Option("--group", help="Access group, repeated for several; none: public tasks only.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the token out of the file instead.")] = False,
) -> None:
    """Make a bearer token for `polypath serve --tokens`, or remove one; running servers see the change.

    The token is printed once; the file holds its hash only. The group `metrics` may read /metrics.
    """
    access = import_module("polypath.serve.access")
    if remove:
        access.remove_token(file, name)
        note(f"Token {name!r} removed from {file}.")
        return
    typer.echo(access.create_token(file, name, group or []))
    note(f"Token {name!r} added to {file}; it is shown this once. Groups: {', '.join(group or []) or 'none'}.")


def _read(settings: list[str]) -> dict[str, object]:
    import json

    from polypath.core.errors import InvalidInput

    found: dict[str, object] = {}
    for one in settings:
        key, equals, value = one.partition("=")
        if not equals:
            raise InvalidInput(f"--set {one}: NAME=VALUE is required")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
