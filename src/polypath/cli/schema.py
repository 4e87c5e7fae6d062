"""`polypath schema`: the JSON schema of tasks.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from polypath.cli.show import note, print_json


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there.", show_default="standard output")
    ] = None,
) -> None:
    """Print the JSON schema of tasks.yaml, with which editors complete keys and mark mistakes.

    Editors with the YAML language server (VS Code, Neovim, JetBrains, ...) find it by the first line of tasks.yaml:
    # yaml-language-server: $schema=tasks.schema.json
    """
    from polypath.data.schema import tasks_schema

    found = tasks_schema()
    if out is None:
        print_json(found)
        return
    write_schema(out)
    note(f"{out} written.")


def write_schema(file: Path) -> None:
    """The schema as a file."""
    from polypath.data.schema import tasks_schema

    file.write_text(json.dumps(tasks_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
