"""`polypath datasets`: the catalogue of named data sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polypath.cli.show import AsJson, listing, number, print_json, print_tables


def datasets(as_json: AsJson = False) -> None:
    """List the named data sets: kind, target columns, sizes where they are local, where they are found, licence."""
    from polypath.data import CATALOGUE

    home = os.environ.get("POLYPATH_DATA")
    found = [_about(entry, home) for entry in CATALOGUE.values()]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            about["name"],
            about["kind"],
            _shown(about["targets"]),
            ", ".join(f"{split} {number(count)}" for split, count in about["examples"].items()) or "–",
            about["found"],
            about["licence"],
        )
        for about in found
    ]
    notes = (
        f"POLYPATH_DATA is {home}." if home else "POLYPATH_DATA is not set: it names a folder of local data sets.",
        "Own data: folder:PATH, csv:PATH, parquet:PATH, npz:PATH wherever a name is asked for.",
    )
    header = ("data set", "kind", "target columns", "examples", "found", "licence")
    print_tables(listing("Data sets", header, rows, notes))


def _about(entry: Any, home: str | None) -> dict[str, Any]:
    from polypath.core.errors import InvalidInput

    files = sorted(Path(home, entry.name).rglob("*.parquet")) if home else []
    examples: dict[str, int] = {}
    if entry.bundled:
        import sklearn.datasets

        found, examples = "bundled", {"train": len(getattr(sklearn.datasets, entry.bundled)()["target"])}
    elif files:
        found = "$POLYPATH_DATA"
        try:
            examples = _sizes(files)
        except InvalidInput as error:  # one bad set must not hide the others
            found = f"damaged in $POLYPATH_DATA: {error}"
    else:
        found = f"hub: {entry.hub}" if entry.hub else "not here; put it under $POLYPATH_DATA"
    return {
        "name": entry.name,
        "kind": entry.kind,
        "targets": dict(entry.targets),
        "groupings": list(entry.groupings),
        "examples": examples,
        "found": found,
        "hub": entry.hub,
        "licence": entry.licence,
        "remark": entry.remark,
    }


def _sizes(files: list[Path]) -> dict[str, int]:
    """Stored split -> rows, from the files' footers.

    Raises:
        InvalidInput: a file is no parquet file, or none is a known split.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from polypath.core.errors import InvalidInput
    from polypath.data.tabular import by_split

    try:
        groups = by_split(files).items()
        return {split: sum(pq.read_metadata(file).num_rows for file in group) for split, group in groups}
    except pa.ArrowInvalid as error:
        raise InvalidInput(str(error)) from error


def _shown(targets: Mapping[str, str]) -> str:
    """Columns by kind; of many only the first."""
    kinds: dict[str, list[str]] = {}
    for column, kind in targets.items():
        kinds.setdefault(kind, []).append(column)
    parts = []
    for kind, names in kinds.items():
        some = ", ".join(names if len(names) <= 4 else [*names[:2], f"and {len(names) - 2} more"])
        parts.append(f"{some} ({kind})")
    return ", ".join(parts)
