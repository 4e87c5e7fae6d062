"""Reading a tasks.yaml: plain values, and the line of every key for messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput
from polypath.data.problems import Collected, Mistakes, Place
from polypath.data.sources import SCHEMES, resolved

MOST_VALUES = 200_000  # of a file, keys counted too: thousands of tasks with all their settings, read in seconds


def load_own(path: Path) -> dict[str, Any]:
    """The content of a file with one or more tasks, with paths that start from its folder.

    Args:
        path: a mapping with a list of `tasks`, or one task alone (`name`, `dataset`, ...), as `polypath add` takes it.

    Raises:
        InvalidInput: no such file, no YAML, a key twice, or something else than tasks.
    """
    node, content = _read(path)
    if _alone(content):
        content = {"tasks": [content]}
    if not isinstance(content, Mapping) or not isinstance(content.get("tasks"), list):
        raise InvalidInput(f"{path}: a mapping with a list of tasks is required, for example 'tasks: [{{name: ...}}]'")
    twice = Collected()
    _twice(node, (), twice)
    if twice.problems:
        raise Mistakes(str(path), twice.problems, lines_of(path))
    content = dict(content)
    content["tasks"] = [_rooted(task, path.parent) for task in content["tasks"]]
    if "defaults" in content:
        content["defaults"] = _rooted(content["defaults"], path.parent)
    return {"name": path.stem, **content}


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Inside the block, mistakes in tasks are told with their lines in this file."""
    try:
        yield
    except Mistakes as error:
        raise error.with_lines(str(path), lines_of(path)) from None


def lines_of(path: Path) -> dict[Place, int]:
    """Line (from 1) of every key and list entry of a YAML file; a task alone counts as the first of a list."""
    node, content = _read(path)
    found: dict[Place, int] = {}
    _walk(node, ("tasks", 0) if _alone(content) else (), found)
    return found


def _alone(content: Any) -> bool:
    """Whether a file holds one task and no list of them, also where the kind of data stands in place of `dataset`."""
    return (
        isinstance(content, Mapping) and "tasks" not in content and not content.keys().isdisjoint(("dataset", *SCHEMES))
    )


def _read(path: Path) -> tuple[Any, Any]:
    """The root node with its places, and the plain values."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        loader, again = yaml.SafeLoader(text), yaml.SafeLoader(text)
        node = loader.get_single_node()
        _entries(node, (), {}, path)
        # A second tree for the values: building them merges `<<` into the nodes.
        return node, None if node is None else again.construct_document(again.get_single_node())
    except RecursionError as error:
        raise InvalidInput(f"{path}: is nested too deeply; a list of tasks with their settings is required") from error
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: is no YAML: not in UTF-8 ({error.reason})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise InvalidInput(f"{path}: {where}is no YAML: {getattr(error, 'problem', None) or error}") from error


def _entries(node: Any, around: tuple[Any, ...], known: dict[Any, int], path: Path) -> int:
    """How many values a tree holds once its aliases are written out, as every walk through it sees them.

    Raises:
        InvalidInput: an alias to something that it stands in itself, or aliases of aliases that make too many values.
    """
    if node is None or node.id == "scalar":
        return 1
    line = node.start_mark.line + 1
    if node in around:
        raise InvalidInput(
            f"{path}: line {line}: what begins here holds an alias (*) to itself; write out what is meant"
        )
    if node not in known:
        inner = [one for pair in node.value for one in pair] if node.id == "mapping" else node.value
        known[node] = 1 + sum(_entries(one, (*around, node), known, path) for one in inner)
        if known[node] > MOST_VALUES:
            raise InvalidInput(
                f"{path}: line {line}: what begins here holds more than {MOST_VALUES:,} values, aliases (*) written out"
            )
    return known[node]


def _walk(node: Any, place: Place, found: dict[Place, int]) -> None:
    if node is None:
        return
    found.setdefault(place, node.start_mark.line + 1)
    if node.id == "mapping":
        for key, value in node.value:
            inner = (*place, str(key.value))
            found[inner] = key.start_mark.line + 1
            _walk(value, inner, found)
    elif node.id == "sequence":
        for number, value in enumerate(node.value):
            _walk(value, (*place, number), found)


def _twice(node: Any, place: Place, problems: Collected) -> None:
    """Keys that stand twice in one mapping: YAML would silently take the last."""
    if node is None or node.id == "scalar":
        return
    pairs: list[tuple[Any, Any]] = node.value if node.id == "mapping" else [(None, value) for value in node.value]
    seen: set[str] = set()
    for number, (key, value) in enumerate(pairs):
        name = number if key is None else str(key.value)
        if key is not None and name in seen and name != "<<":
            lines = [k.start_mark.line + 1 for k, _ in pairs if k.value == key.value]
            problems.add((*place, str(name)), f"key {name!r} stands twice (lines {', '.join(map(str, lines))})")
        seen.add(str(name))
        _twice(value, (*place, name), problems)


def _rooted(task: Any, root: Path) -> Any:
    if isinstance(task, Mapping) and isinstance(task.get("dataset"), str):
        return {**task, "dataset": resolved(task["dataset"], root)}
    return task
