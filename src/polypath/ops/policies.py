"""AdaShare's policies as tensors: soft samples of run or skip, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


def soft_sample(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """Gumbel-softmax: softmax((logits + g) / temperature) with g = -log(-log u), u uniform.

    Args:
        logits: (blocks, 2) of running and skipping.
        temperature: above 0; low ones come close to one-hot.
        generator: on the CPU.
    """
    uniform = torch.rand(logits.shape, generator=generator).clamp(1e-9, 1 - 1e-7).to(logits.device)
    return ((logits - torch.log(-torch.log(uniform))) / temperature).softmax(dim=1)


def skipping_loss(logits: Mapping[str, torch.Tensor], open_blocks: Sequence[int]) -> torch.Tensor:
    """Sum over tasks of the mean cross entropy of `open_blocks` towards skipping: fewer blocks run."""
    rows = list(open_blocks)
    total: torch.Tensor = sum(-table[rows].log_softmax(1)[:, 1].mean() for table in logits.values())  # type: ignore[assignment]
    return total


def sharing_loss(logits: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Sum over pairs of tasks and blocks l = 0..L-1 of (l + 1) / L * |difference of their run logits|.

    Late blocks weigh more, as written in the specification; equal policies cost nothing.
    """
    tables = list(logits.values())
    count = len(tables[0])
    weights = torch.arange(1, count + 1, device=tables[0].device) / count
    total = torch.zeros((), device=tables[0].device)
    for place, one in enumerate(tables):
        for other in tables[place + 1 :]:
            total = total + (weights * (one[:, 0] - other[:, 0]).abs()).sum()
    return total


def drawn_policy(logits: torch.Tensor, generator: torch.Generator) -> list[bool]:
    """Run or skip for every block, each drawn with the softmax of its logits."""
    run = logits.detach().cpu().softmax(1)[:, 0]
    return [bool(one) for one in torch.rand(len(run), generator=generator) < run]
