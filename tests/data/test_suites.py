"""Suites on small synthetic sets: which rows and labels every task gets, and that a suite can be built again."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
import yaml

from polypath.core.errors import InvalidInput, SealedError, UnknownName
from polypath.core.examples import Suite
from polypath.core.task import Classification
from polypath.data import arrays, attributes, build, hierarchy, mix, one_vs_rest, own, pairs, split, whole


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / "cache"))


def coded(classes: int = 6, per_class: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Images that carry their class in the first pixel and their number in the second; sorted by class."""
    y = np.repeat(np.arange(classes), per_class)
    x = np.zeros((len(y), 3, 8, 8), np.uint8)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = y, np.arange(len(y))
    return x, y


@pytest.fixture
def files(tmp_path):
    x, y = coded()
    again = x[::5]  # every test image is a copy of a training image
    np.savez(tmp_path / "six.npz", x_train=x, y_train=y, x_test=again, y_test=y[::5], classes=np.array(list("abcdef")))
    return f"npz:{tmp_path / 'six.npz'}"


@pytest.fixture
def faces(tmp_path):
    """A table with an age, a gender, two flags and a place of two levels."""
    lines = ["f1,f2,age,gender,hat,scarf,city"]
    for n in range(60):
        city = ("paris", "lyon", "rome", "milan")[n % 4]
        lines.append(f"{n},{n * n % 7},{n},{('male', 'female')[n % 2]},{n % 3 == 0},{n % 2 == 0},{city}")
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    return {"dataset": f"csv:{tmp_path / 'faces.csv'}", "inputs": ["f1", "f2"]}


def built_again(suite: Suite) -> Suite:
    """The suite from its configuration after a trip through JSON; checked to be the same."""
    again = build(json.loads(json.dumps(suite.config)))
    assert again.config == suite.config and again.names == suite.names and again.seed == suite.seed
    for one, other in zip(suite, again, strict=True):
        assert one.task == other.task and one.facts == other.facts and one.augment == other.augment
        assert torch.equal(one.train.index, other.train.index) and torch.equal(one.train.targets, other.train.targets)
    return again


def true_classes(data) -> list[int]:
    return data.train.inputs()[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("order", ["consecutive", "random"])
def test_split_deals_classes_out_and_renumbers_them(files, order):
    suite = split(files, tasks=3, order=order, seed=5)
    seen = []
    for data in suite:
        labels = data.task.target.labels
        assert len(labels) == 2
        for stored, renumbered in zip(true_classes(data), data.train.targets.tolist(), strict=True):
            assert labels[renumbered] == "abcdef"[stored]
        seen += labels
        assert (len(data.train), len(data.test)) == (20, 4)
        assert data.facts["duplicates_train_test"] == 4 and data.facts["classes"] == list(labels)
    assert sorted(seen) == list("abcdef")
    assert (seen == list("abcdef")) == (order == "consecutive")
    assert suite.names == ("task1", "task2", "task3")
    built_again(suite)


def test_all_tasks_of_a_suite_share_one_source(files):
    suite = split(files, tasks=3)
    assert len({id(data.train.source) for data in suite} | {id(data.test.unseal().source) for data in suite}) == 1


def test_split_takes_published_classes_by_name_and_number(files):
    suite = split(files, classes=[["f", "a"], [2, 1, "d"]], prefix="t")
    assert [data.task.target.labels for data in suite] == [("f", "a"), ("c", "b", "d")]
    assert suite["t1"].train.targets[torch.tensor(true_classes(suite["t1"])) == 5].tolist() == [0] * 10
    built_again(suite)


def test_the_seed_decides_and_another_seed_decides_otherwise(files):
    one, same, other = (split(files, tasks=3, order="random", seed=seed) for seed in (1, 1, 2))
    assert [d.task for d in one] == [d.task for d in same] != [d.task for d in other]


def test_test_labels_are_sealed(files):
    data = split(files, tasks=3).tasks[0]
    assert data.test.inputs().shape == (4, 3, 8, 8)
    with pytest.raises(SealedError):
        _ = data.test.targets


def test_limits_count_images_of_each_class_and_validation_comes_out_of_them(files):
    suite = split(files, tasks=3, per_class=5, test_per_class=1, validation=0.2)
    for data in suite:
        assert (len(data.train), len(data.val), len(data.test)) == (8, 2, 2)
        assert torch.bincount(data.train.targets).tolist() == [4, 4]
        assert torch.bincount(data.val.targets).tolist() == [1, 1]
        assert not set(data.train.index.tolist()) & set(data.val.index.tolist())
    built_again(suite)


def test_split_expressions_may_name_every_purpose(files):
    data = whole(files, train="train[:60%]", validation="train[60%:80%]", test="train[80%:]").tasks[0]
    assert [len(data.train), len(data.val), len(data.test)] == [36, 12, 12]
    assert torch.bincount(data.val.targets).tolist() == [2] * 6
    built_again(whole(files, train="train[:60%]", validation="train[60%:80%]", test="train[80%:]"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tasks": 4}, InvalidInput, "6 classes cannot be dealt out evenly"),
        ({"tasks": 6}, InvalidInput, "a task needs at least two classes"),
        ({"classes": [["a"]]}, InvalidInput, "task 'task1'.*at least two labels, got 1"),
        ({"classes": [["a", "x"]]}, UnknownName, "class of task 1 'x'"),
        ({"classes": [[0, 6]]}, InvalidInput, r"class index 6 is outside the 6 labels \(0..5\)"),
        ({"classes": [["a", 0]]}, InvalidInput, r"\['a'\] are named twice"),
        ({"tasks": 3, "ordr": "random"}, UnknownName, "'ordr'. Did you mean 'order'"),
        ({"tasks": 3, "order": "sorted"}, InvalidInput, "order: input should be 'consecutive' or 'random'"),
        ({"tasks": 3, "validation": 1.5}, InvalidInput, "a share between 0 and 1"),
        ({"tasks": 3, "validation": 0.01}, InvalidInput, "cannot hold each of the 2 classes in both parts"),
        ({"tasks": 3, "train": "train[5:5]"}, InvalidInput, "is empty"),
        ({"tasks": 3, "train": "train[5"}, InvalidInput, "cannot read"),
        ({"tasks": 3, "train": "trian"}, UnknownName, "Did you mean 'train'"),
        ({"tasks": 3, "test": "train[:5%]"}, InvalidInput, "both train and test"),
        ({"tasks": 3, "size": 16, "fit": "exact"}, InvalidInput, "8 x 8 pixels"),
        ({"tasks": 3, "fit": "crop"}, InvalidInput, "needs size"),
        ({"tasks": 3, "normalise": {"mean": [0.5], "std": [0.5]}}, InvalidInput, "3 numbers required"),
        ({"tasks": 3, "augment": [{"kind": "spin"}]}, InvalidInput, "augment"),
        ({"tasks": 3, "column": "colour"}, UnknownName, "column of six 'colour'"),
    ],
)
def test_what_does_not_fit_is_said(files, options, error, message):
    with pytest.raises(error, match=message):
        split(files, **options)


def test_numbers_come_from_the_training_rows_unless_given(files):
    data = whole(files).tasks[0]
    pixels = data.train.inputs().double() / 255
    assert data.task.preprocess.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    # a constant channel has deviation 0, which cannot be divided by: 1 is taken
    assert data.task.preprocess.std == pytest.approx([pixels[:, 0].std(correction=0).item(), 1.0, 1.0])
    by_task = split(files, tasks=3, normalise="task")
    assert by_task["task1"].task.preprocess.mean != by_task["task3"].task.preprocess.mean
    for data in by_task:
        mean = (data.train.inputs().double() / 255).mean(dim=(0, 2, 3)).tolist()
        assert data.task.preprocess.mean == pytest.approx(mean)
    assert whole(files, normalise="none").tasks[0].task.preprocess.mean == (0.0, 0.0, 0.0)
    given = whole(files, normalise={"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]})
    assert given.tasks[0].task.preprocess.std == (1.0, 2.0, 3.0)
    built_again(given)


def test_images_are_resized_as_the_task_will_resize_them(files):
    suite = whole(files, size=(12, 10))
    data = suite.tasks[0]
    assert data.task.inputs.shape == (3, 12, 10) and data.task.preprocess.fit == "stretch"
    from PIL import Image

    x, _ = coded()
    row = int(data.train.index[0])
    raw = Image.fromarray(x[row].transpose(1, 2, 0))
    assert torch.equal(data.task.preprocess.decode(raw), data.train.inputs(slice(0, 1)))
    built_again(suite)


def test_augmentation_is_part_of_the_task(files):
    part = split(files, tasks=3, augment="part")
    assert [op.kind for op in part.tasks[0].augment] == ["perspective", "flip", "pad_crop"]
    listed = split(files, tasks=3, augment=[{"kind": "cutout", "size": 3}])
    assert listed.tasks[0].augment[0].size == 3
    built_again(part)
    built_again(listed)


def test_access_groups_are_for_all_tasks_or_for_the_named_ones(files):
    assert [d.task.private_to for d in split(files, tasks=3, private_to="ward")] == ["ward"] * 3
    one = split(files, tasks=3, private_to={"task2": "ward"})
    assert [d.task.private_to for d in one] == [None, "ward", None]
    with pytest.raises(UnknownName, match="task of private_to 'taks2'. Did you mean 'task2'"):
        split(files, tasks=3, private_to={"taks2": "ward"})


def test_one_against_the_rest_is_half_positive_in_every_split(files):
    suite = one_vs_rest(files, classes=["b", 4], validation=0.2)
    assert suite.names == ("b", "e")
    for data, stored in zip(suite, (1, 4), strict=True):
        assert data.task.target.labels == ("rest", data.name)
        assert [int(c == stored) for c in true_classes(data)] == data.train.targets.tolist()
        for examples, half in ((data.train, 8), (data.val, 2), (data.test.unseal(), 2)):
            assert torch.bincount(examples.targets).tolist() == [half, half]
    built_again(suite)
    everything = one_vs_rest(files, classes=["b"], balanced=False)
    assert torch.bincount(everything["b"].train.targets).tolist() == [50, 10]


def test_pairs_are_consecutive_or_named(files):
    suite = pairs(files)
    assert suite.names == ("a-b", "c-d", "e-f")
    assert built_again(suite)["c-d"].task.target.labels == ("c", "d")
    named = pairs(files, [("f", 0)])
    assert named.names == ("f-a",) and torch.bincount(named["f-a"].train.targets).tolist() == [10, 10]
    built_again(named)


def test_a_hierarchy_labels_the_same_rows_at_every_level(faces):
    country = {"name": "country", "column": "city", "groups": {"france": ["paris", "lyon"], "italy": ["rome", "milan"]}}
    suite = hierarchy(levels=["city", country], **faces)
    city, land = suite
    assert land.task.target.labels == ("france", "italy")
    assert torch.equal(city.train.index, land.train.index) and city.train.source is land.train.source
    for fine, coarse in zip(city.train.targets.tolist(), land.train.targets.tolist(), strict=True):
        assert land.task.target.labels[coarse] == {"paris": "france", "lyon": "france"}.get(
            city.task.target.labels[fine], "italy"
        )
    built_again(suite)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({"x": ["paris", "lyon"], "y": ["rome"]}, InvalidInput, r"classes \['milan'\] are in no group"),
        ({"x": ["paris", "lyon", "rome"], "y": ["rome", "milan"]}, InvalidInput, "'rome' is in two groups"),
        ({"x": ["paris", "lion"], "y": ["rome", "milan"]}, UnknownName, "'lion'. Did you mean 'lyon'"),
    ],
)
def test_groups_must_hold_every_class_once(faces, groups, error, message):
    with pytest.raises(error, match=message):
        hierarchy(levels=[{"name": "g", "column": "city", "groups": groups}], **faces)


def test_attributes_are_classes_bins_numbers_or_several_at_once(faces):
    wanted = [
        "gender",
        {"column": "age", "bins": [19, 39]},
        {"column": "age", "name": "years", "kind": "regression"},
        {"name": "worn", "columns": ["hat", "scarf"]},
    ]
    suite = attributes(attributes=wanted, **faces)
    gender, age, years, worn = suite
    n = gender.train.inputs()[:, 0]  # the number of the row
    assert [gender.task.target.labels[t] for t in gender.train.targets] == [("male", "female")[int(i) % 2] for i in n]
    assert age.task.target.labels == ("to 19", "19 to 39", "over 39")
    assert age.train.targets.tolist() == [(int(i) > 19) + (int(i) > 39) for i in n]  # how many are exceeded
    assert torch.equal(years.train.targets[:, 0], n)
    assert worn.task.target.kind == "multilabel" and worn.task.target.labels == ("hat", "scarf")
    assert worn.train.targets.tolist() == [[int(i) % 3 == 0, int(i) % 2 == 0] for i in n]
    built_again(suite)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ({"columns": ["city", "hat"], "name": "x"}, r"\['city'\] are not binary"),
        ({"column": "city", "bins": [1]}, "bins need numbers"),
        ({"column": "age", "bins": [5, 5]}, "bins must be ascending"),
        ({"column": "age", "columns": ["hat"]}, "either column or columns"),
        ({"columns": ["hat", "scarf"]}, "several columns need a name"),
        ({"column": "gender", "kind": "regression"}, "a regression needs numbers"),
    ],
)
def test_attributes_that_make_no_sense_are_refused(faces, attribute, message):
    with pytest.raises(InvalidInput, match=message):
        attributes(attributes=[attribute], **faces)


def test_a_limit_on_classes_needs_classes(faces):
    with pytest.raises(InvalidInput, match="per_class needs a classification"):
        attributes(attributes=[{"column": "age", "kind": "regression"}], per_class=3, **faces)


def test_mix_joins_suites_of_every_kind(files, faces):
    suite = mix(
        [
            {"kind": "split", "dataset": files, "tasks": 3, "augment": "part"},
            {"kind": "attributes", "attributes": ["gender"], **faces},
            "wine",
            {"kind": "split", "dataset": "digits", "tasks": 5, "seed": 9},
        ],
        seed=4,
    )
    assert suite.names[:6] == ("six-task1", "six-task2", "six-task3", "gender", "wine", "digits-task1")
    assert suite["six-task1"].task.name == "six-task1"  # the task itself, not only its place, has the clear name
    assert [one["seed"] for one in suite.config["suites"]] == [4, 4, 4, 9]
    assert {data.task.inputs.kind for data in suite} == {"image", "features"}
    built_again(suite)


def test_two_tasks_of_one_name_are_refused(files):
    both = [{"kind": "whole", "dataset": files, "task": "x"}, {"kind": "whole", "dataset": files, "task": "x"}]
    with pytest.raises(InvalidInput, match=r"these occur twice: \['six-x'\]"):
        mix(both)
    data = arrays("x", coded())
    with pytest.raises(InvalidInput, match="occur twice"):
        Suite("by hand", (data, data))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "spilt", "dataset": "digits"}, "kind of suite 'spilt'. Did you mean 'split'"),
        ({"dataset": "digits"}, "kind of suite 'None'"),
        ({"kind": "split", "dataset": "digist", "tasks": 5}, "data set 'digist'. Did you mean 'digits'"),
        ({"kind": "split", "dataset": "digits", "taks": 5}, "'taks'. Did you mean 'tasks'"),
    ],
)
def test_unknown_kinds_keys_and_sets_offer_the_nearest(config, message):
    with pytest.raises(UnknownName, match=message):
        build(config)


def test_a_suite_of_arrays_has_no_configuration():
    suite = split(coded(), tasks=3)
    assert suite.config == {} and suite.names == ("task1", "task2", "task3")


def test_bundled_sets_need_no_download(monkeypatch):
    monkeypatch.delenv("POLYPATH_DATA", raising=False)
    digits = split("digits", tasks=5, seed=0)
    assert digits.tasks[0].task.inputs.shape == (1, 8, 8)
    assert sum(len(d.train) + len(d.test) for d in digits) == 1797  # as scikit-learn describes the set
    assert digits.tasks[0].train.inputs().max() == 255  # 16 of 16
    for name, rows, columns, kind in (
        ("wine", 178, 13, "classification"),
        ("breast_cancer", 569, 30, "classification"),
        ("diabetes", 442, 10, "regression"),
    ):
        (data,) = whole(name)
        assert (len(data.train) + len(data.test), data.task.inputs.size) == (rows, columns)
        assert data.task.target.kind == kind
        encoded = data.task.preprocess.encode(data.train.inputs())
        # float32 sums over hundreds of rows whose offsets are up to a thousand deviations
        torch.testing.assert_close(encoded.mean(0), torch.zeros(columns), atol=1e-3, rtol=0)
        built_again(whole(name))


@pytest.fixture
def clinic(tmp_path, files, faces):
    content = {
        "name": "clinic",
        "seed": 3,
        "tasks": [
            {"name": "letters", "dataset": "npz:six.npz", "classes": ["c", "a"], "augment": "part", "validation": 0.2},
            {"name": "age", "dataset": "csv:faces.csv", "inputs": ["f1", "f2"], "target": "age",
             "target_kind": "regression", "metric": "mse", "private_to": "ward"},
            {"name": "worn", "dataset": "csv:faces.csv", "inputs": "f1", "target": ["hat", "scarf"]},
            {"name": "city", "dataset": "csv:faces.csv", "inputs": ["f1"], "target": "city", "train": "train[:50%]",
             "test": "train[50%:]", "class_weights": [1, 2, 3, 4]},
            {"name": "wine", "dataset": "wine"},
        ],
    }  # fmt: skip
    path = tmp_path / "tasks.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_own_tasks_are_found_with_sizes_classes_and_splits(clinic, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # paths start from the file, not from where we stand
    suite = own(clinic)
    assert suite.name == "clinic" and suite.names == ("letters", "age", "worn", "city", "wine")
    letters, age, worn, city, _ = suite
    assert letters.task.target.labels == ("c", "a") and letters.task.inputs.shape == (3, 8, 8)
    assert [len(letters.train), len(letters.val), len(letters.test)] == [16, 4, 4]
    assert age.task.target.kind == "regression" and age.task.metric == "mse" and age.task.private_to == "ward"
    assert worn.task.target.labels == ("hat", "scarf") and worn.task.target.kind == "multilabel"
    assert (len(city.train), len(city.test)) == (30, 30) and city.task.class_weights == (1, 2, 3, 4)
    built_again(suite)


def test_own_tasks_report_every_mistake_at_once(clinic):
    content = yaml.safe_load(clinic.read_text())
    content["tasks"][0]["dataset"] = "npz:seven.npz"
    content["tasks"][1]["target"] = "agee"
    content["tasks"][2]["nmae"] = "x"
    content["tasks"][3]["name"] = "wine"
    content["tasks"].append("letters")
    clinic.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput) as caught:
        own(clinic)
    text = str(caught.value)
    assert "5 problems" in text
    for piece in (
        "task 'letters': npz:",
        "task 'age': unknown column of faces 'agee'. Did you mean 'age'",
        "key of task 'worn' 'nmae'. Did you mean 'name'",
        "two tasks are called 'wine'",
        "tasks[6]: a mapping with name and dataset is required, received 'letters'",
    ):
        assert piece in text


@pytest.mark.parametrize(
    ("content", "message"),
    [("tasks: [", "is no YAML"), ("- a\n- b\n", "a mapping with a list of tasks"), ("tasks: []", "at least one task")],
)
def test_a_file_that_is_no_list_of_tasks_is_refused(tmp_path, content, message):
    (tmp_path / "tasks.yaml").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        own(tmp_path / "tasks.yaml")
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        own(tmp_path / "none.yaml")


def test_whole_numbers_are_classes_where_they_are_few(tmp_path):
    rows = "\n".join(f"{n},{n % 3},{n}" for n in range(150))
    (tmp_path / "t.csv").write_text(f"x,few,many\n{rows}\n")
    tasks = [
        {"name": name, "dataset": "csv:t.csv", "inputs": "x", "target": target, **more}
        for name, target, more in (
            ("a", "few", {}),
            ("b", "many", {}),
            ("c", "few", {"target_kind": "regression"}),
        )
    ]
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    few, many, forced = own(tmp_path / "tasks.yaml")
    assert few.task.target == Classification(labels=("0", "1", "2"))
    assert many.task.target.kind == forced.task.target.kind == "regression"


def test_nothing_is_logged_where_nothing_is_wrong(files, caplog):
    with caplog.at_level(logging.INFO, logger="polypath"):
        split(files, tasks=3)
    assert not caplog.records
