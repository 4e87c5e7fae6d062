"""Generated filters against sums written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from polypath.ops.filters import (
    base_size_of,
    contracted,
    contracted_twice,
    deconvolved,
    direct,
    glorot_limit,
    kernel_size_of,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("base", "kernel"), [(2, 3), (3, 5), (6, 11), (1, 1), (4, 7)])
def test_the_papers_bases_make_the_papers_kernels(base: int, kernel: int) -> None:
    assert kernel_size_of(base) == kernel and base_size_of(kernel) == base


@pytest.mark.parametrize(("kernel", "stride", "nearest"), [(4, 2, "3 and 5"), (2, 2, "1 and 3"), (6, 3, "4 and 7")])
def test_a_kernel_out_of_reach_names_the_nearest(kernel: int, stride: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"side {kernel} .* nearest are {nearest}"):
        base_size_of(kernel, stride)


def test_deconvolution_places_every_base_value_two_apart() -> None:
    """Written out: value (y, x) of the base adds its transform around position (2y, 2x) of the filter."""
    base, transform, bias = drawn(1, 2, 2, 2), drawn(2, 3, 3, 3, seed=1), drawn(3, seed=2)
    expected = np.zeros((3, 3, 3)) + bias.numpy()[:, None, None]
    for c in range(2):
        for y in range(2):
            for x in range(2):
                for p in range(3):
                    for q in range(3):
                        row, column = 2 * y + p - 1, 2 * x + q - 1
                        if 0 <= row < 3 and 0 <= column < 3:
                            expected[:, row, column] += float(base[0, c, y, x]) * transform[c, :, p, q].numpy()
    np.testing.assert_allclose(deconvolved(base, transform, bias)[0].numpy(), expected, atol=1e-12)


def test_contraction_is_the_papers_equation_2() -> None:
    basis, mixing = drawn(4, 3, 3), drawn(5, 2, 4, seed=1)
    expected = sum(np.multiply.outer(mixing[:, :, k].numpy(), basis[k].numpy()) for k in range(4))
    np.testing.assert_allclose(contracted(basis, mixing).numpy(), expected, atol=1e-12)


def test_two_contractions_sum_over_maps_and_channels() -> None:
    basis, inputs, outputs = drawn(2, 4, 3, 3), drawn(5, 2, seed=1), drawn(6, 4, seed=2)
    expected = np.einsum("dkhw,id,ok->oihw", basis.numpy(), inputs.numpy(), outputs.numpy())
    np.testing.assert_allclose(contracted_twice(basis, inputs, outputs).numpy(), expected, atol=1e-12)


def test_direct_deals_the_basis_out() -> None:
    basis = drawn(6, 3, 3)
    found = direct(basis, 2)
    assert found.shape == (2, 3, 3, 3)
    assert torch.equal(found[1, 0], basis[3])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: deconvolved(drawn(1, 2, 2, 2), drawn(3, 3, 3, 3), None), "2 channels, but the transform takes 3"),
        (lambda: deconvolved(drawn(1, 2, 2, 2), drawn(2, 3, 4, 4), None), "odd side"),
        (lambda: contracted(drawn(4, 3, 3), drawn(5, 2, 3)), "4 channels, but the contraction takes 3"),
        (lambda: contracted_twice(drawn(2, 4, 3, 3), drawn(5, 3), drawn(6, 4)), "2 maps of 4 channels"),
        (lambda: direct(drawn(5, 3, 3), 2), "cannot be dealt out"),
    ],
)
def test_sizes_that_do_not_match_are_named(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((1, 2, 2, 16), (2 * 2, 2 * 16)),  # knowledge base: fan in w * h, fan out c * h
        ((3, 3, 24, 16), (9 * 24, 9 * 16)),
        ((24, 3, 32), (24 * 3, 24 * 32)),
        ((24,), (1, 24)),
    ],
)
def test_glorot_reads_shapes_as_tensorflow_does(shape: tuple[int, ...], fans: tuple[int, int]) -> None:
    assert glorot_limit(shape) == pytest.approx(math.sqrt(6 / sum(fans)), rel=1e-12)
