"""Decompositions of stacked filters: full ranks lose nothing, lower ones what singular value decompositions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polypath.ops.tensors import Form, decomposed, factor_shapes, recomposed

SHAPE = (4, 3, 3, 3, 5)


def stack(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("form", ["tucker", "tt", "laf"])
def test_full_ranks_give_every_tasks_filters_back(form: Form) -> None:
    values = stack()
    factors, vectors = decomposed(form, values)
    shapes, length = factor_shapes(form, SHAPE)
    assert {name: tuple(value.shape) for name, value in factors.items()} == shapes
    assert vectors.shape == (5, length)
    for task in range(5):
        found = recomposed(form, factors, vectors[task], SHAPE[:-1])
        torch.testing.assert_close(found, values[..., task], rtol=1e-10, atol=1e-12)


def test_flattening_cut_to_rank_two_is_the_best_matrix_of_rank_two() -> None:
    values = stack()
    factors, vectors = decomposed("laf", values, rank=0.4)
    matrix = values.reshape(-1, 5).numpy()
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    expected = (u[:, :2] * s[:2]) @ v[:2]
    found = torch.stack([recomposed("laf", factors, vector, SHAPE[:-1]).flatten() for vector in vectors], dim=1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_shapes_of_factors_by_hand() -> None:
    """Tucker's ranks are min(side, product of the others); a train's are bounded from both ends."""
    assert factor_shapes("laf", SHAPE) == ({"basis": (108, 5)}, 5)
    tucker, length = factor_shapes("tucker", SHAPE)
    assert tucker == {
        "outputs": (4, 4),
        "inputs": (3, 3),
        "height": (3, 3),
        "width": (3, 3),
        "core": (4 * 3 * 3 * 3, 5),
    }
    assert length == 5
    train, length = factor_shapes("tt", SHAPE)
    assert train == {"outputs": (1, 4, 4), "inputs": (4, 3, 12), "height": (12, 3, 15), "width": (15, 3, 5)}
    assert length == 5


@pytest.mark.parametrize("form", ["tucker", "tt"])
def test_tensors_of_low_rank_need_no_more(form: Form) -> None:
    """One filter times five numbers: rank 1 in every unfolding."""
    parts = [torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in SHAPE]
    values = torch.einsum("o,i,h,w,t->oihwt", *parts)
    factors, vectors = decomposed(form, values, rank=0.01)
    assert vectors.shape == (5, 1)
    found = recomposed(form, factors, vectors[3], SHAPE[:-1])
    torch.testing.assert_close(found, values[..., 3], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["tucker", "tt", "laf"])
def test_filters_can_be_made_under_autocast(form: Form) -> None:
    factors, vectors = decomposed(form, stack().float())
    expected = recomposed(form, factors, vectors[1], SHAPE[:-1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = recomposed(form, factors, vectors[1], SHAPE[:-1])
    assert float((found.float() - expected).abs().max()) <= 0.05 * float(expected.abs().max())
