"""Names of the components of columns, and where their tensors lie."""

from __future__ import annotations


def piece_name(piece: str, column: str) -> str:
    """`trunk.fc1`, or `trunk.fc1.t0` in a task's own column."""
    return f"trunk.{piece}" if column == "shared" else f"trunk.{piece}.{column}"


def split_name(name: str) -> tuple[str, str]:
    """(piece, column) of a piece's component name."""
    piece, _, column = name.removeprefix("trunk.").partition(".")
    return piece, column or "shared"


def head_name(task_id: str) -> str:
    """`head.t2`."""
    return f"head.{task_id}"


def key_of(name: str) -> str:
    """Id of the task whose column or head a component is."""
    return name.removeprefix("head.") if name.startswith("head.") else split_name(name)[1]


def place_of(name: str) -> str:
    """Where the state keys of a component lie."""
    if name.startswith("head."):
        return f"heads.{key_of(name)}"
    piece, column = split_name(name)
    return f"columns.{column}.{piece}"
