"""What the frozen layers below a child's lowest trained one make of the examples, computed once for all children.

Only where every example enters unchanged: validation, and training with a deterministic image pipeline.

The result is the same bit for bit with the store and without. What a row becomes may depend on the kernels, which are
chosen by the shapes of a batch, and on its place in the batch; never on the rows beside it, for frozen layers compute
row by row. So both ways compute in chunks of one fixed size (the last one filled up with repeated rows), and before
anything of a prefix is stored a chunk is computed twice, the second time with every row one place further: only if no
bit differs does the place not matter, and only then is anything stored.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from polypath.core.examples import Examples, TaskData
from polypath.data.batches import at_least, channels_last

log = logging.getLogger(__name__)

CHUNK = 128
"""Rows that frozen layers compute at once on a CPU, at most: a row's bits may depend on this number."""

Key = tuple[str, ...]  # split, then a digest for every layer


class Prefix:
    """The frozen layers of one child.

    Args:
        layers: from the input on, in evaluation mode.
        names: what each of them holds (digests): equal names, equal layers.
        data: encodes and holds the examples.
        device: where to compute.
        chunk: rows computed at once.
        store: keeps what was computed; None computes always.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        names: Sequence[str],
        data: TaskData,
        device: torch.device,
        chunk: int,
        store: Store | None = None,
    ) -> None:
        self.layers, self.names, self.data, self.device, self.chunk = layers, tuple(names), data, device, chunk
        self.store = store

    def outputs(self, split: str, rows: torch.Tensor) -> torch.Tensor:
        """What the layers make of examples, (n, ...), images in channels-last strides.

        Call it inside `torch.no_grad()` and with the autocast of the run.

        Args:
            split: `train` or `val`.
            rows: int64 (n,), which examples.
        """
        entry = None if self.store is None else self._entry(split, rows)
        if entry is None:
            return _turned(self._computed(split, rows))
        known = entry.has(rows)
        if known.all():
            return _turned(entry.values[rows])
        computed = self._computed(split, rows[~known])
        entry.keep(rows[~known], computed)
        joined = entry.values.new_empty((len(rows), *entry.values.shape[1:]))
        joined[known], joined[~known] = entry.values[rows[known]], computed
        return _turned(joined)

    def _entry(self, split: str, rows: torch.Tensor) -> Entry | None:
        """Where this prefix's rows are kept; None where they cannot be."""
        assert self.store is not None
        key = (split, *self.names)
        entry = self.store.entry(key)
        if entry is None and key not in self.store.refused:
            probe = at_least(rows, self.chunk)[: self.chunk]
            first = self._through(split, probe)
            if not torch.equal(first.roll(1, 0), self._through(split, probe.roll(1))):
                log.info("a row's outputs depend on its place among the others: nothing is kept of this prefix")
                self.store.refused.add(key)
                return None
            rows_in_all = len(self.data.train) + (0 if self.data.val is None else len(self.data.val))
            entry = self.store.made(key, len(self._examples(split)), rows_in_all, first)
        return entry

    def _examples(self, split: str) -> Examples:
        examples = self.data.train if split == "train" else self.data.val
        assert examples is not None
        return examples

    def _computed(self, split: str, rows: torch.Tensor) -> torch.Tensor:
        """Rows chunk by chunk, the last one filled up; features last."""
        parts = []
        for part in rows.split(self.chunk):
            whole = at_least(part, self.chunk)
            parts.append(self._through(split, whole)[: len(part)])
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _through(self, split: str, rows: torch.Tensor) -> torch.Tensor:
        """One chunk, from the highest layer whose outputs are there."""
        depth, value = self._begun(split, rows)
        for layer in self.layers[depth:]:
            value = layer(value)
            if isinstance(value, torch.Tensor):
                value = _turned(_features_last(value))
        return _features_last(value)

    def _begun(self, split: str, rows: torch.Tensor) -> tuple[int, torch.Tensor]:
        """(number of layers passed, their outputs): of a shorter prefix that is stored, else the encoded examples."""
        if self.store is not None:
            for depth in range(len(self.layers) - 1, 0, -1):
                entry = self.store.entry((split, *self.names[:depth]))
                if entry is not None and bool(entry.has(rows).all()):
                    return depth, _turned(entry.values[rows])
        return 0, channels_last(self.data.task.preprocess.encode(self._examples(split).inputs(rows).to(self.device)))


def _features_last(value: torch.Tensor) -> torch.Tensor:
    return (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).contiguous()


def _turned(value: torch.Tensor) -> torch.Tensor:
    """The view that layers take: strides are the same however the value came here, for kernels are chosen by them.

    Also those of sides of length 1 (a 1x1 map), of which `contiguous` takes no notice.
    """
    plain = value.contiguous().flatten().view(value.shape)
    return plain.permute(0, 3, 1, 2) if plain.ndim == 4 else plain


@dataclass
class Entry:
    """Outputs of one prefix on the first rows of one split.

    Args:
        values: (rows, ...), features last; filled as rows are asked for.
        there: (rows,), which are.
    """

    values: torch.Tensor
    there: torch.Tensor

    def has(self, rows: torch.Tensor) -> torch.Tensor:
        """Which of some rows are there, (n,)."""
        last = len(self.there) - 1
        return (rows <= last) & self.there[rows.clamp(max=last)]

    def keep(self, rows: torch.Tensor, outputs: torch.Tensor) -> None:
        """Store the outputs of those rows that have a place."""
        held = rows < len(self.there)
        self.values[rows[held]] = outputs[held]
        self.there[rows[held]] = True  # last: an interrupted child leaves nothing half written that counts as there

    @property
    def size_bytes(self) -> int:
        """Memory of all rows, asked for or not."""
        return self.values.numel() * self.values.element_size()


@dataclass
class Store:
    """Outputs of prefixes on the examples of one task, within a budget; those not used for longest go first.

    Args:
        budget: bytes, in the memory of the device. Where the examples of a task do not fit, the first of them are
            stored; training and validation examples have their shares of it, so that neither drives the other out.
    """

    budget: int
    refused: set[Key] = field(default_factory=set)
    _entries: OrderedDict[Key, Entry] = field(default_factory=OrderedDict)

    def entry(self, key: Key) -> Entry | None:
        """The entry of a prefix, which counts as used now."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def made(self, key: Key, rows: int, rows_in_all: int, like: torch.Tensor) -> Entry | None:
        """A new entry; None, and refused from now on, where the budget has no place for a single row.

        Args:
            key: of the prefix.
            rows: of the split.
            rows_in_all: of both splits.
            like: outputs of some rows, (n, ...).
        """
        each = like[0].numel() * like.element_size()
        count = min(rows, self.budget * rows // rows_in_all // each)
        if count == 0:
            self.refused.add(key)
            return None
        while self._entries and self.size_bytes + count * each > self.budget:
            self._entries.popitem(last=False)
        entry = Entry(like.new_empty((count, *like.shape[1:])), torch.zeros(count, dtype=torch.bool))
        self._entries[key] = entry
        return entry

    @property
    def size_bytes(self) -> int:
        """Memory of all entries."""
        return sum(entry.size_bytes for entry in self._entries.values())


@dataclass
class _Kept:
    """The store of this process, and what it is about."""

    about: tuple[object, ...]
    setting: tuple[object, ...]
    store: Store


_kept: _Kept | None = None


def store_of(data: TaskData, budget: int, *setting: object) -> Store | None:
    """This process's store for the examples of a task: the one of the child before where nothing else changed.

    Args:
        data: the task; another one's store is given up.
        budget: bytes; 0 stores nothing.
        setting: what else bits depend on (device, precision, threads, chunk).
    """
    global _kept
    if budget == 0:
        forget()
        return None
    about, given = (data.train, data.val), (budget, data.task.preprocess, *setting)
    same = _kept is not None and all(a is b for a, b in zip(_kept.about, about, strict=True))
    if _kept is None or not same or _kept.setting != given:
        forget()
        _kept = _Kept(about, given, Store(budget))
    return _kept.store


def forget() -> None:
    """Give the memory of this process's store back; a search does so when it ends."""
    global _kept
    _kept = None
