"""Sharing profiles: the paper's setting, and small cases by hand."""

from itertools import combinations, product

import pytest

from polypath.ops.sharing import expected_profile, observed_profile


def test_twelve_modules_four_selected_ten_tasks_nine_layers():
    # the expectation behind PaRT's figure 4, worked out by hand from the formula
    found = expected_profile(9, 12, 4, 10)
    assert [round(value, 1) for value in found[:9]] == [1.9, 9.4, 21.1, 28.1, 24.6, 14.7, 6.1, 1.8, 0.3]
    assert len(found) == 11
    assert sum(found) == pytest.approx(108)
    assert sum(k * value for k, value in enumerate(found)) == pytest.approx(9 * 4 * 10)  # uses


def test_expectation_is_the_mean_over_all_possible_paths():
    # one layer, 3 modules, 2 selected, 2 tasks: all 9 pairs of subsets, counted one by one
    paths = list(combinations("abc", 2))
    counts = [observed_profile(pair, "abc") for pair in product(paths, repeat=2)]
    means = [sum(column) / len(counts) for column in zip(*counts, strict=True)]
    assert expected_profile(1, 3, 2, 2) == pytest.approx(means)


def test_all_selected_and_no_task():
    assert expected_profile(2, 3, 3, 4) == [0, 0, 0, 0, 6]
    assert expected_profile(2, 3, 1, 0) == [6]


def test_observed_counts_each_component_once():
    used = [("a", "b", "a", "head.0"), ("b", "c", "head.1"), ("b",)]
    # a: 1 task, b: 3, c: 1, d: none; heads are not counted
    assert observed_profile(used, ["a", "b", "c", "d"]) == [1, 2, 0, 1]
    assert observed_profile([], ["a", "b"]) == [2]


@pytest.mark.parametrize("counts", [(0, 1, 1, 1), (1, 2, 3, 1), (1, 1, 0, 1), (1, 1, 1, -1)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="received layers="):
        expected_profile(*counts)
