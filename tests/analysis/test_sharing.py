"""Sharing profile of a network, counted by hand."""

import pytest

from polypath.analysis import sharing_profile


def test_profile_of_a_grid(tiny):
    _, Grid, task = tiny
    network = Grid(layers=2, modules=3).add(task("a"), [[0, 1], [0, 1]]).add(task("b"), [[0, 2], [1, 2]])
    found = sharing_profile(network)
    # layer 0: m0 both, m1 and m2 one; layer 1: m1 both, m0 and m2 one
    assert found["observed"] == [0, 4, 2]
    # each of 6 modules: p = 2/3, two tasks
    assert found["expected"] == pytest.approx([6 / 9, 6 * 4 / 9, 6 * 4 / 9])


def test_unused_modules_are_counted_and_uneven_paths_have_no_expectation(network):
    # l0.m0 both; l0.m1 l0.m2 l1.m0 l1.m1 l1.m2 one: layer 1 differs in width between the tasks
    assert sharing_profile(network) == {"observed": [0, 5, 1]}


def test_modules_that_nobody_uses_count_as_zero_tasks(tiny):
    _, Grid, task = tiny
    found = sharing_profile(Grid(layers=1, modules=5).add(task("a"), [[3]]))
    assert found == {"observed": [4, 1], "expected": [pytest.approx(4), pytest.approx(1)]}


def test_without_anything_to_share_there_is_no_profile(tiny):
    _, Grid, task = tiny
    assert sharing_profile(Grid(layers=0).add(task("a"), [])) == {}
