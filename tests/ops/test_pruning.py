from __future__ import annotations

import pytest

from polypath.ops.pruning import cubic_sparsity, nested_units


def test_sparsity_grows_by_the_cube_of_what_is_left() -> None:
    assert cubic_sparsity(0.0, 0.8, 0.0) == 0.0
    assert cubic_sparsity(0.0, 0.8, 0.5) == pytest.approx(0.8 - 0.8 / 8)
    assert cubic_sparsity(0.2, 0.3, 0.5) == pytest.approx(0.3 - 0.1 / 8)
    assert cubic_sparsity(0.2, 0.3, 1.0) == 0.3
    assert cubic_sparsity(0.2, 0.3, 7.0) == 0.3


def test_units_that_give_levels_their_part_of_the_weights() -> None:
    # Two levels, half and whole: c^2 = T / 2 and (1 - c) = T / 2, so c is the golden section.
    assert nested_units((0.5, 1.0)) == pytest.approx((0.6180339887, 1.0))
    for ratios in ((0.4, 0.6, 0.7, 0.8, 1.0), (0.5, 0.8)):
        units = nested_units(ratios)
        steps = [(high - low) * high for low, high in zip((0.0, *units), (*units, 1.0), strict=True)]
        held = [sum(steps[: level + 1]) / sum(steps) for level in range(len(ratios))]
        assert held == pytest.approx(ratios)
