"""One entrance for everything that examples can come from: `open_source`."""

from __future__ import annotations

import glob
import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polypath.core.errors import InvalidInput, nearest
from polypath.data import archives, images, tabular
from polypath.data.catalogue import CATALOGUE, Entry, entry
from polypath.data.columns import DataSet, Missing, MissingInputs, coded
from polypath.data.given import from_arrays, from_torch

TABLES: dict[str, Callable[[Sequence[Path], str], tabular.Tables]] = {
    "csv": tabular.from_csv,
    "parquet": tabular.from_parquet,
}
SCHEMES = ("folder", *TABLES, "npz")  # of `SCHEME:PATH`


def open_source(
    spec: Any,
    *,
    inputs: str | Sequence[str] | None = None,
    target: str | None = None,
    shape: images.Shape | None = None,
    root: Path | str = ".",
    categorical: Sequence[str] = (),
    missing: Missing = "refuse",
    missing_inputs: MissingInputs = "refuse",
    named: Collection[str] = (),
    tables: tabular.Tables | None = None,
) -> DataSet:
    """The data set that `spec` names or is.

    Args:
        spec: a catalogue name; `folder:PATH` (one sub-folder a class, optionally below train/, val/, test/);
            `csv:PATH`, `parquet:PATH` (a file, a folder of `<split>*` files, or a pattern); `npz:PATH` (also a pattern
            or several paths with commas); an (inputs, targets) pair of arrays or tensors; a mapping of stored split
            to such a pair; a torch Dataset, or a mapping of stored split to one.
        inputs: input column(s), for csv and parquet.
        target: default target column, for csv and parquet.
        shape: what images are brought to.
        root: folder that relative paths start from.
        categorical: input columns of numbers that are categories, for csv and parquet.
        missing: what happens to missing values of targets: an empty cell, among texts a word such as NA or nan too.
        missing_inputs: what happens to missing numbers of inputs.
        named: such words that are classes, for csv and parquet.
        tables: of a csv or parquet source, where they are open already.

    Raises:
        UnknownName: no such data set, column or kind of source.
        InvalidInput: what is there cannot be read or does not fit together.
    """
    shape = shape or images.Shape()
    columns = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(spec, (str, Path)):
        if isinstance(spec, (torch.utils.data.Dataset, Mapping)) and not _is_pairs(spec):
            return from_torch(spec, shape)
        return from_arrays(spec, shape, missing_inputs=missing_inputs)
    scheme, _, path = str(spec).partition(":")
    if not path:
        return _named(entry(scheme), shape, columns, target)
    name = _name(path)
    openers: dict[str, Callable[[], DataSet]] = {
        "folder": lambda: _folder(Path(root, path), shape),
        **dict.fromkeys(
            TABLES,
            lambda: tabular.as_dataset(
                tables or open_tables(str(spec), root),
                shape,
                columns,
                target,
                None,
                categorical,
                missing,
                missing_inputs,
                named,
            ),
        ),
        "npz": lambda: archives.from_npz(_files(root, path, ".npz"), name, shape, missing, missing_inputs),
    }
    if scheme not in openers:
        close = nearest(scheme, openers)
        raise InvalidInput(
            f"source {str(spec)!r}: a catalogue name ({', '.join(CATALOGUE)}) or one of "
            f"{', '.join(name + ':PATH' for name in SCHEMES)} is required"
            + (f"; did you mean {close + ':'!r}?" if close else "")
        )
    return openers[scheme]()


def open_tables(spec: str, root: Path | str = ".") -> tabular.Tables:
    """The columns of a `csv:PATH` or `parquet:PATH`."""
    scheme, _, path = spec.partition(":")
    return TABLES[scheme](_files(root, path, f".{scheme}"), _name(path))


def _name(path: str) -> str:
    """A short name for what lies at a path or pattern: its last part that is neither a pattern nor just a split."""
    first = Path(path.split(",")[0].strip())
    plain = [part for part in (first.stem, *(parent.name for parent in first.parents)) if part and "*" not in part]
    return next((part for part in plain if tabular.split_of(part) != part), plain[0] if plain else "data")


def _is_pairs(spec: Any) -> bool:
    return isinstance(spec, Mapping) and all(isinstance(value, (tuple, list)) for value in spec.values())


def _named(known: Entry, shape: images.Shape, inputs: Sequence[str] | None, target: str | None) -> DataSet:
    if known.bundled:
        return _bundled(known, shape)
    home = os.environ.get("POLYPATH_DATA")
    files = sorted(Path(home, known.name).rglob("*.parquet")) if home else []
    tables = tabular.from_parquet(files, known.name) if files else tabular.from_hub(known)
    return tabular.as_dataset(tables, shape, inputs, target, known)


def _bundled(known: Entry, shape: images.Shape) -> DataSet:
    state = random.getstate()
    import sklearn.datasets

    random.setstate(state)  # the import draws from Python's global generator (scikit-learn 1.9)
    raw = getattr(sklearn.datasets, str(known.bundled))()
    target = next(iter(known.targets))
    if known.kind == "image":  # the digits: 8 x 8 counts of 0..16
        pixels = np.rint(raw["images"] * (255 / 16)).astype(np.uint8)
        return from_arrays((pixels, raw["target"]), shape, known.name, known.labels[target], known)
    labels = tuple(str(name) for name in raw["target_names"]) if known.targets[target] == "classification" else None
    values = np.asarray(raw["target"], dtype=np.float64 if labels is None else np.int64)
    return from_arrays(
        (np.asarray(raw["data"], dtype=np.float32), values),
        shape,
        known.name,
        labels,
        known,
        columns=[str(name) for name in raw["feature_names"]],
    )


def _files(root: Path | str, path: str, suffix: str) -> list[Path]:
    """Files that a path, a folder, a pattern or several of them with commas stand for."""
    found: list[Path] = []
    for piece in path.split(","):
        place = Path(root, piece.strip()).expanduser()
        if place.is_dir():
            found += sorted(place.rglob(f"*{suffix}"))
        elif place.is_file():
            found.append(place)
        else:
            matches = [Path(match) for match in sorted(glob.glob(str(place), recursive=True))]
            if not matches:
                raise InvalidInput(f"{suffix[1:]}:{path}: {str(place)!r} does not exist")
            found += matches
    if not found:
        raise InvalidInput(f"{suffix[1:]}:{path}: the folder holds no {suffix} file")
    return found


def _folder(path: Path, shape: images.Shape) -> DataSet:
    """One sub-folder a class, optionally below train/, val/ and test/."""
    path = path.expanduser()
    if not path.is_dir():
        raise InvalidInput(f"folder:{path}: is not a folder")
    names = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
    above = sorted((child for child in path.iterdir() if child.is_dir()), key=lambda child: child.name)
    stored = {names[child.name]: child for child in above if child.name in names}
    if "train" not in stored:
        stored = {"train": path}
    stored = {split: stored[split] for split in ("train", "validation", "test") if split in stored}
    classes = sorted({c.name for top in stored.values() for c in top.iterdir() if c.is_dir() and c.name[0] != "."})
    files: list[Path] = []
    codes: list[int] = []
    parts: dict[str, range] = {}
    for split, top in stored.items():
        start = len(files)
        for code, label in enumerate(classes):
            found = sorted(f for f in (top / label).rglob("*") if f.suffix.lower() in images.SUFFIXES)
            if not found and split == "train":
                raise InvalidInput(
                    f"folder:{path}: class {label!r} has no image in {top / label} (known endings: "
                    f"{', '.join(images.SUFFIXES)}); remove the folder or add images"
                )
            files += found
            codes += [code] * len(found)
        parts[split] = range(start, len(files))
    if not files:
        raise InvalidInput(f"folder:{path}: no images; one sub-folder with images is required for each class")
    encoded = images.Files(tuple(files))
    key = encoded.stamp()
    good = images.readable(encoded, path.name, key) if shape.on_error == "skip" else None
    native = encoded.native(0 if good is None else int(good.argmax()))
    source, pixels = images.source(native, lambda: encoded, shape, path.name, key, good=good)
    column = coded(np.array(codes), classes)
    return DataSet(
        name=path.name,
        kind="image",
        parts=parts,
        targets={"label": lambda: column},
        hashes=images.remembered_hashes(source, pixels, path.name, key),
        source=source,
        pixels=pixels,
        readable=good,
        unreadable=() if good is None else tuple(map(encoded.name, np.flatnonzero(~good).tolist())),
        default_target="label",
    )


def is_plain(spec: Any) -> bool:
    """Whether a source can be written down in JSON, so that a suite made of it can be built again."""
    return isinstance(spec, (str, Path))


def resolved(spec: str, root: Path | str = ".") -> str:
    """The same source with absolute paths, so that it is found from any folder."""
    scheme, colon, path = spec.partition(":")
    if not colon:
        return spec
    pieces = [str(Path(root, piece.strip()).expanduser().absolute()) for piece in path.split(",")]
    return f"{scheme}:{','.join(pieces)}"
