"""`polypath export`: one task as a file that answers without polypath."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from polypath.cli.show import SystemFolder, print_json
from polypath.cli.systems import opened


class Format(StrEnum):
    """Formats of exported files."""

    onnx = "onnx"
    torch = "torch"


class Pixels(StrEnum):
    """How images come."""

    uint8 = "uint8"
    float = "float"


def export(
    folder: SystemFolder,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Which task; `polypath inspect SYSTEM` lists them.")],
    out: Annotated[Path, typer.Option("--out", help="The file, ending in .onnx or .pt2; an older one is replaced.")],
    format: Annotated[Format | None, typer.Option("--format", help="Follows from the ending unless given.")] = None,
    exit: Annotated[str | None, typer.Option("--exit", help="An earlier exit, for tasks that have several.")] = None,
    pixels: Annotated[Pixels, typer.Option("--pixels", help="Images as uint8 0..255 or as float 0..1.")] = Pixels.uint8,
    resize: Annotated[bool, typer.Option("--resize", help="Images of any size, stretched inside the graph.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")] = False,
) -> None:
    """Write one task's path with preprocessing and labels as ONNX or as a torch.export archive.

    The file is asked the probe questions of the system first and written only where it gives the same answers.
    """
    made = opened(folder).export(
        task,
        out,
        format=None if format is None else format.value,
        exit=exit,
        pixels=pixels.value,
        resize=resize,
    )
    if not as_json:
        typer.echo(made.summary())
        return
    print_json(
        {
            "path": str(made.path),
            "format": made.format,
            "task": made.task,
            "exit": made.exit,
            "size_bytes": made.size_bytes,
            "system_bytes": made.system_bytes,
            "relative_difference": made.difference,
            "private_to": list(made.access),
        }
    )
