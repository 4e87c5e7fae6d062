"""Data sets in .npz files, read with NumPy alone."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polypath.core.errors import InvalidInput
from polypath.data import images
from polypath.data.columns import DataSet, Missing, MissingInputs
from polypath.data.given import from_arrays

# (inputs, targets) of each stored split, in the namings that are in use.
_NAMINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("x_train", "y_train"),
        ("train_images", "train_labels"),
        ("train_inputs", "train_targets"),
        ("x", "y"),
        ("inputs", "targets"),
        ("images", "labels"),
        ("data", "target"),
    ),
    "validation": (("x_val", "y_val"), ("val_images", "val_labels"), ("val_inputs", "val_targets")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels"), ("test_inputs", "test_targets")),
}
_NAMES = ("label_names", "class_names", "classes")


def from_npz(
    files: Sequence[Path],
    name: str,
    shape: images.Shape,
    missing: Missing = "refuse",
    missing_inputs: MissingInputs = "refuse",
) -> DataSet:
    """The data set in one or more archives, whose arrays are joined in the order of the files.

    Raises:
        InvalidInput: an archive that cannot be read, without the expected keys, or whose parts do not fit together.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    labels: tuple[str, ...] | None = None
    for file in files:
        arrays = _read(file)
        pairs = {split: _pair(arrays, namings) for split, namings in _NAMINGS.items()}
        if not any(pairs.values()):
            known = "; ".join(f"{x} and {y}" for x, y in _NAMINGS["train"])
            raise InvalidInput(f"{file}: keys of inputs and targets are required ({known}), found {sorted(arrays)}")
        for split, pair in pairs.items():
            if pair is not None:
                found.setdefault(split, []).append(pair)
        for key in _NAMES:
            if key in arrays:
                labels = tuple(str(value) for value in arrays[key].tolist())
    if "train" not in found:
        raise InvalidInput(f"{name}: training examples are required, found only {sorted(found)}")
    try:
        joined = {
            split: (np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))
            for split, pairs in found.items()
        }
    except ValueError as error:
        raise InvalidInput(f"{name}: the parts do not fit together: {error}") from error
    return from_arrays(joined, shape, name, labels, missing=missing, missing_inputs=missing_inputs)


def _pair(arrays: dict[str, np.ndarray], namings: tuple[tuple[str, str], ...]) -> tuple[np.ndarray, np.ndarray] | None:
    for x, y in namings:
        if x in arrays and y in arrays:
            targets = arrays[y]
            # one class number a row is sometimes kept as a column
            return arrays[x], targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
    return None


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise InvalidInput(f"{file}: cannot be read as an .npz archive of plain arrays: {error}") from error
