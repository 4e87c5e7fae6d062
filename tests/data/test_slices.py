"""The split language and the stratified shuffle under it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polypath.core.errors import InvalidInput, UnknownName
from polypath.data.slices import Term, parse, select, stratified


@pytest.mark.parametrize(
    ("text", "size", "bounds"),
    [
        ("train", 200, [(0, 200)]),
        ("train[:98%]", 200, [(0, 196)]),
        ("train[98%:]", 200, [(196, 200)]),
        ("train[100:200]", 300, [(100, 200)]),
        ("train[-10:]", 300, [(290, 300)]),
        ("train[:2%]+train[-2%:]", 200, [(0, 4), (196, 200)]),
        ("train[:1%]", 149, [(0, 1)]),  # 1.49 rows, rounded to the nearest
        ("train[:12.5%]", 80, [(0, 10)]),
        (" train [ 10 : 20 ] ", 30, [(10, 20)]),
        ("train[:500]", 30, [(0, 30)]),
    ],
)
def test_slices_mean_what_they_mean_in_the_hubs_language(text, size, bounds):
    assert [term.bounds(size) for term in parse(text)] == bounds


@pytest.mark.parametrize(
    "text", ["", "train[", "train[:98%", "train[a:b]", "train[1.5:3]", "train[::2]", "train++test"]
)
def test_text_that_cannot_be_read_is_refused_with_an_example(text):
    with pytest.raises(InvalidInput, match=r"cannot read .* 'train\[:98%\]'"):
        parse(text)


@given(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), st.integers(0, 99), st.integers(1, 100))
def test_what_is_written_is_read_back(name, low, high):
    assert parse(f"{name}[{low}:{high}%]") == [Term(name, str(low), f"{high}%")]


def two_way(counts: list[int], percent: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    classes = np.repeat(np.arange(len(counts)), counts)  # sorted by label, as some sets are stored
    parts = {"train": range(len(classes))}
    return classes, select({"train": f"train[:{percent}%]", "val": f"train[{percent}%:]"}, parts, classes, seed)


@given(st.lists(st.integers(2, 40), min_size=2, max_size=8), st.integers(10, 90), st.integers(0, 5))
def test_complementary_slices_cover_every_row_once_and_hold_every_class(counts, percent, seed):
    total = sum(counts)
    first = round(percent / 100 * total)
    assume(len(counts) <= first <= total - len(counts))
    classes, found = two_way(counts, percent, seed)
    assert sorted(np.concatenate([found["train"], found["val"]]).tolist()) == list(range(total))
    assert len(found["train"]) == first
    for rows in found.values():
        assert set(classes[rows]) == set(range(len(counts)))


@given(st.lists(st.integers(20, 40), min_size=2, max_size=6), st.integers(0, 5))
def test_classes_keep_their_proportions_to_one_example(counts, seed):
    classes, found = two_way(counts, 50, seed)
    held = np.bincount(classes[found["train"]], minlength=len(counts))
    assert (np.abs(held - np.array(counts) / 2) <= 1).all()


def test_the_shuffle_depends_on_the_seed_and_on_nothing_else():
    _, one = two_way([30, 30], 50, 0)
    _, again = two_way([30, 30], 50, 0)
    _, other = two_way([30, 30], 50, 1)
    assert one["train"].tolist() == again["train"].tolist() != other["train"].tolist()


def test_rows_come_in_a_random_order_not_class_by_class():
    classes, found = two_way([50, 50], 80, 0)
    changes = (np.diff(classes[found["train"]]) != 0).sum()
    assert changes > 20  # sorted by class it would be 1; about 40 are expected


def test_rows_of_several_stored_splits_are_joined():
    parts = {"train": range(0, 10), "test": range(10, 16)}
    found = select({"train": "train[:50%]+test[:2]", "test": "test[2:]"}, parts, None, 0)
    assert len(found["train"]) == 7 and len(found["test"]) == 4
    assert set(found["test"]) | {r for r in found["train"] if r >= 10} == set(range(10, 16))


def test_a_row_may_not_be_learned_and_tested():
    with pytest.raises(InvalidInput, match="both train and test"):
        select({"train": "train[:60%]", "test": "train[50%:]"}, {"train": range(100)}, None, 0)
    with pytest.raises(InvalidInput, match="in train twice"):
        select({"train": "train[:60%]+train[:60%]"}, {"train": range(100)}, None, 0)


def test_an_unknown_stored_split_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'train'"):
        select({"train": "trian"}, {"train": range(4), "test": range(4, 6)}, None, 0)


def test_an_empty_slice_is_refused():
    with pytest.raises(InvalidInput, match=r"'train\[5:5\]' is empty"):
        select({"train": "train[5:5]"}, {"train": range(10)}, None, 0)


def test_a_class_too_small_for_every_slice_is_named():
    classes = np.array([0] * 9 + [1])
    with pytest.raises(InvalidInput, match=r"class 'rare' has 1 example\(s\) for 2 slices"):
        select({"train": "train[:50%]", "val": "train[50%:]"}, {"train": range(10)}, classes, 0, ("common", "rare"))


def test_a_slice_smaller_than_the_number_of_classes_is_refused():
    with pytest.raises(InvalidInput, match="has 3 rows for 5 classes"):
        select({"train": "train[:3]"}, {"train": range(10)}, np.arange(10) % 5, 0)


def test_rows_left_over_need_not_hold_every_class():
    classes = np.array([0] * 9 + [1])
    found = select({"train": "train[:90%]"}, {"train": range(10)}, classes, 0)
    assert set(classes[found["train"]]) == {0, 1}


def test_groups_that_cannot_be_made_are_none():
    assert stratified(np.arange(4), np.array([0, 0, 0, 1]), [2, 2], 0) is None
