from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polypath.ops.ownership import binarised, choose, choose_global, compose, pack, share_count, unpack


@pytest.mark.parametrize(
    ("share", "size", "count"),
    [(0.1, 10, 1), (0.2, 10, 2), (0.3, 10, 3), (0.1, 9, 0), (0.25, 10, 2), (1.0, 7, 7), (0.05, 2560, 128)],
)
def test_a_share_is_rounded_down(share: float, size: int, count: int) -> None:
    assert share_count(share, size) == count


@given(size=st.integers(1, 70), data=st.data())
@settings(max_examples=50, deadline=None)
def test_packing_loses_nothing(size: int, data: st.DataObject) -> None:
    held = sorted(data.draw(st.sets(st.integers(0, size - 1))))
    bits = pack(torch.tensor(held, dtype=torch.int64), size)
    assert bits.dtype == torch.uint8 and len(bits) == -(-size // 8)
    assert unpack(bits).tolist() == held
    # NumPy's own packing, least significant bit first
    flags = np.zeros(size, dtype=np.uint8)
    flags[held] = 1
    assert bits.tolist() == np.packbits(flags, bitorder="little").tolist()


def test_the_largest_scores_are_chosen_and_ties_go_to_the_lower_position() -> None:
    scores = torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0])
    assert choose(scores, torch.arange(5), 3).tolist() == [1, 2, 3]
    assert choose(scores, torch.tensor([0, 2, 4]), 2).tolist() == [2, 4]
    assert choose(scores[[0, 2, 4]], torch.tensor([0, 2, 4]), 1).tolist() == [2]


def test_exactly_as_many_are_taken_when_all_scores_are_zero() -> None:
    """The published code thresholds at a percentile and then takes everything."""
    assert choose(torch.zeros(10), torch.arange(10), 2).tolist() == [0, 1]
    assert choose(torch.zeros(10), torch.tensor([5, 6, 9]), 2).tolist() == [5, 6]


def test_too_few_candidates_and_scores_that_are_not_finite_are_errors() -> None:
    with pytest.raises(ValueError, match="3 positions wanted, 2 are free"):
        choose(torch.zeros(4), torch.tensor([0, 1]), 3)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        choose(torch.tensor([0.0, float("nan"), float("inf")]), torch.tensor([0, 1]), 1)
    assert choose(torch.tensor([1.0, float("nan")]), torch.tensor([0]), 1).tolist() == [0]  # not a candidate


def test_over_several_layers_every_one_gets_its_least() -> None:
    scores = [torch.tensor([9.0, 8.0, 7.0]), torch.tensor([1.0, 2.0])]
    chosen = choose_global(scores, [torch.arange(3), torch.arange(2)], 3)
    assert [part.tolist() for part in chosen] == [[0, 1], [1]]
    chosen = choose_global(scores, [torch.arange(3), torch.arange(2)], 3, least=0)
    assert [part.tolist() for part in chosen] == [[0, 1, 2], []]
    with pytest.raises(ValueError, match="6 positions wanted in all, 5 are free"):
        choose_global(scores, [torch.arange(3), torch.arange(2)], 6)


def test_a_weight_is_composed_of_its_owners_values() -> None:
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    weight = compose(5, [torch.tensor([0, 3]), torch.tensor([4])], [first, second])
    assert weight.tolist() == [1.0, 0.0, 0.0, 2.0, 3.0]
    based = compose(5, [torch.tensor([1])], [second], base=torch.full((5,), 7.0))
    assert based.tolist() == [7.0, 3.0, 7.0, 7.0, 7.0]


def test_the_gradient_of_owned_values_is_the_masked_dense_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    at = torch.tensor([0, 2, 5])
    values = torch.randn(3, generator=generator, requires_grad=True)
    other = torch.randn(2, generator=generator)
    inputs, weights = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
    dense = torch.zeros(6).index_put((at,), values.detach()).index_put((torch.tensor([1, 3]),), other)
    dense = dense.requires_grad_()
    for weight in (dense, compose(6, [at, torch.tensor([1, 3])], [values, other])):
        ((inputs @ weight.view(2, 3).T) * weights).sum().backward()
    assert dense.grad is not None and values.grad is not None
    assert torch.equal(values.grad, dense.grad[at])


def test_an_owner_of_the_whole_layer_is_the_layer() -> None:
    values = torch.arange(4.0)
    assert compose(4, [torch.arange(4)], [values]) is values


def test_a_binary_mask_lets_gradients_straight_through() -> None:
    real = torch.tensor([0.1, 0.3], requires_grad=True)
    mask = binarised(real, 0.2)
    (mask * torch.tensor([5.0, 7.0])).sum().backward()
    assert mask.tolist() == [0.0, 1.0]
    assert real.grad is not None and real.grad.tolist() == [5.0, 7.0]
