"""Parquet files, CSV files and the hub: columns of a table, read when they are needed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache as memo
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from polypath.core.errors import InvalidInput, UnknownName
from polypath.data import cache, cells, csv_files, images
from polypath.data.catalogue import Entry
from polypath.data.columns import DataSet, Missing, MissingInputs


@dataclass(frozen=True)
class Tables:
    """The columns of a set, all stored splits one after the other.

    Args:
        name: for messages and cache files.
        parts: stored split -> its rows.
        types: column name -> image, string, number or another type's name.
        read: one column as a pyarrow ChunkedArray.
        labels: class names that the files carry.
        key: stamp of the files; None where there are none.
        root: folder that relative image paths start from.
        place: how the place of a row (from 0) is told.
    """

    name: str
    parts: Mapping[str, range]
    types: Mapping[str, str]
    read: Callable[[str], Any]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    key: object | None = None
    root: Path = Path()
    place: Callable[[int], str] = "row {}".format

    @property
    def names(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(self.types)

    def require(self, name: str) -> str:
        """The name, where there is such a column.

        Raises:
            UnknownName: there is not; offers the nearest.
        """
        if name not in self.names:
            raise UnknownName(f"column of {self.name}", name, self.names)
        return name

    def complete(self, name: str) -> Any:
        """A column without missing values.

        Raises:
            InvalidInput: values are missing.
        """
        values = self.read(self.require(name))
        if values.null_count:
            first = self.place(values.is_null().to_pylist().index(True))
            raise InvalidInput(
                f"{self.name}: column {name!r} has {values.null_count} missing value(s), the first in {first}; "
                "fill them or leave these rows out"
            )
        return values


def split_of(stem: str) -> str:
    """The stored split a file belongs to: `train-00000-of-00001` and `train` are train; any other name is train."""
    word = stem.split("-")[0].split("_")[0].lower()
    return {"valid": "validation", "val": "validation", "dev": "validation"}.get(
        word, word if word in ("train", "test", "validation") else "train"
    )


def by_split(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files of every stored split, training first."""
    found: dict[str, list[Path]] = {}
    for file in sorted(files):
        found.setdefault(split_of(file.stem), []).append(file)
    order = ("train", "validation", "test")
    return {split: found[split] for split in order if split in found}


def from_parquet(files: Sequence[Path], name: str) -> Tables:
    """Tables over parquet files in the hub's layout (`<split>-*.parquet`)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = by_split(files)
    flat = [file for group in groups.values() for file in group]
    try:
        metas = {file: pq.read_metadata(file) for file in flat}
        schema = pq.read_schema(flat[0])
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInput(f"{name}: a parquet file cannot be read: {error}") from error
    counts = {split: sum(metas[file].num_rows for file in group) for split, group in groups.items()}

    def read(column: str) -> Any:
        return pa.chunked_array(
            [chunk for file in flat for chunk in pq.read_table(file, columns=[column]).column(column).chunks],
            type=schema.field(column).type,
        )

    labels = _labels(json.loads((schema.metadata or {}).get(b"huggingface", b"{}")))
    root = flat[0].parent
    return Tables(name, _parts(counts), _types(schema), read, labels, cache.stamp(flat), root)


def from_csv(files: Sequence[Path], name: str) -> Tables:
    """Tables over CSV files with a header line (`train.csv`, `test.csv`, or one file)."""
    import pyarrow as pa

    groups = by_split(files)
    flat = [file for group in groups.values() for file in group]
    try:
        read = {file: csv_files.read(file) for file in flat}
        tables = {split: pa.concat_tables([read[file] for file in group]) for split, group in groups.items()}
        whole = pa.concat_tables(tables.values(), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise InvalidInput(f"{name}: a CSV file cannot be read: {error}") from error
    counts = {split: table.num_rows for split, table in tables.items()}
    place = partial(csv_files.line_of, groups=groups, counts={file: table.num_rows for file, table in read.items()})
    key, root = cache.stamp(flat), flat[0].parent
    return Tables(name, _parts(counts), _types(whole.schema), whole.column, {}, key, root, place)


def from_hub(entry: Entry) -> Tables:
    """Tables over the hub's copy, downloaded by the datasets library and kept in its own cache."""
    import datasets
    import pyarrow as pa

    if entry.hub is None:
        raise InvalidInput(
            f"data set {entry.name!r} is not published on the hub: put its parquet files under "
            f"$POLYPATH_DATA/{entry.name}/ (POLYPATH_DATA is {os.environ.get('POLYPATH_DATA', 'not set')!r})"
        )
    try:
        loaded = datasets.load_dataset(entry.hub)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise InvalidInput(
            f"data set {entry.name!r} cannot be loaded from the hub ({entry.hub}): {error}. Without a network, put its "
            f"parquet files under $POLYPATH_DATA/{entry.name}/"
        ) from error
    renamed = {"valid": "validation", "val": "validation"}
    known = {renamed.get(split, split): part for split, part in loaded.items()}
    parts = {split: known[split] for split in ("train", "validation", "test") if split in known}
    # Undecoded: images stay bytes, so that one code path serves the hub and local files.
    whole = pa.concat_tables([part.with_format("arrow")[:] for part in parts.values()], promote_options="permissive")
    features = next(iter(parts.values())).features
    labels = {name: tuple(f.names) for name, f in features.items() if isinstance(f, datasets.ClassLabel)}
    files = [Path(file["filename"]) for part in parts.values() for file in part.cache_files]
    key = cache.stamp(files) if files else None
    counts = {split: part.num_rows for split, part in parts.items()}
    return Tables(entry.name, _parts(counts), _types(whole.schema), whole.column, labels, key)


def as_dataset(
    tables: Tables,
    shape: images.Shape,
    inputs: Sequence[str] | None,
    target: str | None,
    entry: Entry | None = None,
    categorical: Sequence[str] = (),
    missing: Missing = "refuse",
    missing_inputs: MissingInputs = "refuse",
    named: Collection[str] = (),
) -> DataSet:
    """The data set whose inputs are the named column(s).

    Args:
        tables: the columns.
        shape: of images.
        inputs: input columns; None: the catalogue's, else found from the types of the columns.
        target: default target column.
        entry: catalogue entry.
        categorical: input columns of numbers that are categories; columns of texts are, among several.
        missing: what happens to missing values of targets.
        missing_inputs: what happens to missing numbers of inputs.
        named: words that are classes, where they would be taken for missing values of targets.
    """
    if entry is not None:
        inputs = inputs or entry.inputs or [name for name in tables.names if name not in entry.targets]
        target = target or next(iter(entry.targets))
        labels = {**tables.labels, **{name: v for name, v in entry.labels.items() if name not in tables.labels}}
    else:
        labels = dict(tables.labels)
        if target is not None:
            tables.require(target)
        inputs = inputs or _found_inputs(tables, target)
    inputs = [tables.require(name) for name in inputs]
    words = named if entry is None else None
    targets = {
        name: memo(partial(cells.target, tables, name, labels.get(name), _classed(entry, name), missing, words))
        for name in tables.names
        if name not in inputs
    }
    common: dict[str, Any] = {
        "name": tables.name,
        "parts": tables.parts,
        "targets": targets,
        "entry": entry,
        "default_target": target,
    }
    for name in categorical:
        if name not in inputs:
            raise UnknownName("input column of categorical", name, inputs)
    kind = "table" if categorical else _kind(tables, inputs)
    if kind == "text":
        texts = tables.complete(inputs[0]).to_pylist()
        return DataSet(kind="text", texts=texts, hashes=memo(lambda: _text_hashes(texts)), **common)
    if kind == "table":
        rows, categories = cells.features(tables, inputs, categorical, missing_inputs)
        return DataSet(
            kind="table",
            source=rows,
            columns=tuple(inputs),
            categories=categories,
            hashes=memo(lambda: images.source_hashes(rows)),
            **common,
        )
    return _image_set(tables, inputs[0], shape, common)


def _parts(counts: Mapping[str, int]) -> dict[str, range]:
    parts, start = {}, 0
    for split, count in counts.items():
        parts[split] = range(start, start + count)
        start += count
    return parts


def _labels(stored: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    features = stored.get("info", {}).get("features", {})
    return {name: tuple(f["names"]) for name, f in features.items() if f.get("_type") == "ClassLabel"}


def _types(schema: Any) -> dict[str, str]:
    """What each column holds: image, string, number or the name of another type."""
    import pyarrow.types as types

    def of(kind: Any) -> str:
        if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            return "image"
        if types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
            return "string"
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind):
            return "number"
        return str(kind)

    return {field.name: of(field.type) for field in schema}


def _found_inputs(tables: Tables, target: str | None) -> list[str]:
    rest = [name for name in tables.names if name != target]
    kinds = {name: tables.types[name] for name in rest}
    pictures = [name for name in rest if kinds[name] == "image"]
    if len(pictures) == 1:
        return pictures
    strings = [name for name in rest if kinds[name] == "string"]
    if target is not None and rest and all(kind == "number" for kind in kinds.values()):
        return rest
    if len(strings) == 1 and (target is not None or len(rest) == 2):
        return strings
    raise InvalidInput(
        f"{tables.name}: name the input column(s) and the target; columns: "
        + ", ".join(f"{name} ({tables.types[name]})" for name in tables.names)
    )


def _kind(tables: Tables, inputs: Sequence[str]) -> str:
    if len(inputs) == 1 and tables.types[inputs[0]] == "image":
        return "image"
    if len(inputs) == 1 and tables.types[inputs[0]] == "string":
        first = str(tables.read(inputs[0])[0])
        return "image" if first.lower().endswith(images.SUFFIXES) else "text"
    return "table"


def _classed(entry: Entry | None, name: str) -> bool:
    return entry is not None and entry.targets.get(name) == "classification"


def _text_hashes(texts: Sequence[str]) -> np.ndarray:
    return images.hashes((text.encode() for text in texts), len(texts))


def _image_set(tables: Tables, column: str, shape: images.Shape, common: dict[str, Any]) -> DataSet:
    name = tables.name
    key: object | None = None if tables.key is None else [tables.key, column]
    keep: Callable[[], images.Encoded] | None = None
    if tables.types[column] == "string":
        files = _encoded(tables, column)
        assert isinstance(files, images.Files)
        key = files.stamp(absent=shape.on_error == "skip")
        good = images.readable(files, name, key) if shape.on_error == "skip" else None
        native = files.native(0 if good is None else int(good.argmax()))

        def load() -> images.Encoded:
            return files
    else:

        def load() -> images.Encoded:
            return _encoded(tables, column)

        good = images.readable(load(), name, key) if shape.on_error == "skip" else None
        first = 0 if good is None else int(good.argmax())
        if key is None:
            native = load().native(first)
        else:
            seen = ["native", key, *([first] if first else [])]
            found = cache.cached(f"{name}-native", seen, lambda: np.array(load().native(first)))
            native = (int(found[0]), int(found[1]), int(found[2]))
            keep = partial(_kept, load, name, key)
    source, fitted = images.source(native, load, shape, name, key, keep, good)
    bad = [] if good is None or good.all() else list(map(load().name, np.flatnonzero(~good).tolist()))
    return DataSet(
        kind="image",
        source=source,
        pixels=fitted,
        readable=good,
        unreadable=tuple(bad),
        hashes=images.remembered_hashes(source, fitted, name, key),
        **common,
    )


def _kept(load: Callable[[], images.Encoded], name: str, key: object) -> images.Encoded:
    """Encoded images as memory maps, for sets too large to be decoded once."""
    found = memo(load)

    def part(which: str) -> np.ndarray:
        # an empty array stands for images that are files of their own
        return cache.cached(f"{name}-{which}", [which, key], lambda: getattr(found(), which, np.zeros(0, np.int64)))

    offsets = part("offsets")
    return images.Blob(part("content"), offsets, name) if offsets.size else found()


def _encoded(tables: Tables, column: str) -> images.Encoded:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = tables.complete(column)
    if tables.types[column] == "string":
        return images.Files(tuple(tables.root / str(value) for value in values.to_pylist()))
    if pa.types.is_struct(values.type):
        content = pc.struct_field(values, "bytes")
        if content.null_count:
            paths = pc.struct_field(values, "path").to_pylist()
            return images.Files(tuple(tables.root / str(path) for path in paths))
        values = content
    pieces, lengths = [], []
    for chunk in values.chunks:
        large = pa.types.is_large_binary(chunk.type)
        raw = np.frombuffer(chunk.buffers()[1], dtype=np.int64 if large else np.int32)
        edges = raw[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
        pieces.append(np.frombuffer(chunk.buffers()[2], dtype=np.uint8)[edges[0] : edges[-1]])
        lengths.append(np.diff(edges))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return images.Blob(np.concatenate(pieces), offsets, tables.name)
