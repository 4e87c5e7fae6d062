"""The picture of paths as one caller may see it: permitted tasks and the components they use, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polypath.core import accounting
from polypath.core.network import Network
from polypath.core.result import PathPicture
from polypath.report.paths import path_picture_svg, task_colour


def picture(network: Network, tasks: Sequence[str]) -> dict[str, Any]:
    """The SVG and what is in it, as `Picture`.

    Columns are steps; a component stands in the last column in which a path uses it, so that paths of different
    lengths (branches, exits, evolved models) share one picture.

    Args:
        network: whose paths.
        tasks: those that are shown.
    """
    reaches = {name: network.reach(name) for name in tasks}
    where: dict[str, int] = {}
    for path in reaches.values():
        for depth, step in enumerate(path.steps):
            for name in step:
                where[name] = max(depth, where.get(name, 0))
    columns = sorted(set(where.values()))
    place = {name: columns.index(depth) for name, depth in where.items()}
    steps: list[list[str]] = [[] for _ in columns]
    for name in sorted(where, key=_natural):
        steps[place[name]].append(name)
    lanes = {
        task: [[name for name in path.components if place[name] == column] for column in range(len(columns))]
        for task, path in reaches.items()
    }
    sizes = network.parameter_counts()
    parts = network.components()
    users = accounting.users_of(reaches)
    shown = PathPicture(steps=steps, tasks=lanes, sizes={name: sizes[name] for name in where})
    return {
        "svg": path_picture_svg(shown, name="paths"),
        "tasks": list(tasks),
        "colours": [task_colour(number) for number in range(len(tasks))],
        "components": {
            name: {"kind": parts[name].kind, "parameters": sizes[name], "tasks": list(users[name])} for name in where
        },
    }


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts "layer10" after "layer9"."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for letter in name + ".":
        if letter.isdecimal() and letter.isascii():
            digits += letter
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, letter))
    return parts
