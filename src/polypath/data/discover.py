"""What lies in a folder that could be tasks: folders of images, tables, texts and archives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from polypath.core.errors import InvalidInput, PolypathError
from polypath.data import images
from polypath.data.column_kinds import MOST_CLASSES, names_images
from polypath.data.columns import MISSING
from polypath.data.rows import NAMES
from polypath.data.sources import TABLES, open_tables
from polypath.data.tabular import Tables, split_of

Kind = Literal["images", "rows", "texts", "archive"]
Role = Literal["images", "text", "number", "category", "split", "group", "name", "other"]

DEPTH = 4  # folders below the given one that are looked into
SAMPLE = 40  # images whose size is read
TARGETS = re.compile(
    r"(^|_)(target|label|labels|class|category|outcome|diagnosis|species|sentiment|survived|churn|default|sold|price|"
    r"score|rating|quality|y)$",
    re.IGNORECASE,
)
IDS = re.compile(r"(^|_)(id|ids|index|key|uuid|nr|no)$|^unnamed|^$", re.IGNORECASE)
GROUPS = re.compile(r"(patient|subject|person|user|owner|site|hospital|group|session|family)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """One data set in the folder.

    Args:
        kind: of its inputs.
        tasks: settings of the tasks that were guessed.
        remarks: sentences for comments.
        shape: what must agree where layers are to be shared; sets that agree can be in one file.
        settings: of images, which all sets of a file must have in common.
        rows: examples, without a stored test split.
        classes: the most that any of its tasks has; 0 where it is not known.
    """

    kind: Kind
    tasks: tuple[dict[str, Any], ...]
    remarks: tuple[str, ...] = ()
    shape: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    classes: int = 0


@dataclass(frozen=True)
class _Seen:
    """What one reading of a column tells.

    Args:
        role: what it could be for.
        different: values, empty cells left out.
        missing: cells without one.
        regression: whether it is a target in numbers.
    """

    role: Role
    different: int
    missing: int
    regression: bool


def discover(folder: Path) -> list[Found]:
    """Data sets in a folder, those of images first.

    Raises:
        InvalidInput: it is no folder, or holds nothing that could be a task.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: is not a folder")
    found = [*_image_sets(folder, folder, DEPTH), *_table_sets(folder), *_archives(folder)]
    if not found:
        raise InvalidInput(
            f"{folder}: nothing found that could be a task: no folder with one sub-folder of images a class, no .csv "
            "or .parquet file with a column to learn, no .npz archive"
        )
    return found


def _image_sets(folder: Path, root: Path, depth: int) -> Iterator[Found]:
    """Folders with one sub-folder of images a class, perhaps below train/, val/ and test/."""
    inner = _folders(folder)
    top = next((child for child in inner if child.name == "train"), folder)
    classes = [child for child in _folders(top) if _images(child)]
    if len(classes) >= 2:
        yield _image_set(folder, root, classes)
        return
    for child in inner if depth else ():
        yield from _image_sets(child, root, depth - 1)


def _folders(folder: Path) -> list[Path]:
    """Sub-folders in order; not hidden ones, and not what polypath itself wrote."""
    own = ("manifest.json", "run.json")
    children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [child for child in children if not any((child / name).exists() for name in own)]


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in images.SUFFIXES)


def _image_set(folder: Path, root: Path, classes: Sequence[Path]) -> Found:
    files = [file for child in classes for file in _images(child)[: max(SAMPLE // len(classes), 1)]]
    shapes, broken = set(), 0
    for number in range(len(files)):
        try:
            shapes.add(images.Files(tuple(files)).native(number))
        except InvalidInput:
            broken += 1
    names = ", ".join(child.name for child in classes[:8]) + (", ..." if len(classes) > 8 else "")
    remarks = [f"{len(classes)} classes: {names}"]
    settings: dict[str, Any] = {}
    if broken:
        remarks.append(f"{broken} of {len(files)} images that were looked at cannot be read, so they are left out")
        settings["on_error"] = "skip"
    if shapes:
        sides = sorted({(height, width) for _, height, width in shapes})
        shown = " to ".join(
            f"{height} x {width}" for height, width in ([sides[0], sides[-1]] if len(sides) > 1 else sides)
        )
        remarks.append(f"pixels: {shown}")
        settings["channels"] = max(channels for channels, _, _ in shapes)
        settings["size"] = list(sides[0]) if len(sides) == 1 else None
    place = folder.relative_to(root).as_posix()
    task = {"name": folder.resolve().name, "dataset": f"folder:{place}"}
    count = sum(len(_images(child)) for child in classes)
    return Found("images", (task,), tuple(remarks), "images", settings, count, len(classes))


def _table_sets(root: Path) -> Iterator[Found]:
    for scheme in TABLES:
        for place in _table_places(root, f".{scheme}"):
            relative = place.relative_to(root).as_posix()
            try:
                found = _table_set(open_tables(f"{scheme}:{place}"), f"{scheme}:{relative}", place)
            except PolypathError as error:
                found = Found("rows", (), (f"{relative} cannot be read: {error}",))
            if found is not None:
                yield found


def _table_places(root: Path, suffix: str) -> list[Path]:
    """Files, or folders of train and test files, that hold one table each."""
    files = [file for file in sorted(root.rglob(f"*{suffix}")) if _visible(file.relative_to(root))]
    places: dict[Path, None] = {}
    for file in files:
        siblings = [other for other in files if other.parent == file.parent]
        splits = {split_of(other.stem) for other in siblings}
        named = all(re.match(r"(train|valid|val|dev|test)", other.stem, re.IGNORECASE) for other in siblings)
        places[file.parent if len(splits) > 1 and named and file.parent != root else file] = None
    return list(places)


def _visible(relative: Path) -> bool:
    return len(relative.parts) <= DEPTH + 1 and not any(part.startswith(".") for part in relative.parts)


def _table_set(tables: Tables, dataset: str, place: Path) -> Found | None:
    seen = {name: _seen(tables, name) for name in tables.names}
    roles = {name: one.role for name, one in seen.items()}
    possible = [name for name, one in seen.items() if one.role in ("number", "category") and one.different > 1]
    targets = [name for name in possible if TARGETS.search(name)] or possible[-1:]
    if not targets:
        return None
    inputs, kind = _inputs(roles, targets)
    if not inputs:
        return None
    split = [name for name, role in roles.items() if role == "split"]
    common = {"dataset": dataset, "inputs": inputs if len(inputs) > 1 else inputs[0]}
    common |= {"split_column": split[0]} if split else {}
    tasks = []
    for target in targets:
        name = place.stem if len(targets) == 1 else target
        tasks.append({"name": name.strip() or "task", **common, "target": target})
    sizes = [0 if seen[name].regression else seen[name].different for name in targets]
    remarks = tuple(_remarks(tables, seen, targets, inputs))
    shape = kind if kind == "images" else dataset
    return Found(kind, tuple(tasks), remarks, shape, {}, len(tables.parts["train"]), max(sizes))


def _inputs(roles: dict[str, Role], targets: Sequence[str]) -> tuple[list[str], Kind]:
    rest = {name: role for name, role in roles.items() if name not in targets}
    pictures = [name for name, role in rest.items() if role == "images"]
    if pictures:
        return pictures[:1], "images"
    texts = [name for name, role in rest.items() if role == "text"]
    rows = [name for name, role in rest.items() if role in ("number", "category")]
    if texts and len(rows) <= 1:
        return texts[:1], "texts"
    return rows, "rows"


def _remarks(tables: Tables, seen: dict[str, _Seen], targets: Sequence[str], inputs: Sequence[str]) -> Iterator[str]:
    roles = {name: one.role for name, one in seen.items()}
    count = sum(len(part) for part in tables.parts.values())
    yield f"{count:,} rows"
    for name in targets:
        lost = seen[name].missing
        what = "a number" if seen[name].regression else f"{seen[name].different} classes"
        yield f"target {name}: {what}" + (f"; {lost} rows have no value there and are left out" if lost else "")
    for name in inputs:
        if tables.types[name] == "number" and (lost := seen[name].missing):
            yield f"column {name} has gaps, which is refused: {lost} of {count:,} rows have no number there"
            yield "  fill them, or let them be read as the mean of the training rows by missing_inputs: mean"
    other = [name for name, role in roles.items() if name in inputs and role in ("number", "category")]
    if other:
        yield f"could be targets too: {', '.join(other)}"
    unused = [
        f"{name} ({roles[name]})" for name in tables.names if name not in (*targets, *inputs) and roles[name] != "split"
    ]
    if unused:
        yield f"not used: {', '.join(unused)}"
    for name, role in roles.items():
        if role == "group":
            yield f"group_column: {name} would keep equal values of {name} together in train or test"


def _seen(tables: Tables, name: str) -> _Seen:
    kind = tables.types[name]
    if kind not in ("string", "number", "image"):
        return _Seen("other", 0, 0, False)
    held = None if kind == "image" else tables.read(name)
    if held is None or (kind == "string" and names_images(held)):
        return _Seen("images", 0, 0, False)
    cells = [cell for cell in held.to_pylist() if cell is not None and cell == cell and cell not in MISSING]
    role = _role(name, kind, cells)
    different = {cell for cell in cells if str(cell).strip()}
    fractions = any(isinstance(cell, float) for cell in cells)
    regression = role == "number" and (fractions or len(different) > MOST_CLASSES)
    missing = len(held) - len(cells) + sum(not str(cell).strip() for cell in cells)
    return _Seen(role, len(different), missing, regression)


def _role(name: str, kind: str, cells: Sequence[Any]) -> Role:
    """What a column of texts or numbers could be for; `cells` are those with a value."""
    words = [str(cell) for cell in cells]
    different, count = len(set(words)), max(len(cells), 1)
    if kind == "string" and {word.strip().lower() for word in words} <= {w for known in NAMES.values() for w in known}:
        return "split"
    if GROUPS.search(name) and 2 < different < 0.7 * count:
        return "group"
    if IDS.search(name) and different > 0.5 * count:
        return "name"
    if kind == "number":
        return "number"
    if different > max(count // 4, 2):
        spoken = sum(len(word.split()) for word in words) / count
        return "text" if spoken >= 3 else "name"
    return "category"


def _archives(root: Path) -> Iterator[Found]:
    for file in sorted(root.rglob("*.npz")):
        if _visible(file.relative_to(root)):
            place = file.relative_to(root).as_posix()
            yield Found("archive", ({"name": file.stem, "dataset": f"npz:{place}"},), (), f"npz:{place}")
