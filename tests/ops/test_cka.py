"""CKA: its laws on random representations, and its values against NumPy written from the formulas."""

import numpy as np
import pytest
import torch

from polypath.ops.cka import (
    LinearCKA,
    MinibatchCKA,
    cka_table,
    hsic,
    linear_cka,
    linear_gram,
    rbf_cka,
    rbf_gram,
    squared_distances,
)

KINDS = [(linear_cka, False), (linear_cka, True), (rbf_cka, False), (rbf_cka, True)]
kinds = pytest.mark.parametrize(("cka", "debiased"), KINDS)


def pair(seed, n=30, p=7, q=11):
    """Two related representations with different widths and large offsets."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=generator)
    y = x @ torch.randn(p, q, generator=generator) + 2 * torch.randn(n, q, generator=generator)
    return x + 5, y.relu() * 3 - 20


def rotation(size, seed):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).double()).Q


def numpy_cka(gram_x, gram_y, debiased):
    """The definition: tr(KHLH), or the unbiased estimate of Song et al. 2012, equation 5."""
    n = len(gram_x)

    def numpy_hsic(a, b):
        if not debiased:
            h = np.eye(n) - 1 / n
            return np.trace(a @ h @ b @ h) / (n - 1) ** 2
        a, b, one = a - np.diag(np.diag(a)), b - np.diag(np.diag(b)), np.ones(n)
        middle = (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
        return (np.trace(a @ b) + middle - 2 / (n - 2) * one @ a @ b @ one) / (n * (n - 3))

    value = numpy_hsic(gram_x, gram_y)
    return value / np.sqrt(numpy_hsic(gram_x, gram_x) * numpy_hsic(gram_y, gram_y)), value


def numpy_rbf(x, fraction):
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    sigma = fraction * np.median(distances[np.triu_indices(len(x), 1)])
    return np.exp(-(distances**2) / (2 * sigma**2))


@kinds
@pytest.mark.parametrize("seed", range(3))
def test_a_representation_is_entirely_like_itself(cka, debiased, seed):
    x, _ = pair(seed)
    assert cka(x, x, debiased=debiased) == pytest.approx(1, abs=1e-12)


@kinds
@pytest.mark.parametrize("seed", range(3))
def test_symmetric(cka, debiased, seed):
    x, y = pair(seed)
    assert cka(x, y, debiased=debiased) == pytest.approx(cka(y, x, debiased=debiased), abs=1e-12)


@kinds
@pytest.mark.parametrize("seed", range(3))
def test_rotation_scaling_and_shift_change_nothing(cka, debiased, seed):
    x, y = (side.double() for side in pair(seed))
    value = cka(x, y, debiased=debiased)
    assert cka(x @ rotation(7, seed), y, debiased=debiased) == pytest.approx(value, abs=1e-10)
    assert cka(x * 1e3, y * 1e-3, debiased=debiased) == pytest.approx(value, abs=1e-10)
    assert cka(x + 100, y - 7, debiased=debiased) == pytest.approx(value, abs=1e-10)


@kinds
def test_order_of_the_inputs_matters_only_between_the_sides(cka, debiased):
    x, y = pair(0)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    value = cka(x, y, debiased=debiased)
    assert cka(x[order], y[order], debiased=debiased) == pytest.approx(value, abs=1e-12)
    assert cka(x[order], y, debiased=debiased) < value - 0.05


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n", [6, 31])
def test_values_are_numpys(debiased, n):
    x, y = (side.double() for side in pair(3, n=n))
    linear = [side.numpy() @ side.numpy().T for side in (x, y)]
    value, raw = numpy_cka(*linear, debiased)
    assert linear_cka(x, y, debiased=debiased) == pytest.approx(value, abs=1e-10)
    assert hsic(linear_gram(x), linear_gram(y), debiased=debiased) == pytest.approx(raw, rel=1e-9)
    for fraction in (0.2, 0.5, 2.0):
        grams = [numpy_rbf(side.numpy(), fraction) for side in (x, y)]
        value, raw = numpy_cka(*grams, debiased)
        assert rbf_cka(x, y, fraction=fraction, debiased=debiased) == pytest.approx(value, abs=1e-10)
        assert hsic(rbf_gram(x, fraction), rbf_gram(y, fraction), debiased=debiased) == pytest.approx(raw, rel=1e-9)


def test_linear_cka_by_hand():
    # x = (0, 0, 3), y = (0, 3, 0): centred (-1, -1, 2) and (-1, 2, -1); squared cosine = (-3 / 6)^2
    assert linear_cka(torch.tensor([[0.0], [0], [3]]), torch.tensor([[0.0], [3], [0]])) == pytest.approx(0.25)


def test_debiasing_takes_the_similarity_out_of_unrelated_wide_representations():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 400, generator=generator), torch.randn(40, 400, generator=generator)
    assert linear_cka(x, y) > 0.8
    assert abs(linear_cka(x, y, debiased=True)) < 0.1


@kinds
@pytest.mark.parametrize("constant", [0.0, 0.1, 12345.678])
def test_a_constant_representation_is_like_nothing(cka, debiased, constant):
    x, _ = pair(0)
    flat = torch.full((30, 13), constant)
    assert cka(x, flat, debiased=debiased) == 0.0
    assert cka(flat, x, debiased=debiased) == 0.0
    assert cka(flat, flat, debiased=debiased) == 0.0


def test_mostly_equal_rows_fall_back_to_equal_or_not():
    # five of six rows coincide, so the median distance is 0; both sides single out the same row
    x, y = torch.zeros(6, 3), torch.zeros(6, 2)
    x[2], y[2] = 4.0, -1.0
    assert rbf_gram(x).tolist() == [[float((i == 2) == (j == 2)) for j in range(6)] for i in range(6)]
    assert rbf_cka(x, y) == pytest.approx(1.0)


def test_distances_of_equal_rows_are_zero_however_far_out():
    x = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).repeat(8, 1) * 1e4
    x[0] = 0
    found = squared_distances(x)
    assert (found[1:, 1:] == 0).all()
    assert found[0, 1] == pytest.approx(float(x[1].double().square().sum()))


def test_wide_representations_are_taken_in_parts():
    x = torch.randn(3, 2**21 // 3 * 3, generator=torch.Generator().manual_seed(0))
    centre = x.double() - x[:1].double()
    torch.testing.assert_close(linear_gram(x), centre @ centre.T, rtol=1e-12, atol=1e-6)


def test_maps_are_flattened_per_sample():
    x, y = torch.randn(9, 2, 3, 3, generator=torch.Generator().manual_seed(0)), pair(0)[1][:9]
    assert rbf_cka(x, y) == rbf_cka(x.reshape(9, 18), y)


def test_a_table_holds_every_pair():
    x, y = pair(0)
    z = x.tanh()
    grams = [linear_gram(side) for side in (x, y, z)]
    found = cka_table(grams[:2], grams, debiased=True)
    assert found.shape == (2, 3)
    for i, row in enumerate((x, y)):
        for j, column in enumerate((x, y, z)):
            assert float(found[i, j]) == pytest.approx(linear_cka(row, column, debiased=True), abs=1e-12)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("sizes", [(30,), (1, 10, 19), (7, 7, 7, 7, 2)])
def test_streamed_linear_cka_is_exact(debiased, sizes):
    x, y = pair(5)
    x = x + 1000  # a large offset must not cost digits
    streamed = LinearCKA(debiased=debiased)
    for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
        streamed.update(a, b)
    assert streamed.value() == pytest.approx(linear_cka(x, y, debiased=debiased), abs=1e-11)


@pytest.mark.parametrize("debiased", [False, True])
def test_streamed_linear_cka_of_a_constant_is_zero(debiased):
    x, _ = pair(0)
    streamed = LinearCKA(debiased=debiased)
    streamed.update(x, torch.full((30, 4), 0.1))
    assert streamed.value() == 0.0


@pytest.mark.parametrize(("kernel", "cka"), [("linear", linear_cka), ("rbf", rbf_cka)])
def test_one_minibatch_is_the_debiased_cka(kernel, cka):
    x, y = pair(1)
    found = MinibatchCKA(kernel)
    found.update([x, y], [y])
    assert found.table().flatten().tolist() == pytest.approx([cka(x, y, debiased=True), 1.0], abs=1e-12)


def test_minibatches_average_hsic_before_the_ratio():
    x, y = (side.double() for side in pair(2, n=24))
    found = MinibatchCKA()
    sums = np.zeros(3)
    for a, b in zip(x.split(8), y.split(8), strict=True):
        found.update([a], [b])
        k, m = (side.numpy() @ side.numpy().T for side in (a, b))
        sums += [numpy_cka(k, m, True)[1], numpy_cka(k, k, True)[1], numpy_cka(m, m, True)[1]]
    assert float(found.table()) == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-10)


def test_small_minibatches_come_close_to_all_samples_at_once():
    # the biased estimate of a batch of 8 of width 40 would be near 0.9 whatever the truth
    x, y = pair(4, n=4000, p=40, q=40)
    truth = linear_cka(x, y, debiased=True)
    found = MinibatchCKA()
    for a, b in zip(x.split(8), y.split(8), strict=True):
        found.update([a], [b])
    assert float(found.table()) == pytest.approx(truth, abs=0.03)
    assert abs(linear_cka(x[:8], y[:8]) - truth) > 0.15


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear_cka(torch.eye(3, 2), torch.eye(3, 2), debiased=True), "at least 4 samples, received 3"),
        (lambda: rbf_cka(torch.eye(3, 2), torch.eye(3, 2), debiased=True), "at least 4 samples, received 3"),
        (lambda: linear_cka(torch.eye(1, 2), torch.eye(1, 2)), "at least 2 samples, received 1"),
        (lambda: rbf_cka(torch.eye(1, 2), torch.eye(1, 2)), "at least 2 samples, received 1"),
        (lambda: linear_cka(torch.eye(5, 2), torch.eye(6, 2)), "same inputs on both sides"),
        (lambda: rbf_gram(torch.eye(5, 2), 0.0), "fraction must be above 0"),
        (lambda: rbf_gram(torch.eye(5, 2), float("nan")), "fraction must be above 0"),
        (lambda: cka_table([], []), "at least one representation"),
        (lambda: MinibatchCKA("cosine"), "kernel must be"),
        (lambda: MinibatchCKA().table(), "at least one batch"),
        (lambda: MinibatchCKA().update([torch.eye(3, 2)], [torch.eye(3, 2)]), "at least 4 samples"),
        (lambda: LinearCKA().update(torch.eye(3, 2), torch.eye(2, 2)), "same n"),
        (lambda: LinearCKA().value(), "at least 2 samples"),
    ],
)
def test_what_has_no_cka_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
