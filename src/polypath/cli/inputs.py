"""What `polypath predict` is asked about: files and folders read one input after the other, errors with their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polypath.core.task import Task

ARRAYS = (".npy", ".npz")
TABLES = (".csv", ".parquet")
KEYS = ("inputs", "images", "x", "X", "x_test", "arr_0")  # keys of an archive that are taken for the inputs
CHUNK = 256  # rows of a table that are read at once


@dataclass(frozen=True)
class Given:
    """One input.

    Args:
        name: of the file, with the row where it holds several.
        value: decoded, as `System.predict` takes it; None where it could not be read.
        error: why not.
    """

    name: str
    value: Any = None
    error: str | None = None


def files_of(paths: Sequence[Path], task: Task) -> list[Path]:
    """The files that paths stand for; folders give those below them that the task can read, in order.

    Raises:
        InvalidInput: a folder holds none.
    """
    from polypath.core.errors import InvalidInput
    from polypath.data.images import SUFFIXES

    suffixes = {"image": SUFFIXES, "text": (".txt",), "table": TABLES}[task.preprocess.kind]
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        below = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
        if not below:
            raise InvalidInput(f"{path}: is a folder without a file that the task reads ({', '.join(suffixes)})")
        found += below
    return found


def given(file: Path, task: Task, column: str | None = None, recorded: Sequence[str] = ()) -> Iterator[Given]:
    """Every input of a file; what cannot be read is named and does not end the others.

    Args:
        file: an image, a text, an array, a table.
        task: who is asked.
        column: of a table that holds texts, or images and their paths; None: the one the task learned from.
        recorded: input columns the task learned from, where that is known.
    """
    from polypath.core.errors import InvalidInput

    try:
        if file.suffix.lower() in TABLES:
            yield from _rows(file, task, column, recorded)
        else:
            yield from _whole(file, task)
    except InvalidInput as error:
        text = str(error)
        yield Given(str(file), error=text if str(file) in text else f"{file}: {text}")


def read(file: Path, task: Task) -> Iterator[tuple[str, Any]]:
    """(name, decoded input) of everything in a file; a file of several inputs numbers them from 0.

    Raises:
        InvalidInput: the file cannot be read or does not fit the task; names the file.
    """
    from polypath.core.errors import InvalidInput

    for one in given(file, task):
        if one.error is not None:
            raise InvalidInput(one.error)
        yield one.name, one.value


def _whole(file: Path, task: Task) -> Iterator[Given]:
    """An image, a text or the rows of an array."""
    from polypath.core.errors import InvalidInput

    if not file.is_file():
        raise InvalidInput(f"{file}: {'is a folder; name files' if file.is_dir() else 'does not exist'}")
    kind = task.preprocess.kind
    if kind == "text":
        try:
            yield Given(str(file), file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{file}: is no text in UTF-8 ({error.reason})") from error
        return
    if file.suffix.lower() not in ARRAYS and kind == "table":
        raise InvalidInput(f"{file}: a .csv, .npy or .npz file is required for a task on tables, or a .parquet file")
    if file.suffix.lower() in ARRAYS:
        yield from _entries(task, _array(file), file)
        return
    for one in task.preprocess.decode(file):
        yield Given(str(file), one)


def _entries(task: Task, held: Any, file: Path) -> Iterator[Given]:
    """The inputs in an array; those that cannot be read are named where others can."""
    from polypath.core.errors import InvalidInput

    try:
        found = [Given(str(file), one) for one in task.preprocess.decode(held)]
    except InvalidInput:
        found = [_alone(task, one, f"{file}[{number}]") for number, one in enumerate(_apart(task, held))]
        if all(one.error is not None for one in found):
            raise
    else:
        if len(found) > 1:
            found = [Given(f"{file}[{number}]", one.value) for number, one in enumerate(found)]
    yield from found


def _apart(task: Task, held: Any) -> Sequence[Any]:
    """The inputs of an array that holds several; none where it is one input, or has the shape of nothing."""
    preprocess = task.preprocess
    if held.ndim == (2 if preprocess.kind == "table" else 4):
        return [held[place : place + 1] for place in range(len(held))]
    grey = preprocess.kind == "image" and preprocess.channels == 1 and held.ndim == 3
    return list(held) if grey and 1 not in (held.shape[0], held.shape[-1]) else []


def _alone(task: Task, value: Any, name: str) -> Given:
    """One input, decoded by itself."""
    from polypath.core.errors import InvalidInput

    try:
        return Given(name, task.preprocess.decode(value)[0])
    except InvalidInput as error:
        return Given(name, error=of_one(name, error))


def of_one(name: str, error: Exception) -> str:
    """What is wrong with one input: the name says which it is, so that the message need not count within it."""
    text = str(error)
    for counted, plain in (
        (" in row 0,", " in"),
        (", row 0 holds", " holds"),
        (" in row(s) [0]", ""),
        (" in image(s) [0]", ""),
    ):
        text = text.replace(counted, plain)
    return f"{name}: {text}"


def _array(file: Path) -> Any:
    import numpy as np

    from polypath.core.errors import InvalidInput

    try:
        with file.open("rb") as handle:  # ours to close: NumPy leaves a damaged archive open
            held = np.load(handle, allow_pickle=False)
            if isinstance(held, np.ndarray):
                return held
            keys = [key for key in KEYS if key in held] or (list(held) if len(held.files) == 1 else [])
            if not keys:
                raise InvalidInput(
                    f"{file}: one array, or one named {', '.join(KEYS)}, is required; found {held.files}"
                )
            return held[keys[0]]
    except InvalidInput:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own for damaged files
        raise InvalidInput(f"{file}: cannot be read as NumPy arrays: {error}") from error


def _rows(file: Path, task: Task, column: str | None, recorded: Sequence[str]) -> Iterator[Given]:
    """The rows of a table, some at a time; a row that does not fit is named and the next one follows."""
    from polypath.core.errors import InvalidInput

    if not file.is_file():
        raise InvalidInput(f"{file}: {'is a folder; name files' if file.is_dir() else 'does not exist'}")
    start, checked = 0, False
    for chunk in _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file):
        if isinstance(chunk, str):  # why one row cannot be read
            yield Given(f"{file}[{start}]", error=chunk)
            start += 1
            continue
        if not checked:
            _check_columns(file, task, list(chunk), column, recorded)
            checked = True
        size = len(next(iter(chunk.values())))
        names = [f"{file}[{row}]" for row in range(start, start + size)]
        if task.preprocess.kind == "table":
            yield from _table_rows(task, chunk, names)
        else:
            yield from _cells(task, chunk[_column(list(chunk), column, recorded)], names, file.parent)
        start += size
    if start == 0:
        raise InvalidInput(f"{file}: a header line with column names and at least one row are required")


def _check_columns(file: Path, task: Task, names: list[str], column: str | None, recorded: Sequence[str]) -> None:
    from polypath.core.errors import InvalidInput

    if task.preprocess.kind == "table":
        missing = [name for name in task.preprocess.columns if name not in names]
        if missing:
            raise InvalidInput(f"{file}: column(s) {missing} missing; the file has {names}")
    elif _column(names, column, recorded) not in names:
        wanted = f"no column {column!r}" if column else "name the column of the inputs by --column"
        raise InvalidInput(f"{file}: {wanted}; the file has {names}")


def _column(names: list[str], column: str | None, recorded: Sequence[str]) -> str:
    """The column of inputs: as asked for, as recorded, the only one; else none."""
    if column is not None:
        return column
    if len(recorded) == 1 and recorded[0] in names:
        return recorded[0]
    return names[0] if len(names) == 1 else ""


def _table_rows(task: Task, chunk: dict[str, Sequence[Any]], names: list[str]) -> Iterator[Given]:
    from polypath.core.errors import InvalidInput

    try:
        decoded = task.preprocess.decode(chunk)
    except InvalidInput:
        decoded = None
    if decoded is not None:
        yield from (Given(name, row) for name, row in zip(names, decoded, strict=True))
        return
    for number, name in enumerate(names):
        yield _alone(task, {key: [values[number]] for key, values in chunk.items()}, name)


def _cells(task: Task, cells: Sequence[Any], names: list[str], root: Path) -> Iterator[Given]:
    """Texts, paths of images, or images as bytes."""
    import io

    from polypath.core.errors import InvalidInput

    for name, cell in zip(names, cells, strict=True):
        held = cell.get("bytes") or cell.get("path") if isinstance(cell, dict) else cell
        try:
            if held is None or held == "":
                raise InvalidInput("nothing is in this cell")
            if task.preprocess.kind == "text":
                yield Given(name, str(held))
            elif isinstance(held, bytes):
                yield Given(name, task.preprocess.decode(_picture(io.BytesIO(held)))[0])
            else:
                yield Given(name, task.preprocess.decode(root / str(held))[0])
        except InvalidInput as error:
            yield Given(name, error=f"{name}: {error}")


def _picture(content: Any) -> Any:
    from PIL import Image

    from polypath.core.errors import InvalidInput
    from polypath.data.images import unreadable

    try:
        image = Image.open(content)
        image.load()
        return image
    except unreadable() as error:
        said = str(error).partition(" <_io")[0]  # Pillow names the object in memory
        raise InvalidInput(f"image cannot be read: {said}") from error


def _csv(file: Path) -> Iterator[dict[str, Sequence[Any]] | str]:
    """Columns of some rows at a time, as texts; for a row of another length than the header, what is wrong with it."""
    import csv

    from polypath.core.errors import InvalidInput
    from polypath.data.csv_files import REMEDY, check_header

    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.reader(opened, strict=True)
            header = next(reader, [])
            check_header(file, header)
            rows: list[list[str]] = []

            def columns() -> Iterator[dict[str, Sequence[Any]]]:
                if rows:
                    yield dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
                    rows.clear()

            for row in reader:
                if row and len(row) != len(header):
                    yield from columns()
                    cells = f"{len(row)} cell(s), and the header has {len(header)} columns"
                    yield f"{file}: line {reader.line_num} has {cells}"
                    continue
                rows += [row] if row else []
                if len(rows) == CHUNK:
                    yield from columns()
            yield from columns()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: {REMEDY}") from error
    except csv.Error as error:
        raise InvalidInput(f"{file}: cannot be read as CSV: {error}") from error


def _parquet(file: Path) -> Iterator[dict[str, Sequence[Any]]]:
    """Columns of some rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from polypath.core.errors import InvalidInput

    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=CHUNK):
                yield batch.to_pydict()
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInput(f"{file}: cannot be read as parquet: {error}") from error
