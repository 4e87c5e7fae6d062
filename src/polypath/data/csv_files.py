"""CSV files with a header line as arrow tables; what is not UTF-8 is refused, and rows are told by their line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from polypath.core.errors import InvalidInput
from polypath.data.columns import MISSING

REMEDY = "not UTF-8: save it as UTF-8 (in Excel: CSV UTF-8)"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how Excel's "Unicode text" begins


def read(file: Path) -> Any:
    """The file as a pyarrow Table.

    Raises:
        InvalidInput: not in UTF-8 (names the column where it is not the header), a name twice in the header, columns
            that are not separated by commas.
        ArrowInvalid, OSError: it cannot be read.
    """
    from pyarrow import csv as arrow
    from pyarrow import types

    with file.open("rb") as opened:
        if opened.read(2) in UTF_16:
            raise InvalidInput(f"{file}: {REMEDY}")
    nothing = [*arrow.ConvertOptions().null_values, *MISSING]  # among numbers; a column of texts keeps its texts
    table = arrow.read_csv(file, convert_options=arrow.ConvertOptions(null_values=nothing))
    try:
        names = table.column_names
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: the header is {REMEDY}") from error
    check_header(file, names)
    # A column whose bytes are no text is read as bytes, as if it held images.
    bad = [name for name, kind in zip(names, table.schema.types, strict=True) if types.is_binary(kind)]
    if bad:
        raise InvalidInput(f"{file}: column {', '.join(map(repr, bad))} is {REMEDY}")
    return table


def check_header(file: Path, names: Sequence[str]) -> None:
    """Refuse a header that does not say which column is which.

    Args:
        file: for the message.
        names: the header.

    Raises:
        InvalidInput: a name twice, one name that holds other separators.
    """
    twice = ", ".join(repr(name) for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InvalidInput(f"{file}: the header names column {twice} twice; give each column its own name")
    other = next((mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]), None)
    if other:
        raise InvalidInput(f"{file}: columns are separated by {other!r}; save it with commas between them")


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
            line = _line(file, row)
            said = f"row {row}" if line is None else f"line {line}"
            return said if len(files) == 1 else f"{said} of {file.name}"
        row -= counts[file]
    raise IndexError(row)


def _line(file: Path, row: int) -> int | None:
    """Line that a row begins in: empty lines hold none, and a quoted cell may go over several.

    None where Python's reader stops before it: it takes no cell of more than 131,072 characters, arrow's does.
    """
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as opened, suppress(csv.Error):
        reader = csv.reader(opened)
        last, filled = 0, -1  # the header is no row
        for cells in reader:
            if cells and filled == row:
                return last + 1
            filled += 1 if cells else 0
            last = reader.line_num
    return None
