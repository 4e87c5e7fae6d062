"""What is learned from training rows before training: pixel constants, scales, categories, vocabularies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from polypath.core.errors import InvalidInput
from polypath.core.examples import Source, TensorSource
from polypath.core.preprocess import TablePreprocess, TextPreprocess, words
from polypath.data.columns import DataSet
from polypath.data.options import Constants, DataOptions, Scale

_SAMPLE = 1_000  # images from which a streaming set's mean and deviation are estimated


def constants(dataset: DataSet, options: DataOptions, train: np.ndarray) -> Constants:
    """Mean and deviation of pixels: as given, the catalogue's, or those of the training rows."""
    assert dataset.pixels is not None and dataset.source is not None
    channels = dataset.pixels.channels
    given, entry = options.normalise, dataset.entry
    if isinstance(given, Constants):
        if len(given.mean) != channels or len(given.std) != channels:
            raise InvalidInput(f"normalise: {channels} numbers required (one a channel), received {given}")
        return given
    if given in ("none", "task"):
        return Constants(mean=(0.0,) * channels, std=(1.0,) * channels)
    if given is None and entry is not None and entry.mean and entry.std and len(entry.mean) == channels:
        return Constants(mean=entry.mean, std=entry.std)
    return pixel_constants(dataset.source, train)


def pixel_constants(source: Source, rows: np.ndarray) -> Constants:
    """Exact channel statistics from the histogram of pixel values (a sample of the images where they stream)."""
    if source.streams:
        rows = rows[:_SAMPLE]
    counts: np.ndarray | None = None
    for some in np.array_split(np.sort(rows), max(1, len(rows) // 4096)):
        pixels = source.take(torch.from_numpy(some)).numpy()
        found = np.stack([np.bincount(pixels[:, c].reshape(-1), minlength=256) for c in range(pixels.shape[1])])
        counts = found if counts is None else counts + found
    assert counts is not None
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = (counts * values).sum(axis=1) / total
    variance = (counts * (values[None] - mean[:, None]) ** 2).sum(axis=1) / total
    std = np.sqrt(variance)
    return Constants(mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))


def offset_and_unit(values: torch.Tensor, scale: Scale) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What is subtracted from every column and what it is then divided by; the unit of a constant column is 1."""
    if scale == "minmax":
        offset, unit = values.amin(dim=0), values.amax(dim=0) - values.amin(dim=0)
    elif scale == "none":
        offset, unit = torch.zeros_like(values[0]), torch.ones_like(values[0])
    else:
        offset, unit = values.mean(dim=0), values.std(dim=0, correction=0)
    return tuple(offset.tolist()), tuple(torch.where(unit > 0, unit, torch.ones_like(unit)).tolist())


def known_mean_and_std(values: torch.Tensor, columns: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of every column over the values that are there; the deviation of a constant column is 1.

    Raises:
        InvalidInput: a column without any.
    """
    mean = values.nanmean(dim=0)
    if mean.isnan().any():
        name = columns[int(mean.isnan().int().argmax())]
        raise InvalidInput(f"input column {name!r} holds no value in the training rows; leave it out")
    std = (values - mean).square().nanmean(dim=0).sqrt()
    return tuple(mean.tolist()), tuple(torch.where(std > 0, std, torch.ones_like(std)).tolist())


def table(
    dataset: DataSet, values: torch.Tensor, train: torch.Tensor, options: DataOptions
) -> tuple[Source, TablePreprocess]:
    """Rows and how they are encoded: scales, and the categories that training rows hold; others become -1."""
    learned = values[train].double()
    if learned.isnan().any():
        mean, std = known_mean_and_std(learned, dataset.columns)
    else:
        mean, std = offset_and_unit(learned, options.scale)
    common = {"columns": dataset.columns, "missing": options.missing_inputs}
    if not dataset.categories:
        assert dataset.source is not None
        return dataset.source, TablePreprocess.of({**common, "mean": mean, "std": std})
    offsets, units, held, values = list(mean), list(std), {}, values.clone()
    for place, name in enumerate(dataset.columns):
        if name not in dataset.categories:
            continue
        codes = values[:, place].long()
        present = codes[train].unique()
        present = present[present >= 0]
        if not len(present):
            raise InvalidInput(
                f"{dataset.name}: input column {name!r} holds no value in the training rows; leave it out"
            )
        table_of = torch.full((len(dataset.categories[name]) + 1,), -1)  # the last entry answers for -1
        table_of[present] = torch.arange(len(present))
        values[:, place] = table_of[codes].to(values.dtype)
        held[name] = tuple(dataset.categories[name][number] for number in present.tolist())
        offsets[place], units[place] = 0.0, 1.0
    fields = {**common, "mean": offsets, "std": units, "categories": held}
    return TensorSource(values), TablePreprocess.of(fields)


def tokens(texts: Sequence[str], train: np.ndarray, options: DataOptions) -> tuple[TextPreprocess, torch.Tensor]:
    """Vocabulary of the training texts, most frequent word first, and all texts in its numbers.

    The same numbers as `TextPreprocess.decode` gives, with every text cut into words once.
    """
    cut_up = [words(text) for text in texts]
    counts: Counter[str] = Counter()
    for row in train.tolist():
        counts.update(cut_up[row])
    frequent = sorted((-count, word) for word, count in counts.items() if count >= options.min_count)
    kept = tuple(word for _, word in frequent[: options.words])
    ids = {word: number for number, word in enumerate(kept, start=2)}
    numbered = np.zeros((len(texts), options.length), dtype=np.int64)
    for row, found in enumerate(cut_up):
        numbers = [ids.get(word, 1) for word in found[: options.length]]
        numbered[row, : len(numbers)] = numbers
    return TextPreprocess.of({"vocabulary": kept, "length": options.length}), torch.from_numpy(numbered)
