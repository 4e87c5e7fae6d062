"""AdaShare's tensors against NumPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polypath.ops.policies import drawn_policy, sharing_loss, skipping_loss, soft_sample


def test_soft_samples_follow_the_softmax_of_the_logits_and_sharpen_when_it_cools() -> None:
    """Gumbel-max: the larger entry is the first one with probability softmax(logits)[0]."""
    logits = torch.tensor([[1.0, 0.0]]).expand(20_000, 2)
    stream = torch.Generator().manual_seed(0)
    found = soft_sample(logits, 5.0, stream)
    assert torch.allclose(found.sum(1), torch.ones(20_000))
    expected = float(np.exp(1) / (np.exp(1) + 1))
    assert float((found[:, 0] > 0.5).float().mean()) == pytest.approx(expected, abs=4 * 0.5 / 20_000**0.5)
    cold = soft_sample(logits, 0.01, torch.Generator().manual_seed(0))
    assert float(cold.amax(1).mean()) > 0.98 > float(found.amax(1).mean())


def test_skipping_costs_the_cross_entropy_towards_skip_of_the_open_blocks() -> None:
    table = torch.tensor([[0.0, 0.0], [2.0, -1.0]])
    alone = np.log(1 + np.exp(3.0))  # -log softmax([2, -1])[1]
    assert float(skipping_loss({"a": table}, [1])) == pytest.approx(alone, rel=1e-6)
    assert float(skipping_loss({"a": table, "b": table}, [0, 1])) == pytest.approx(np.log(2) + alone, rel=1e-6)


def test_sharing_costs_differences_of_run_logits_and_late_blocks_more() -> None:
    a, b = torch.tensor([[1.0, 9.0], [1.0, 9.0]]), torch.tensor([[0.0, 5.0], [3.0, 5.0]])
    assert float(sharing_loss({"a": a, "b": b})) == pytest.approx(1 / 2 * 1 + 2 / 2 * 2)
    assert float(sharing_loss({"a": a, "b": a.clone()})) == 0
    assert float(sharing_loss({"a": a, "b": b, "c": b})) == pytest.approx(2 * 2.5)


def test_policies_are_drawn_with_the_probability_of_running() -> None:
    logits = torch.tensor([[30.0, -30.0], [-30.0, 30.0], [0.0, 0.0]])
    draws = [drawn_policy(logits, torch.Generator().manual_seed(seed)) for seed in range(50)]
    assert all(run and not skip for run, skip, _ in draws)
    assert 10 < sum(last for _, _, last in draws) < 40
