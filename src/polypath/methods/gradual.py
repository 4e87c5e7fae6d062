"""Gradual pruning of owned weights by magnitude, while they are trained (Zhu and Gupta 2017, as CPG uses it)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from polypath.nn.subnet import Subnetworks
from polypath.ops.ownership import choose
from polypath.ops.pruning import cubic_sparsity


class Pruning:
    """Called after every optimizer step: zeroes what is pruned, and prunes more where it is time.

    Args:
        network: whose weights are pruned.
        sizes: (component, entry) -> number of weights before any pruning, of which sparsities are parts.
        every: optimizer steps between two prunings.
        start, end: sparsity before and after.
        steps: in which that is reached, by a cubic schedule.
    """

    def __init__(
        self,
        network: Subnetworks,
        sizes: Mapping[tuple[str, str], int],
        every: int,
        start: float,
        end: float,
        steps: int,
    ) -> None:
        self.network, self.sizes, self.every = network, dict(sizes), every
        self.start, self.end, self.steps = start, end, steps
        self.taken = {"steps": 0}
        self.pruned = {
            pruning_key(part, entry): torch.zeros_like(network.part(part).values(entry), dtype=torch.bool)
            for part, entry in self.sizes
        }

    def __call__(self) -> None:
        """One step was taken."""
        self.taken["steps"] += 1
        if self.taken["steps"] % self.every == 0:
            self.at(self.taken["steps"] / self.steps)
        self._zero()

    def at(self, progress: float) -> None:
        """Prune as far as the schedule says: the smallest weights in absolute value, beside those already pruned.

        Args:
            progress: of the schedule, 0..1.
        """
        sparsity = cubic_sparsity(self.start, self.end, progress)
        for (part, entry), size in self.sizes.items():
            mask = self.pruned[pruning_key(part, entry)]
            gone = min(round(sparsity * size), size - 1) - (size - len(mask))  # of the weights still held
            scores = self.network.part(part).values(entry).detach().abs().masked_fill(mask, -1.0)
            if gone > int(mask.sum()):
                left = choose(scores.cpu(), torch.arange(len(mask)), len(mask) - gone)
                mask.fill_(True)[left.to(mask.device)] = False
        self._zero()

    @torch.no_grad()
    def _zero(self) -> None:
        for part, entry in self.sizes:
            self.network.part(part).values(entry)[self.pruned[pruning_key(part, entry)]] = 0.0


def pruning_key(part: str, entry: str) -> str:
    """A component's entry as one name that modules and checkpoints take."""
    return f"{part}/{entry}".replace(".", "-")
