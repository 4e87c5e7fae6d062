"""Who owns which weight of a layer: choosing positions, packing them, composing a dense weight from owned values.

A layer's weight has N positions, numbered in row-major order; an owner holds `n` of them as ascending positions and as
many values. Nothing is ever multiplied by a mask: values that are not on a path cannot reach it, not even as NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def share_count(share: float, size: int) -> int:
    """floor(share x size): how many of a layer's `size` weights an owner of that share holds.

    Computed with a guard of 1e-9, so that 0.1 x 10 is 1 although 0.1 is a little less than a tenth in binary.
    """
    return min(size, math.floor(share * size + 1e-9))


def pack(positions: torch.Tensor, size: int) -> torch.Tensor:
    """A bit for each of `size` positions, as uint8 (ceil(size / 8),); bit k of byte b is position 8 b + k.

    Args:
        positions: int64 (n,), in any order, each in 0..size-1.
        size: positions in all.
    """
    flags = torch.zeros(-(-size // 8) * 8, dtype=torch.uint8, device=positions.device)
    flags[positions] = 1
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device=positions.device)
    return (flags.view(-1, 8) * weights).sum(1, dtype=torch.uint8)


def unpack(bits: torch.Tensor) -> torch.Tensor:
    """Ascending (n,) positions whose bits are set; the inverse of `pack`.

    int32, half the memory of int64, wherever the layer's size allows it.
    """
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    found = ((bits[:, None] >> shifts) & 1).view(-1).nonzero().view(-1)
    return found.int() if 8 * len(bits) <= torch.iinfo(torch.int32).max else found


def choose(scores: torch.Tensor, candidates: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` candidates with the largest scores, as ascending positions; ties go to the lower position.

    Exactly `count` are taken whatever the scores, also when many are equal or all are zero: a threshold on a
    percentile would then take every position, and two owners would meet.

    Args:
        scores: (N,) one for each position of the layer, or (len(candidates),) one a candidate.
        candidates: ascending positions that may be taken.
        count: how many, at most len(candidates).

    Cost: finds the smallest score that is taken by partial selection, no sort (a ninth of its time at 10^6 scores).

    Raises:
        ValueError: fewer candidates than `count`, or a score that is not finite.

    Source: RSN2, algorithm 1, read as "keep the largest"; methods of the paper's code differ in ties only.
    """
    if count > len(candidates):
        raise ValueError(f"{count} positions wanted, {len(candidates)} are free")
    held = scores if len(scores) == len(candidates) else scores[candidates]
    if not torch.isfinite(held).all():
        raise ValueError(f"{int((~torch.isfinite(held)).sum())} of {len(held)} scores are NaN or infinite")
    if count == 0:
        return candidates[:0]
    last = held.topk(count, sorted=False).values.min()
    taken = held > last
    ties = (held == last).nonzero().view(-1)
    taken[ties[: count - int(taken.sum())]] = True
    return candidates[taken]


def choose_global(
    scores: Sequence[torch.Tensor], candidates: Sequence[torch.Tensor], count: int, least: int | Sequence[int] = 1
) -> list[torch.Tensor]:
    """Like `choose`, over several layers at once: `count` in all, at least `least` in each layer.

    Args:
        scores: one tensor a layer, as in `choose`.
        candidates: one tensor a layer.
        count: positions in all.
        least: positions that each layer gets in any case (or all its candidates, where those are fewer); one number
            for all, or one a layer.
    """
    held = [s if len(s) == len(c) else s[c] for s, c in zip(scores, candidates, strict=True)]
    each = [least] * len(held) if isinstance(least, int) else least
    first = [choose(s, c, min(n, len(c))) for s, c, n in zip(held, candidates, each, strict=True)]
    rest = count - sum(map(len, first))
    if rest < 0 or count > sum(map(len, candidates)):
        raise ValueError(f"{count} positions wanted in all, {sum(map(len, candidates))} are free")
    left = [~torch.isin(c, taken) for c, taken in zip(candidates, first, strict=True)]
    open_scores = torch.cat([s[keep] for s, keep in zip(held, left, strict=True)])
    numbers = choose(open_scores, torch.arange(len(open_scores)), rest)
    ends = torch.tensor([int(keep.sum()) for keep in left]).cumsum(0)
    chosen = []
    for layer, (taken, keep) in enumerate(zip(first, left, strict=True)):
        begin = int(ends[layer - 1]) if layer else 0
        mine = numbers[(numbers >= begin) & (numbers < int(ends[layer]))] - begin
        chosen.append(torch.cat([taken, candidates[layer][keep][mine]]).sort().values)
    return chosen


class Buffers:
    """Dense weights that one training step is done with, for the next to write over.

    Fresh memory for every step costs more than what is written to it: the system hands out each page anew (fifteen
    times the time of zeroing warm memory, measured at 10^6 weights).
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, torch.dtype, torch.device], list[torch.Tensor]] = {}

    def zeros(self, size: int, like: torch.Tensor) -> torch.Tensor:
        """(size,) zeros of the type and device of `like`, in used memory where there is some."""
        free = self._free.get((size, like.dtype, like.device))
        try:
            return free.pop().zero_() if free else like.new_zeros(size)
        except IndexError:  # another thread took the last
            return like.new_zeros(size)

    def give(self, buffer: torch.Tensor) -> None:
        """Nobody needs the values of this buffer any more."""
        self._free.setdefault((len(buffer), buffer.dtype, buffer.device), []).append(buffer)

    def clear(self) -> None:
        """Let the memory go."""
        self._free.clear()


class _Compose(torch.autograd.Function):
    """Values scattered over a base; the gradient is gathered at the same positions."""

    @staticmethod
    def forward(ctx, size, base, buffers, count, *tensors):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN205, D102
        positions, values = tensors[:count], tensors[count:]
        reused = base is None and buffers is not None and any(ctx.needs_input_grad)
        ctx.buffer, ctx.buffers = buffers.zeros(size, values[0]) if reused else None, buffers
        if reused:
            # A tensor of its own over the same memory: it gets this graph's history, and shares the version counter,
            # so that autograd refuses to go back through a graph (retained by the user) that was written over.
            out = ctx.buffer.detach()
        else:
            out = values[0].new_zeros(size) if base is None else base.clone()
        for at, held in zip(positions, values, strict=True):
            out.scatter_(0, at, held)
        ctx.save_for_backward(*positions)
        return out

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN205, D102
        positions = ctx.saved_tensors
        if ctx.buffer is not None:  # everything that read the weight has gone back already
            ctx.buffers.give(ctx.buffer)
            ctx.buffer = None
        wanted = ctx.needs_input_grad[4 + len(positions) :]
        # index_select reads the same values as gather in a third of the time.
        gathered = (gradient.index_select(0, at) if need else None for at, need in zip(positions, wanted, strict=True))
        return None, None, None, None, *(None for _ in positions), *gathered


def compose(
    size: int,
    positions: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    base: torch.Tensor | None = None,
    buffers: Buffers | None = None,
) -> torch.Tensor:
    """A dense (size,) weight: `values[i]` at `positions[i]`, the base (or zero) elsewhere.

    Differentiable in the values: their gradient is the dense gradient at their positions. Costs one write of `size`
    and one of each value forward, one read of each backward.

    Args:
        size: of the layer.
        positions: int32 or int64 (n_i,) for each owner; owners are disjoint.
        values: (n_i,) for each owner.
        base: (size,), constant.
        buffers: where a weight's memory goes once its gradient is known. A graph that is kept (`retain_graph`) then
            counts only until the next call: going back through it a second time is refused by autograd.
    """
    if base is None and len(values) == 1 and len(values[0]) == size:
        return values[0]  # the owner holds the whole layer, and positions are ascending
    out: torch.Tensor = _Compose.apply(size, base, buffers, len(positions), *positions, *values)
    return out


class _Binarised(torch.autograd.Function):
    """1 above the threshold, else 0; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, real, threshold):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN205, D102
        return (real > threshold).to(real.dtype)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN205, D102
        return gradient, None


def binarised(real: torch.Tensor, threshold: float) -> torch.Tensor:
    """1 where `real` is above the threshold, else 0, with the straight-through gradient (Piggyback, CPG)."""
    out: torch.Tensor = _Binarised.apply(real, threshold)
    return out


class _Limited(torch.autograd.Function):
    """Zero outside a mask; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, weight, keep):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN205, D102
        return torch.where(keep, weight, weight.new_zeros(()))

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN205, D102
        return gradient, None


def limited(weight: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """`weight` where `keep` (bool, same shape), zero elsewhere, with the straight-through gradient (NestedNet).

    A weight outside the mask is trained as if it were inside, so that it can come back when masks are chosen again.
    """
    out: torch.Tensor = _Limited.apply(weight, keep)
    return out
