"""Which classes make which task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypath.core.errors import InvalidInput
from polypath.data.partition import deal, lookup, sizes


@given(
    st.integers(1, 10),
    st.integers(2, 10),
    st.integers(0, 5),
    st.sampled_from(["consecutive", "random"]),
    st.integers(0, 9),
)
def test_every_task_has_its_own_classes(tasks, each, unused, order, seed):
    classes = tasks * each + unused
    dealt = deal(classes, tasks, each, order, seed)
    flat = [number for task in dealt for number in task]
    assert [len(task) for task in dealt] == [each] * tasks
    assert len(set(flat)) == len(flat) and set(flat) <= set(range(classes))


@given(st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.permutations(range(n)), st.integers(1, n))))
def test_renumbering_is_a_bijection_for_any_set_of_classes(case):
    classes, order, kept = case
    chosen = list(order)[:kept]
    table = lookup(chosen, classes)
    assert [int(table[number]) for number in chosen] == list(range(kept))
    assert sorted(int(v) for v in table if v >= 0) == list(range(kept))


def test_renumbering_survives_the_case_that_merges_classes_when_done_in_place():
    # classes 3 -> 0, 0 -> 1, 1 -> 2: replacing one after the other in place turns 3 into 0 and then into 1
    assert lookup([3, 0, 1], 4).tolist() == [1, 2, -1, 0]


def test_the_random_order_is_the_seeds():
    assert deal(20, 2, 10, "random", 0) == deal(20, 2, 10, "random", 0) != deal(20, 2, 10, "random", 1)


def test_sizes_are_worked_out_from_either_number():
    assert sizes(100, 10, None) == (10, 10)
    assert sizes(100, None, 20) == (5, 20)
    assert sizes(43, 4, 10) == (4, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, None, None), "tasks or classes_per_task is required"),
        ((43, 5, None), "cannot be dealt out evenly"),
        ((10, 10, None), "a task needs at least two classes"),
        ((10, 5, 3), "need more than the 10 classes"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        sizes(*arguments)
