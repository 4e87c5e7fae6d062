"""CSV files with a header line as arrow tables; what is not UTF-8 is refused, and rows are told by their line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput

REMEDY = "not UTF-8: save it as UTF-8 (in Excel: CSV UTF-8)"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how Excel's "Unicode text" begins


def read(file: Path) -> Any:
    """The file as a pyarrow Table.

    Raises:
        InvalidInput: not in UTF-8; names the file, and the column where it is not the header.
        ArrowInvalid, OSError: it cannot be read.
    """
    from pyarrow import csv, types

    with file.open("rb") as opened:
        if opened.read(2) in UTF_16:
            raise InvalidInput(f"{file}: {REMEDY}")
    table = csv.read_csv(file)
    try:
        names = table.column_names
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: the header is {REMEDY}") from error
    # A column whose bytes are no text is read as bytes, as if it held images.
    bad = [name for name, kind in zip(names, table.schema.types, strict=True) if types.is_binary(kind)]
    if bad:
        raise InvalidInput(f"{file}: column {', '.join(map(repr, bad))} is {REMEDY}")
    return table


def line_of(row: int, groups: Mapping[str, Sequence[Path]], counts: Mapping[Path, int]) -> str:
    """Where a row stands, the header of its file being line 1: "line 3", with the file's name where there are several.

    Args:
        row: from 0, over all files one after the other.
        groups: files of every stored split.
        counts: rows of every file.
    """
    files = [file for group in groups.values() for file in group]
    for file in files:
        if row < counts[file]:
            said = f"line {_line(file, row)}"
            return said if len(files) == 1 else f"{said} of {file.name}"
        row -= counts[file]
    raise IndexError(row)


def _line(file: Path, row: int) -> int:
    """Line of a row: empty lines hold none."""
    with file.open("rb") as opened:
        filled = [number for number, line in enumerate(opened, start=1) if line.strip(b"\r\n")]
    return filled[row + 1]
