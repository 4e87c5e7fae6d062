"""What RSN2's experiments ask of suites: copies of a task, unused outputs, one-output classes, scales to [0, 1]."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.core.task import Classification
from polypath.data import attributes, build, split

SLICES = {"train": "train[:75%]", "validation": "train[75%:]", "normalise": "none"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / "cache"))


def built_again(suite: Suite) -> None:
    again = build(json.loads(json.dumps(suite.config)))
    assert again.config == suite.config and [data.task for data in again] == [data.task for data in suite]


@pytest.fixture
def houses(tmp_path):
    """Rooms 1..20, a constant column, a price of 3 x rooms - 1, and whether it is dear."""
    lines = ["rooms,same,price,dear"] + [f"{n},7,{3.0 * n - 1},{('no', 'yes')[n > 14]}" for n in range(1, 21)]
    (tmp_path / "houses.csv").write_text("\n".join(lines) + "\n")
    return {"dataset": f"csv:{tmp_path / 'houses.csv'}", "inputs": ["rooms", "same"], "train": "train[:80%]"}


def test_one_column_under_several_names_makes_tasks_that_share_rows_and_pixels():
    names = [f"net{number}" for number in range(1, 6)]
    suite = attributes("digits", [{"name": name, "column": "label"} for name in names], **SLICES)
    first, *others = suite
    assert suite.names == tuple(names)
    for other in others:
        assert other.train.source is first.train.source
        for split_ in ("train", "val"):
            one, two = getattr(first, split_), getattr(other, split_)
            assert torch.equal(one.index, two.index) and torch.equal(one.targets, two.targets)
        assert other.task.renamed("net1") == first.task
    built_again(suite)


def test_pixels_are_divided_by_255_and_nothing_else_when_nothing_is_normalised():
    (data, _) = attributes("digits", [{"name": "a", "column": "label"}, {"name": "b", "column": "label"}], **SLICES)
    raw = data.train.inputs(slice(0, 4))
    assert torch.equal(data.task.preprocess.encode(raw), raw.float() / 255)


def test_slices_of_the_training_split_do_not_depend_on_the_tasks_name():
    a, b = (attributes("digits", [{"name": name, "column": "label"}], **SLICES)[name] for name in ("a", "b"))
    assert torch.equal(a.val.index, b.val.index) and set(a.val.index.tolist()).isdisjoint(a.train.index.tolist())


def test_a_head_for_all_classes_keeps_their_numbers_and_knows_which_never_occur():
    groups = [["1", "5", "7"], ["0", "2"]]
    easy, hard = split("digits", classes=groups, names=["easy", "hard"], head="all")
    assert (easy.name, hard.name) == ("easy", "hard")
    assert easy.task.target.labels == hard.task.target.labels == tuple("0123456789")
    assert easy.task.target.unused == tuple("0234689") and easy.task.target.outputs == 10
    assert set(easy.train.targets.tolist()) == {1, 5, 7} and set(hard.train.targets.tolist()) == {0, 2}
    own = split("digits", classes=groups, names=["easy", "hard"])["easy"]
    assert own.task.target.labels == ("1", "5", "7") and own.task.target.unused == ()
    # the same images, told apart by other numbers
    assert torch.equal(torch.tensor([1, 5, 7])[own.train.targets], easy.train.targets)
    built_again(split("digits", classes=groups, names=["easy", "hard"], head="all"))


def test_labels_that_are_used_must_still_have_examples(tmp_path):
    x = np.zeros((12, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.arange(12) % 2, classes=np.array(["a", "b", "c"]))
    with pytest.raises(InvalidInput, match=r"no example of class\(es\) \['c'\]"):
        split(f"npz:{tmp_path / 'x.npz'}", classes=[["a", "b", "c"]])


@pytest.mark.parametrize("unused", [("d",), ("b", "c")])
def test_unused_labels_are_labels_and_leave_two(unused):
    with pytest.raises(InvalidInput, match="at least two of the labels"):
        Classification.of({"labels": ("a", "b", "c"), "unused": unused})


def test_names_and_tasks_must_be_as_many():
    with pytest.raises(InvalidInput, match=r"one for each of the 2 tasks is required, received \['one'\]"):
        split("digits", tasks=2, names=["one"])


def test_a_column_of_two_classes_can_have_one_output(houses):
    suite = attributes(attributes=[{"column": "dear", "kind": "binary"}, "dear"][:1], **houses)
    dear = suite["dear"]
    assert dear.task.target.kind == "multilabel" and dear.task.target.labels == ("yes",)
    assert (dear.task.default_loss, dear.task.metric) == ("bce", "accuracy")
    rooms = dear.train.inputs()[:, 0]
    assert torch.equal(dear.train.targets[:, 0], (rooms > 14).float())
    # 6 of 20 houses are dear: a stratified 80 % holds 5 of them (4.8 rounded up), not a random number
    assert dear.train.targets.sum() == 5 and len(dear.train) == 16
    built_again(suite)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ({"column": "price", "kind": "binary"}, "column 'price' holds numbers"),
        ({"column": "price", "kind": "binary", "bins": [3]}, "one column of two classes, without bins"),
        ({"columns": ["dear"], "name": "x", "kind": "binary"}, "one column of two classes, without bins"),
    ],
)
def test_one_output_needs_two_classes(houses, attribute, message):
    with pytest.raises(InvalidInput, match=message):
        attributes(attributes=[attribute], **houses)


def test_ten_classes_have_no_single_output():
    with pytest.raises(InvalidInput, match="column 'label' holds 10 classes"):
        attributes("digits", [{"column": "label", "kind": "binary"}])


def test_tables_and_targets_are_brought_to_0_and_1_by_their_training_rows(houses):
    wanted = [{"column": "price", "metric": "mse_scaled"}]
    suite = attributes(attributes=wanted, scale="minmax", target_scale="minmax", **houses)
    (data,) = suite
    rooms, price = data.train.inputs()[:, 0], data.train.targets[:, 0]
    low, high = float(rooms.min()), float(rooms.max())
    encoded = data.task.preprocess.encode(data.train.inputs())
    assert torch.allclose(encoded[:, 0], (rooms - low) / (high - low))
    assert torch.equal(encoded[:, 1], torch.zeros(16))  # a constant column is 0, not NaN
    target = data.task.target
    assert target.mean == (3 * low - 1,) and target.std == (3 * (high - low),)
    assert torch.equal(price, 3 * rooms - 1)  # examples stay in their own units
    assert data.task.metric == "mse_scaled"
    built_again(suite)


def test_numbers_can_stay_as_they_are(houses):
    (data,) = attributes(attributes=["price"], scale="none", target_scale="none", **houses)
    assert torch.equal(data.task.preprocess.encode(data.train.inputs()), data.train.inputs())
    assert (data.task.target.mean, data.task.target.std) == ((0.0,), (1.0,))


def test_the_default_scale_is_mean_0_and_deviation_1(houses):
    (data,) = attributes(attributes=["price"], **houses)
    encoded = data.task.preprocess.encode(data.train.inputs())[:, 0]
    assert abs(float(encoded.mean())) < 1e-6 and abs(float(encoded.std(correction=0)) - 1) < 1e-6


@pytest.mark.realdata
def test_boston_says_that_it_is_contested():
    wanted = [{"name": "boston", "column": "medv", "metric": "mse_scaled"}]
    boston = attributes("boston_housing", wanted, scale="minmax", target_scale="minmax", **SLICES)["boston"]
    assert "ethically contested" in boston.facts["remark"]
    encoded = boston.task.preprocess.encode(boston.train.inputs())
    assert encoded.shape[1] == 13 and float(encoded.min()) == 0 and float(encoded.max()) == 1
    assert len(boston.train) + len(boston.val) == 404 and len(boston.test) == 102


@pytest.mark.realdata
def test_ages_are_decades_and_gender_is_one_output():
    cut_offs = list(range(10, 100, 10))
    wanted = [{"column": "age", "bins": cut_offs}, {"column": "gender", "kind": "binary"}, "ethnicity"]
    age, gender, ethnicity = attributes("utkface", wanted, size=64, **SLICES)
    assert [data.task.target.outputs for data in (age, gender, ethnicity)] == [10, 1, 5]
    assert gender.task.target.labels == ("female",)
    assert age.train.source is gender.train.source is ethnicity.train.source
    assert torch.equal(age.val.index, gender.val.index)
