"""Centred kernel alignment: how alike two representations of the same n inputs are, from 0 to 1.

CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) for the n x n kernel matrices K and L of the two representations. Both
estimates of HSIC are inner products of centred kernel matrices, so that many pairs cost one product. Everything is
computed in float64 on the device of the features.

Sources: Kornblith et al. 2019 (CKA, RBF bandwidth); Song et al. 2012, equation 5 (unbiased HSIC), in the form of
Szekely and Rizzo 2014 (U-centring); Nguyen, Raghu and Kornblith 2021, equation 3 (mini-batches); PaRT section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

# Centred matrices below this share of what they came from are rounding: a representation that says nothing.
_ROUNDING = 1e-12


def linear_cka(x: torch.Tensor, y: torch.Tensor, *, debiased: bool = False) -> float:
    """CKA with the linear kernel.

    Args:
        x: (n, ...) representation, flattened per row.
        y: (n, ...) another one of the same n inputs in the same order; its width may differ.
        debiased: use the unbiased HSIC (n of at least 4). Near 0 for unrelated representations, also slightly below,
            where the biased one grows with width / n.

    Returns:
        0 where a representation is constant, although the ratio is undefined there.

    Raises:
        ValueError: different n, or too few rows.
    """
    return cka(linear_gram(x), linear_gram(y), debiased=debiased)


def rbf_cka(x: torch.Tensor, y: torch.Tensor, *, fraction: float = 0.5, debiased: bool = False) -> float:
    """CKA with Gaussian kernels, each with its own bandwidth (see `rbf_gram`); otherwise as `linear_cka`."""
    return cka(rbf_gram(x, fraction), rbf_gram(y, fraction), debiased=debiased)


def cka(gram_x: torch.Tensor, gram_y: torch.Tensor, *, debiased: bool = False) -> float:
    """CKA of two kernel matrices (n, n); see `linear_cka`."""
    return float(cka_table([gram_x], [gram_y], debiased=debiased))


def cka_table(rows: Sequence[torch.Tensor], columns: Sequence[torch.Tensor], *, debiased: bool = False) -> torch.Tensor:
    """CKA of every kernel matrix in `rows` with every one in `columns`, (len(rows), len(columns)) float64.

    Cost: each matrix is centred once; then one product over n * n.
    """
    return _ratios(*_inner_products(rows, columns, debiased))


def hsic(gram_x: torch.Tensor, gram_y: torch.Tensor, *, debiased: bool = False) -> float:
    """Hilbert-Schmidt independence criterion of two kernel matrices (n, n).

    Biased: tr(K H L H) / (n - 1)^2 with H = I - 11'/n. Debiased: Song et al., equation 5; its expectation does not
    depend on n and is 0 for independent representations. Factors of n cancel in CKA.
    """
    _same_rows([gram_x], [gram_y])
    n = len(gram_x)
    product = (centred(gram_x, debiased) * centred(gram_y, debiased)).sum()
    return float(product) / (n * (n - 3) if debiased else (n - 1) ** 2)


def centred(gram: torch.Tensor, debiased: bool = False) -> torch.Tensor:
    """H K H, or its U-centred counterpart with zero diagonal, (n, n) float64; exactly 0 for a constant kernel.

    Raises:
        ValueError: not square, n < 2, or n < 4 with `debiased`.
    """
    n = len(gram)
    if gram.ndim != 2 or gram.shape[1] != n:
        raise ValueError(f"a kernel matrix must be square, received shape {tuple(gram.shape)}")
    least = 4 if debiased else 2
    if n < least:
        kind = "debiased CKA divides by n - 3 and" if debiased else "CKA"
        raise ValueError(f"{kind} needs at least {least} samples, received {n}")
    size = torch.linalg.matrix_norm(gram.double())
    # Centring removes any constant; taking one off first makes constant kernels vanish without rounding.
    values = gram.double() - gram[0, 1].double()
    if debiased:
        values.fill_diagonal_(0.0)
        sums = values.sum(0) / (n - 2)
        values = values - sums[:, None] - sums[None, :] + sums.sum() / (n - 1)
        values.fill_diagonal_(0.0)
    else:
        means = values.mean(0)
        values = values - means[:, None] - means[None, :] + means.mean()
    return values if torch.linalg.matrix_norm(values) > _ROUNDING * size else torch.zeros_like(values)


def linear_gram(x: torch.Tensor) -> torch.Tensor:
    """Inner products (n, n) float64 of the rows of x (n, ...), measured from the first row.

    CKA does not depend on the origin; this one makes a constant representation exactly 0 and keeps large offsets out
    of the rounding. Cost: n * n * width multiply-accumulates; no float64 copy of x is made.
    """
    rows = x.detach().reshape(len(x), -1)
    width = max(1, 2**22 // max(1, len(rows)))  # columns at a time: 32 MiB of float64
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=x.device)
    for start in range(0, rows.shape[1], width):
        values = rows[:, start : start + width].double()
        values = values - values[:1]
        gram.addmm_(values, values.T)
    return gram


def rbf_gram(x: torch.Tensor, fraction: float = 0.5) -> torch.Tensor:
    """Gaussian kernel exp(-d^2 / (2 sigma^2)), (n, n) float64, with sigma = fraction * median pairwise distance.

    The median is over the n (n - 1) / 2 pairs of different rows of this representation. Where it is 0 (more than half
    of the pairs coincide) the kernel is the limit of a vanishing sigma: 1 for equal rows, else 0.

    Args:
        x: (n, ...) one representation.
        fraction: above 0; small values look at near neighbours only, large ones approach the linear kernel.
    """
    if not (fraction > 0 and math.isfinite(fraction)):
        raise ValueError(f"fraction must be above 0 and finite, received {fraction}")
    squares = squared_distances(x)
    sigma = fraction * _median_distance(squares)
    if sigma == 0:
        return (squares == 0).double()
    return torch.exp(squares / (-2 * sigma**2))


def squared_distances(x: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances (n, n) float64 between the rows of x (n, ...); equal rows are exactly 0 apart."""
    gram = linear_gram(x)
    lengths = gram.diagonal()
    both = lengths[:, None] + lengths[None, :]
    squares = both - 2 * gram
    # what is left of a difference of equal numbers: far below what float32 features can tell apart (1e-7 in d)
    return torch.where(squares <= 1e-14 * both, 0.0, squares).fill_diagonal_(0.0)


def _median_distance(squares: torch.Tensor) -> float:
    n = len(squares)
    if n < 2:
        raise ValueError(f"CKA needs at least 2 samples, received {n}")
    above = torch.ones(n, n, dtype=torch.bool, device=squares.device).triu(1)
    pairs = squares[above]
    low = pairs.kthvalue((len(pairs) + 1) // 2).values.sqrt()
    high = pairs.kthvalue(len(pairs) // 2 + 1).values.sqrt()
    return float((low + high) / 2)


class MinibatchCKA:
    """CKA of many representations with many others over more samples than one kernel matrix can hold.

    Averages the unbiased HSIC of every batch before taking the ratio, so that the result does not depend on the batch
    size but for noise (Nguyen et al. 2021). It estimates the debiased CKA; with Gaussian kernels the bandwidth is that
    of each batch. Memory: one batch.
    """

    def __init__(self, kernel: str = "linear", fraction: float = 0.5) -> None:
        if kernel not in ("linear", "rbf"):
            raise ValueError(f"kernel must be 'linear' or 'rbf', received {kernel!r}")
        self.kernel, self.fraction = kernel, fraction
        self._sums: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def update(self, rows: Sequence[torch.Tensor], columns: Sequence[torch.Tensor]) -> None:
        """Add one batch.

        Args:
            rows: (n, ...) representations of n inputs, n of at least 4; as many at every call.
            columns: (n, ...) other representations of the same inputs, to be compared with each of `rows`.
        """
        grams = [[self._gram(x) for x in side] for side in (rows, columns)]
        n = len(rows[0])
        new = [part / (n * (n - 3)) for part in _inner_products(grams[0], grams[1], True)]
        if self._sums is None:
            self._sums = (new[0], new[1], new[2])
        else:
            a, b, c = self._sums
            self._sums = (a + new[0], b + new[1], c + new[2])

    def table(self) -> torch.Tensor:
        """CKA so far, (rows, columns) float64."""
        if self._sums is None:
            raise ValueError("CKA needs at least one batch; call update first")
        return _ratios(*self._sums)

    def _gram(self, x: torch.Tensor) -> torch.Tensor:
        return linear_gram(x) if self.kernel == "linear" else rbf_gram(x, self.fraction)


class LinearCKA:
    """Linear CKA over any number of samples, batch by batch and exact: equal to `linear_cka` on all of them.

    Keeps moments in float64: memory grows with the widths, (p + q)^2 numbers, and not with n. For wide
    representations of few samples `linear_gram` is the cheaper way.
    """

    def __init__(self, *, debiased: bool = False) -> None:
        self.debiased = debiased
        self._origin: torch.Tensor | None = None
        self._widths = (0, 0)
        self._n = 0

    def update(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add one batch: x (n, ...) and y (n, ...) of the same inputs; widths as at the first call."""
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(f"both representations need the same n of at least 1, received {len(x)} and {len(y)}")
        parts = [side.detach().reshape(len(side), -1).double() for side in (x, y)]
        widths = (parts[0].shape[1], parts[1].shape[1])
        both = torch.cat(parts, 1)
        if self._origin is None:
            # one origin for all batches keeps large offsets out of the sums; CKA does not depend on it
            self._origin, self._widths = both[0].clone(), widths
            size = sum(widths)
            self._total, self._second = both.new_zeros(size), both.new_zeros(size, size)
            self._third, self._fourth = both.new_zeros(2, size), both.new_zeros(2, 2)
        if widths != self._widths:
            raise ValueError(f"widths must stay {self._widths}, received {widths}")
        both = both - self._origin
        squares, p = both.square(), widths[0]
        lengths = torch.stack([squares[:, :p].sum(1), squares[:, p:].sum(1)], 1)
        self._n += len(both)
        self._total += both.sum(0)
        self._second.addmm_(both.T, both)
        self._third.addmm_(lengths.T, both)
        self._fourth.addmm_(lengths.T, lengths)

    def value(self) -> float:
        """CKA of everything so far; see `linear_cka`."""
        least = 4 if self.debiased else 2
        if self._n < least:
            raise ValueError(f"CKA needs at least {least} samples (4 when debiased), received {self._n}")
        cross = torch.stack([torch.stack([self._product(i, j) for j in (0, 1)]) for i in (0, 1)])
        return float(_ratios(cross[:1, 1:], cross[0, 0].reshape(1), cross[1, 1].reshape(1)))

    def _product(self, i: int, j: int) -> torch.Tensor:
        """Inner product of the centred kernel matrices of sides i and j, from moments alone.

        Biased: the squared norm of the centred cross product. Debiased: the three terms of Song et al., with the
        kernel's diagonal (squared lengths) taken out of each.
        """
        n, (p, _) = self._n, self._widths
        a, b = (slice(0, p) if side == 0 else slice(p, None) for side in (i, j))
        block, s, t = self._second[a, b], self._total[a], self._total[b]
        if not self.debiased:
            centred_block = block - torch.outer(s, t) / n
            limit = _ROUNDING * torch.linalg.matrix_norm(block)
            norm = torch.linalg.matrix_norm(centred_block)
            return norm.square() if norm > limit else torch.zeros_like(norm)
        lengths = [self._second[side, side].diagonal().sum() for side in (a, b)]
        trace = block.square().sum() - self._fourth[i, j]
        sums = (s.square().sum() - lengths[0]) * (t.square().sum() - lengths[1])
        ends = s @ block @ t - self._third[j, a] @ s - self._third[i, b] @ t + self._fourth[i, j]
        return trace + sums / ((n - 1) * (n - 2)) - 2 * ends / (n - 2)


def _inner_products(
    rows: Sequence[torch.Tensor], columns: Sequence[torch.Tensor], debiased: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the centred matrices: every row with every column, (r, c); every row and every column with itself."""
    _same_rows(rows, columns)
    left = [centred(gram, debiased) for gram in rows]
    right = [centred(gram, debiased) for gram in columns]
    cross = torch.stack([torch.stack([(a * b).sum() for b in right]) for a in left])
    return cross, torch.stack([a.square().sum() for a in left]), torch.stack([b.square().sum() for b in right])


def _ratios(cross: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    scale = left.clamp_min(0).sqrt()[:, None] * right.clamp_min(0).sqrt()[None, :]
    return torch.where(scale > 0, cross / torch.where(scale > 0, scale, 1.0), 0.0)


def _same_rows(rows: Sequence[torch.Tensor], columns: Sequence[torch.Tensor]) -> None:
    if not rows or not columns:
        raise ValueError("CKA needs at least one representation on each side")
    counts = sorted({len(gram) for gram in (*rows, *columns)})
    if len(counts) > 1:
        raise ValueError(f"CKA is only defined for the same inputs on both sides, received {counts} samples")
