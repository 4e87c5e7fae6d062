"""Index streams and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polypath.core.errors import InvalidInput
from polypath.core.examples import HorizontalFlip
from polypath.data import arrays
from polypath.data.batches import chunks, epoch_indices, load, oversampled, stream


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(**options):
    x = torch.arange(10 * 3 * 4 * 4).reshape(10, 3, 4, 4).to(torch.uint8)
    return arrays("pictures", (x, torch.arange(10) % 2), labels=("even", "odd"), **options)


@given(st.integers(1, 50), st.integers(1, 60))
def test_an_epoch_holds_every_row_once(n, size):
    batches = epoch_indices(n, size, generator())
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert all(len(batch) == size for batch in batches[:-1])
    kept = epoch_indices(n, size, generator(), drop_last=True)
    assert [batch.tolist() for batch in kept] == [batch.tolist() for batch in batches if len(batch) == size]


@given(st.integers(1, 30), st.integers(0, 70))
def test_oversampling_is_full_passes_and_a_random_remainder(n, extra):
    rows = oversampled(n, n + extra, generator())
    counts = torch.bincount(rows, minlength=n)
    assert len(rows) == n + extra
    assert counts.min() >= (n + extra) // n and counts.max() - counts.min() <= 1


def test_oversampling_and_epochs_are_the_generators():
    assert oversampled(7, 20, generator()).tolist() == oversampled(7, 20, generator()).tolist()
    assert oversampled(7, 20, generator()).tolist() != oversampled(7, 20, generator(1)).tolist()


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(InvalidInput, match="at least 5 examples must be wanted of 5, received 4"):
        oversampled(5, 4, generator())
    with pytest.raises(InvalidInput, match="batch size"):
        chunks(torch.arange(3), 0)


def test_a_batch_is_taken_augmented_and_encoded():
    data = pictures(normalise={"mean": [0.5] * 3, "std": [0.25] * 3}, augment=[HorizontalFlip(p=1)])
    rows = torch.tensor([4, 0])
    plain = load(data, rows, augment=False)
    flipped = load(data, rows, generator=generator())
    raw = data.train.inputs(rows).float() / 255
    assert torch.equal(plain.inputs, (raw - 0.5) / 0.25)
    assert torch.equal(flipped.inputs, (raw.flip(-1) - 0.5) / 0.25)
    assert torch.equal(plain.targets, data.train.targets[rows])


def test_augmentation_without_a_generator_is_refused():
    with pytest.raises(InvalidInput, match="a generator is required"):
        load(pictures(augment="part"), torch.tensor([0]))


def test_regression_targets_are_scaled_by_the_training_rows():
    y = np.array([1.0, 3.0, 5.0, 7.0])  # mean 4, deviation sqrt(5)
    data = arrays("price", (np.eye(4, dtype=np.float32), y), test=(np.ones((1, 4), np.float32), np.array([100.0])))
    batch = load(data, torch.arange(4))
    expected = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]]) / 5**0.5
    torch.testing.assert_close(batch.targets, expected)  # float32 rounding
    assert data.train.targets.flatten().tolist() == y.tolist()
    assert data.task.target.mean == (4.0,)


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_gives_the_same_batches_for_any_number_of_workers(workers):
    data = pictures(augment="part")
    batches = [torch.tensor([3, 1]), torch.tensor([0]), torch.tensor([9, 9, 2])]
    before = torch.get_rng_state()
    one = generator()
    expected = [load(data, rows, generator=one) for rows in batches]
    found = list(stream(data, batches, generator=generator(), workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(batch) for batch in found] == [2, 1, 3]
    for batch, wanted in zip(found, expected, strict=True):
        assert torch.equal(batch.inputs, wanted.inputs) and torch.equal(batch.targets, wanted.targets)
