"""The catalogue, and every set of it that is on this machine."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from polypath.core.errors import UnknownName
from polypath.core.task import Classification
from polypath.data import CATALOGUE, attributes, hierarchy, mix, one_vs_rest, open_source, pairs, split, whole
from polypath.data.catalogue import CIFAR100_GROUPS, entry

# name -> (train, test, kind, default target, classes), from the README of the data folder and the sets' own pages
SIZES = {
    "cifar100": (30_000, 10_000, "image", "fine_label", 100),
    "cifar10": (3_000, 2_000, "image", "label", 10),
    "mnist": (60_000, 10_000, "image", "label", 10),
    "fashion_mnist": (60_000, 10_000, "image", "label", 10),
    "cmaterdb_bangla": (5_000, 1_000, "image", "label", 10),
    "cmaterdb_devanagari": (2_500, 500, "image", "label", 10),
    "cmaterdb_telugu": (2_500, 500, "image", "label", 10),
    "utkface": (2_500, 1_200, "image", "age", None),
    "celeba_small": (2_500, 800, "image", "5_o_Clock_Shadow", 2),
    "imdb": (25_000, 5_000, "text", "label", 2),
    "reuters21578": (6_607, 2_804, "text", "label", 43),
    "boston_housing": (404, 102, "table", "medv", None),
}


def test_every_name_of_the_issue_is_there():
    bundled = {"digits", "wine", "breast_cancer", "diabetes"}
    assert set(SIZES) | bundled | {"celeba"} == set(CATALOGUE)
    assert {name for name, one in CATALOGUE.items() if one.bundled} == bundled


def test_the_papers_constants():
    assert entry("cifar100").mean == (0.507, 0.486, 0.44) and entry("cifar100").std == (0.267, 0.256, 0.276)
    assert entry("cifar10").mean == (0.4914, 0.4822, 0.4465) and entry("cifar10").std == (0.2023, 0.1994, 0.2010)


def test_every_entry_is_complete():
    for name, one in CATALOGUE.items():
        assert one.name == name and one.targets and one.licence
        assert one.kind == "table" or len(one.inputs) == 1
        assert not (one.hub and one.bundled)


def test_the_contested_column_is_named():
    assert "ethically contested" in entry("boston_housing").remark


def test_groups_are_ten_seven_and_three_of_the_twenty():
    counts = {name: len(members) for name, members in CIFAR100_GROUPS.groups.items()}
    assert counts == {"animals": 10, "things": 7, "plants": 3}
    assert len({member for members in CIFAR100_GROUPS.groups.values() for member in members}) == 20


def test_celeba_has_forty_attributes():
    assert len(entry("celeba").targets) == len(entry("celeba_small").targets) == 40


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'fashion_mnist'"):
        entry("fashion-mnist")


@pytest.mark.parametrize("name", SIZES)
def test_sets_open_with_their_published_sizes(name, realdata):
    if not (realdata / name).is_dir():
        pytest.skip(f"{name} is not under POLYPATH_DATA")
    train, test, kind, target, classes = SIZES[name]
    dataset = open_source(name)
    assert (len(dataset.parts["train"]), len(dataset.parts["test"])) == (train, test)
    found, column = dataset.column()
    assert (dataset.kind, found) == (kind, target)
    assert len(column.values) == len(dataset) == train + test
    if classes is not None:
        assert len(column.labels) == len(set(column.labels)) == classes
        assert set(np.unique(column.values)) == set(range(classes))
    if kind == "image":
        assert dataset.source.take(torch.tensor([0, len(dataset) - 1])).dtype == torch.uint8


@pytest.mark.parametrize("order", ["consecutive", "random"])
def test_cifar100_in_ten_tasks_of_ten(order, realdata):
    suite = split("cifar100", tasks=10, seed=0, order=order)
    stored = open_source("cifar100").column()[1]
    used = []
    for data in suite:
        assert (len(data.train), len(data.test)) == (3_000, 1_000) and data.val is None
        labels = data.task.target.labels
        for examples in (data.train, data.test.unseal()):
            renumbered = [labels[t] for t in examples.targets.tolist()]
            assert renumbered == [stored.labels[c] for c in stored.values[examples.index.numpy()]]
            assert len(set(Counter(renumbered).values())) == 1 and len(set(renumbered)) == 10
        assert data.task.preprocess.mean == (0.507, 0.486, 0.44)
        used += labels
    assert sorted(used) == sorted(stored.labels)


def test_duplicates_are_what_a_comparison_of_all_pixels_finds(realdata):
    data = whole("cifar100").tasks[0]
    known: dict[bytes, set[int]] = {}
    for row, label in zip(data.train.inputs(), data.train.targets.tolist(), strict=True):
        known.setdefault(row.numpy().tobytes(), set()).add(label)
    tested = [row.numpy().tobytes() for row in data.test.inputs()]
    assert data.facts["duplicates_train_test"] == sum(row in known for row in tested) > 0
    # A task counts what lies in its own training images: a copy under a label of another task is not among them.
    expected = [0] * 10
    for row, label in zip(tested, data.test.unseal().targets.tolist(), strict=True):
        expected[label // 10] += any(other // 10 == label // 10 for other in known.get(row, ()))
    assert [d.facts["duplicates_train_test"] for d in split("cifar100", tasks=10)] == expected


def test_cifar100_has_three_levels_over_the_same_images(realdata):
    group, coarse, fine = hierarchy("cifar100")
    assert [len(d.task.target.labels) for d in (group, coarse, fine)] == [3, 20, 100]
    assert group.train.source is fine.train.source and torch.equal(group.train.index, fine.train.index)
    of = {}
    for low, mid, top in zip(fine.train.targets, coarse.train.targets, group.train.targets, strict=True):
        assert of.setdefault(int(low), (int(mid), int(top))) == (int(mid), int(top))
    assert Counter(mid for mid, _ in of.values()) == dict.fromkeys(range(20), 5)  # five classes a superclass
    assert Counter(top for _, top in of.values()) == {0: 50, 1: 35, 2: 15}
    names = {fine.task.target.labels[low]: group.task.target.labels[top] for low, (_, top) in of.items()}
    assert (names["lizard"], names["rose"], names["bus"]) == ("animals", "plants", "things")


def test_the_papers_mixes(realdata):
    part = mix(
        [
            {"kind": "split", "dataset": "cifar10", "tasks": 5, "augment": "part"},
            {"kind": "split", "dataset": "cifar100", "tasks": 5, "augment": "part"},
        ]
    )
    assert [d.task.target.outputs for d in part] == [2] * 5 + [20] * 5
    assert part.tasks[0].task.preprocess.mean != part.tasks[5].task.preprocess.mean  # each its own constants
    domains = mix(["fashion_mnist", "boston_housing", {"kind": "whole", "dataset": "reuters21578", "words": 500}])
    assert [d.task.inputs.kind for d in domains] == ["image", "features", "tokens"]
    assert domains["reuters21578"].task.inputs.vocabulary == 502
    assert "contested" in domains["boston_housing"].facts["remark"]


def test_faces(realdata):
    age, gender, ethnicity = attributes(
        "utkface", [{"column": "age", "bins": list(range(10, 100, 10))}, "gender", "ethnicity"]
    )
    assert [d.task.target.outputs for d in (age, gender, ethnicity)] == [10, 2, 5]
    assert attributes("utkface", ["age"])["age"].task.target.kind == "regression"
    all_of_them = attributes("celeba_small")
    assert len(all_of_them) == 40 and len({id(d.train.source) for d in all_of_them}) == 1


def test_dfcnns_tasks(realdata):
    alone = one_vs_rest("cifar10")
    assert len(alone) == 10 and all(torch.bincount(d.train.targets).tolist() == [300, 300] for d in alone)
    assert pairs("cifar10").names[0] == "airplane-automobile"
    lifelong = split("cifar100", tasks=10, per_class=20, validation=0.15, normalise="task", order="random", seed=1)
    assert all((len(d.train), len(d.val), len(d.test)) == (170, 30, 1000) for d in lifelong)


def test_sets_stored_sorted_by_label_are_shuffled_before_slicing(realdata):
    (data,) = whole("cmaterdb_bangla", train="train[20%:]", validation="train[:20%]")
    assert torch.bincount(data.train.targets).tolist() == [400] * 10
    assert torch.bincount(data.val.targets).tolist() == [100] * 10


def test_classification_targets_are_bijective_everywhere(realdata):
    for name in ("mnist", "fashion_mnist", "cmaterdb_telugu", "cifar10"):
        stored = open_source(name).column()[1]
        for data in split(name, tasks=5, order="random", seed=2):
            assert isinstance(data.task.target, Classification)
            truth = [stored.labels[c] for c in stored.values[data.train.index.numpy()]]
            assert [data.task.target.labels[t] for t in data.train.targets] == truth
