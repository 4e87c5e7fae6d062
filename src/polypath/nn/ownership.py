"""What one owner holds in one space: values at positions, and dense entries of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from polypath.nn.spaces import Space
from polypath.ops.ownership import pack, unpack


def key_of(entry: str) -> str:
    """An entry's key in a module, which refuses dots."""
    return entry.replace(".", "-")


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place; 0 for those made in inference mode, which do not count it."""
    return 0 if tensor.is_inference() else tensor._version


class Held(nn.Module):
    """Buffers by name."""

    def put(self, name: str, value: torch.Tensor) -> None:
        """Register a buffer, or replace it."""
        self.register_buffer(name, value)

    def __getitem__(self, name: str) -> torch.Tensor:
        value: torch.Tensor = self._buffers[name]  # type: ignore[assignment]
        return value


class Part(nn.Module):
    """One owner's part of one space.

    State: `value.<entry>` (n,) and `at.<entry>` (a bit a position) for every masked entry, `own.<entry>` for dense
    parameters, `stats.<entry>` for buffers, `pick.<entry>` (a bit a position) for older weights that were chosen.

    Args:
        space: the piece.
        counts: masked entry -> number of positions.
        dense: whether dense entries are held here (False: an earlier owner's are used).
        picks: whether older weights may be chosen.
    """

    def __init__(self, space: Space, counts: Mapping[str, int], *, dense: bool = True, picks: bool = False) -> None:
        super().__init__()
        self.entries = tuple(space.masked)
        self.dense = dense
        self.value, self.own = nn.ParameterDict(), nn.ParameterDict()
        self.at, self.pick, self.stats = Held(), Held(), Held()
        self._positions: dict[tuple[str, str], tuple[torch.Tensor, int, torch.Tensor]] = {}
        for entry in space.masked:
            bits = torch.zeros(-(-space.size(entry) // 8), dtype=torch.uint8)
            self.value[key_of(entry)] = nn.Parameter(torch.zeros(counts[entry]))
            self.at.put(key_of(entry), bits)
            if picks:
                self.pick.put(key_of(entry), bits.clone())
        state = space.module.state_dict()
        device = torch.get_default_device()
        for entry in space.dense if dense else ():
            self.own[key_of(entry)] = nn.Parameter(torch.zeros_like(state[entry], device=device))
        for entry in space.buffers if dense else ():
            self.stats.put(key_of(entry), torch.zeros_like(state[entry], device=device))

    def counts(self) -> dict[str, int]:
        """Masked entry -> number of positions held."""
        return {entry: self.value[key_of(entry)].numel() for entry in self.entries}

    def values(self, entry: str) -> nn.Parameter:
        """(n,) values of a masked entry."""
        found: nn.Parameter = self.value[key_of(entry)]
        return found

    def positions(self, entry: str) -> torch.Tensor:
        """Ascending (n,) positions held; unpacked once until the bits change."""
        return self._unpacked("at", self.at[key_of(entry)], entry)

    def picked(self, entry: str) -> torch.Tensor:
        """Ascending positions of older weights that were chosen."""
        return self._unpacked("pick", self.pick[key_of(entry)], entry)

    def _unpacked(self, kind: str, bits: torch.Tensor, entry: str) -> torch.Tensor:
        found = self._positions.get((kind, entry))
        version = version_of(bits)
        # The tensor itself is kept, so that no other can stand at its address; its version counts changes in place.
        if found is None or found[0] is not bits or found[1] != version:
            found = (bits, version, unpack(bits))
            self._positions[kind, entry] = found
        return found[2]

    def forget(self) -> None:
        """Drop the unpacked positions; they are made again when asked for."""
        self._positions.clear()

    @torch.no_grad()
    def put(self, entry: str, positions: torch.Tensor, values: torch.Tensor, size: int) -> None:
        """Hold `values` (n,) at ascending `positions` (n,) of a layer of `size`; replaces the parameter."""
        device = self.at[key_of(entry)].device
        self.value[key_of(entry)] = nn.Parameter(values.detach().clone().to(device))
        self.at.put(key_of(entry), pack(positions.to(device), size))

    @torch.no_grad()
    def put_picks(self, entry: str, positions: torch.Tensor, size: int) -> None:
        """Choose the older weights at these positions."""
        self.pick.put(key_of(entry), pack(positions.to(self.pick[key_of(entry)].device), size))

    @torch.no_grad()
    def fill(self, space: Space, dense: Mapping[str, torch.Tensor]) -> None:
        """Give the dense entries their values."""
        for entry in space.dense if self.dense else ():
            self.own[key_of(entry)].copy_(dense[entry])
        for entry in space.buffers if self.dense else ():
            self.stats[key_of(entry)].copy_(dense[entry])

    def dense_state(self, space: Space) -> dict[str, torch.Tensor]:
        """Dense entries by their names in the piece."""
        found: dict[str, torch.Tensor] = {entry: self.own[key_of(entry)] for entry in space.dense}
        return {**found, **{entry: self.stats[key_of(entry)] for entry in space.buffers}}

    def __deepcopy__(self, memo: dict[int, Any]) -> Part:
        """A copy without the unpacked positions."""
        made = self.__new__(type(self))
        memo[id(self)] = made
        nn.Module.__init__(made)
        made.entries, made.dense, made._positions = self.entries, self.dense, {}
        for name in ("value", "own", "at", "pick", "stats"):
            setattr(made, name, copy.deepcopy(getattr(self, name), memo))
        made.training = self.training
        return made
