"""Reading a suite that the user wrote: their own tasks, or any kind of suite, in YAML or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polypath.cli.show import print_tables

if TYPE_CHECKING:
    from polypath.core.examples import Suite


def described(file: Path) -> dict[str, Any]:
    """The configuration of `polypath.data.build` in a file, with paths that start from its folder.

    Args:
        file: a tasks.yaml (`tasks: [...]`), or a suite of any kind (`kind: split`, ...).

    Raises:
        InvalidInput: it cannot be read, or is neither.
    """
    from polypath.core.errors import InvalidInput
    from polypath.data.tasks_file import load_own

    if file.is_dir():
        inside = file / "tasks.yaml"
        hint = f"give {inside}" if inside.exists() else f"`polypath init {file}` makes a first tasks.yaml in it"
        raise InvalidInput(f"{file}: is a folder, and a file that names tasks is required; {hint}")
    content = _kind(file)
    if content is None:
        return {"kind": "own", **load_own(file)}
    return _rooted({"seed": 0, **content}, file.parent)


def placed(file: Path) -> AbstractContextManager[None]:
    """Inside the block, mistakes in the tasks of a file are told with their lines."""
    from polypath.data.tasks_file import located

    return located(file) if file.exists() else nullcontext()


def show_data(suite: Suite) -> None:
    """What was found in the data, before anything is trained."""
    from polypath.cli.data_table import data_table

    print_tables(data_table(suite))


def _kind(file: Path) -> dict[str, Any] | None:
    """The content where it names another kind than `own`; None leaves the file, and its errors, to `load_own`."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(content, Mapping) or content.get("kind", "own") == "own":
        return None
    return dict(content)


def _rooted(values: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Relative data paths made absolute; suites in a mix too."""
    from polypath.data.sources import resolved

    out = dict(values)
    if isinstance(out.get("dataset"), str):
        out["dataset"] = resolved(out["dataset"], root)
    if isinstance(out.get("suites"), list):
        out["suites"] = [
            _rooted(one, root) if isinstance(one, Mapping) else resolved(str(one), root) for one in out["suites"]
        ]
    return out
