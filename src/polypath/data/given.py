"""Data sets from what a user already holds: arrays, tensors, lists of texts, torch Datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache as memo
from typing import Any

import numpy as np
import torch

from polypath.core.errors import InvalidInput
from polypath.core.examples import Source, TensorSource
from polypath.core.pixels import is_grey
from polypath.core.preprocess import ImagePreprocess
from polypath.data import images
from polypath.data.catalogue import Entry
from polypath.data.columns import Column, DataSet, Missing, MissingInputs, coded


def from_arrays(
    spec: Any,
    shape: images.Shape,
    name: str = "arrays",
    labels: Sequence[str] | None = None,
    entry: Entry | None = None,
    columns: Sequence[str] | None = None,
    missing: Missing = "refuse",
    missing_inputs: MissingInputs = "refuse",
) -> DataSet:
    """The data set in an (inputs, targets) pair, or a mapping of stored split to one.

    Args:
        spec: inputs are images (uint8, or floats in [0, 1]; (n, h, w), (n, c, h, w) or (n, h, w, c)), rows (n, k) or
            a list of texts; targets are classes (whole numbers, strings) or numbers (floats).
        shape: what images are brought to.
        name: for messages.
        labels: class names in the order of the class numbers.
        entry: catalogue entry.
        columns: feature names, for rows.
        missing: whether NaN may stand for a target that is missing (`skip_nan`).
        missing_inputs: whether NaN may stand for a number of a row that is missing (`mean`).

    Raises:
        InvalidInput: wrong shapes, different numbers of inputs and targets, NaN or infinite values.
    """
    pairs = spec if isinstance(spec, Mapping) else {"train": spec}
    parts: dict[str, range] = {}
    inputs, targets, start = [], [], 0
    for split, pair in pairs.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidInput(
                f"{name}, {split}: an (inputs, targets) pair is required, received {type(pair).__name__}"
            )
        x, y = _plain(pair[0]), _plain(pair[1])
        if len(x) != len(y):
            raise InvalidInput(f"{name}, {split}: {len(x)} inputs but {len(y)} targets")
        if len(x) == 0:
            raise InvalidInput(f"{name}, {split}: at least one example is required, received none")
        parts[split] = range(start, start + len(x))
        start += len(x)
        inputs.append(x)
        targets.append(_whole(y, f"{name}, {split}"))
    column = _target(np.concatenate(targets), labels, name, missing)
    common: dict[str, Any] = {
        "name": name,
        "parts": parts,
        "entry": entry,
        "default_target": next(iter(entry.targets)) if entry else "target",
    }
    common["targets"] = {common["default_target"]: lambda: column}
    if all(isinstance(x, list) for x in inputs):
        texts = [text for x in inputs for text in x]
        return DataSet(
            kind="text",
            texts=texts,
            hashes=memo(lambda: images.hashes((text.encode() for text in texts), len(texts))),
            **common,
        )
    try:
        values = np.concatenate(inputs)
    except ValueError as error:
        raise InvalidInput(f"{name}: inputs of the stored splits do not fit together: {error}") from error
    if values.ndim == 2:
        return _rows(values, columns, common, missing_inputs)
    return _images(values, shape, common)


def from_torch(spec: Any, shape: images.Shape) -> DataSet:
    """The data set in a torch Dataset of (input, class) pairs, or a mapping of stored split to one.

    Small items are read once into memory; images above 96 pixels are fetched from the dataset batch by batch.
    """
    sets = dict(spec) if isinstance(spec, Mapping) else {"train": spec}
    parts: dict[str, range] = {}
    classes: list[Any] = []
    start = 0
    for split, dataset in sets.items():
        if not isinstance(dataset, torch.utils.data.Dataset) or not hasattr(dataset, "__len__"):
            raise InvalidInput(f"{split}: a torch Dataset with a length is required, received {type(dataset).__name__}")
        parts[split] = range(start, start + len(dataset))
        start += len(dataset)
    members = Items(tuple(sets.values()), tuple(parts.values()))
    if start == 0:
        raise InvalidInput("torch Dataset: at least one example is required, received none")
    native = members.native()
    preprocess = shape.preprocess(native)
    large = max(preprocess.height, preprocess.width) > images.SMALL
    pixels = []
    for row in range(start):
        item, label = members.pair(row)
        classes.append(label.item() if isinstance(label, (torch.Tensor, np.generic)) else label)
        if not large:
            pixels.append(members.decoded(item, preprocess, row))
    names = getattr(next(iter(sets.values())), "classes", None)
    column = _target(_whole(classes, "torch Dataset"), [str(c) for c in names] if names else None, "torch Dataset")
    source: Source = ItemSource(members, preprocess) if large else TensorSource(torch.cat(pixels))
    return DataSet(
        name="dataset",
        kind="image",
        parts=parts,
        targets={"target": lambda: column},
        hashes=memo(lambda: images.source_hashes(source)),
        source=source,
        pixels=preprocess,
        default_target="target",
    )


class Items:
    """The items of several torch Datasets, one after the other."""

    def __init__(self, sets: tuple[Any, ...], parts: tuple[range, ...]) -> None:
        self.sets, self.parts = sets, parts

    def pair(self, row: int) -> tuple[Any, Any]:
        """Input and target of item `row`."""
        for dataset, part in zip(self.sets, self.parts, strict=True):
            if row in part:
                item = dataset[row - part.start]
                if not isinstance(item, (tuple, list)) or len(item) != 2:
                    raise InvalidInput(f"torch Dataset: item {row} must be (input, target), received {type(item)}")
                return item[0], item[1]
        raise IndexError(row)

    def native(self) -> tuple[int, int, int]:
        """Channels, height and width of the first item."""
        first = self.pair(0)[0]
        if isinstance(first, (torch.Tensor, np.ndarray)):
            values = _channels_first(np.asarray(first)[None])
            return values.shape[1], values.shape[2], values.shape[3]
        if hasattr(first, "getbands"):
            return (1 if is_grey(first) else 3, first.size[1], first.size[0])
        raise InvalidInput(
            f"torch Dataset: images (PIL, array or tensor) are required as inputs, received {type(first).__name__}; "
            "for other inputs give arrays"
        )

    def decoded(self, item: Any, preprocess: ImagePreprocess, row: int) -> torch.Tensor:
        """uint8 (1, channels, height, width) of one item."""
        try:
            if isinstance(item, (torch.Tensor, np.ndarray)) and preprocess.fit != "exact":
                item = images.Pixels(_uint8(_channels_first(np.asarray(item)[None]), "torch Dataset"), "item").read(0)
            return preprocess.decode(item)
        except InvalidInput as error:
            raise InvalidInput(f"torch Dataset, item {row}: {error}") from error


class ItemSource:
    """Large images of torch Datasets, fetched when they are taken."""

    streams = True

    def __init__(self, members: Items, preprocess: ImagePreprocess) -> None:
        self.members, self.preprocess = members, preprocess

    def __len__(self) -> int:
        return sum(len(part) for part in self.members.parts)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Rows `index`, decoded and stacked."""
        rows = index.tolist()
        return torch.cat([self.members.decoded(self.members.pair(r)[0], self.preprocess, r) for r in rows])


def _plain(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], str):
        return list(values)
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return [str(value) for value in array.tolist()]
    return array


def _whole(values: Any, where: str) -> np.ndarray:
    """Targets as an array. None and NaN among texts are told here: NumPy would make words of them, or fail."""
    array = np.asarray(values)
    if array.dtype.kind in "OU" and array.ndim == 1:
        given = values if isinstance(values, list) else array.tolist()
        gaps = [
            row for row, value in enumerate(given) if value is None or (isinstance(value, float) and value != value)
        ]
        if gaps:
            raise InvalidInput(f"{where}: None or NaN in place of a label in row(s) {gaps[:5]}; leave these rows out")
    return array


def _target(values: np.ndarray, labels: Sequence[str] | None, name: str, missing: Missing = "refuse") -> Column:
    if labels is not None or values.dtype.kind in "iubUO":
        if values.ndim == 2:  # 0/1 rows
            return Column(values.astype(np.int64), None if labels is None else tuple(labels))
        try:
            return coded(values, labels)
        except InvalidInput as error:
            raise InvalidInput(f"{name}: {error}") from error
    wrong = np.isinf(values) if missing == "skip_nan" else ~np.isfinite(values)
    bad = np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))
    if bad.size:
        raise InvalidInput(f"{name}: finite targets required, received NaN or infinity in row(s) {bad[:5].tolist()}")
    return Column(values.astype(np.float64))


def _rows(values: np.ndarray, columns: Sequence[str] | None, common: dict[str, Any], missing: MissingInputs) -> DataSet:
    rows = values.astype(np.float32)
    bad = np.argwhere(np.isinf(rows) if missing == "mean" else ~np.isfinite(rows))
    if len(bad):
        raise InvalidInput(f"{common['name']}: NaN or infinity in row {bad[0][0]}, column {bad[0][1]}")
    names = tuple(columns) if columns else tuple(f"x{number}" for number in range(rows.shape[1]))
    source = TensorSource(torch.from_numpy(rows))
    return DataSet(
        kind="table", source=source, columns=names, hashes=memo(lambda: images.source_hashes(source)), **common
    )


def _images(values: np.ndarray, shape: images.Shape, common: dict[str, Any]) -> DataSet:
    pixels = _uint8(_channels_first(values), common["name"])
    native = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    preprocess = shape.preprocess(native)
    source: Source
    if (preprocess.channels, preprocess.height, preprocess.width) == native:
        source = TensorSource(torch.from_numpy(pixels))
    else:
        encoded = images.Pixels(pixels, common["name"])
        source, preprocess = images.source(native, lambda: encoded, shape, common["name"], None)
    return DataSet(
        kind="image", source=source, pixels=preprocess, hashes=memo(lambda: images.source_hashes(source)), **common
    )


def _channels_first(values: np.ndarray) -> np.ndarray:
    if values.ndim == 3:
        return values[:, None]
    if values.ndim != 4 or (values.shape[1] not in (1, 3) and values.shape[3] not in (1, 3)):
        raise InvalidInput(
            "images: (n, height, width), (n, channels, height, width) or (n, height, width, channels) with 1 or 3 "
            f"channels required, received shape {values.shape}"
        )
    return values if values.shape[1] in (1, 3) else values.transpose(0, 3, 1, 2)


def _uint8(pixels: np.ndarray, name: str) -> np.ndarray:
    _, channels, height, width = pixels.shape
    decoder = ImagePreprocess(channels=channels, height=height, width=width, mean=(0.0,), std=(1.0,))
    try:
        return decoder.decode(np.ascontiguousarray(pixels)).numpy()
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error
