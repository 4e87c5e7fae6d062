"""tasks.yaml on tiny data of every kind: what is found, what is left out, and every mistake with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite, TaskData
from polypath.data import arrays, build, own
from polypath.data.tasks_file import lines_of
from polypath.prediction import answer


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    """60 rows: x = 0..59, city, zip code (a number), owner of three rows each, price (every sixth missing), sold."""
    lines = ["x,city,zip,owner,price,sold,part"]
    for n in range(60):
        price = "" if n % 6 == 0 else f"{2.5 * n}"
        part = ("train", "train", "train", "validation", "test")[n % 5]
        lines.append(f"{n},{('Rome', 'Milan', '')[n % 3]},{100 + n % 2},{n // 3},{price},{n % 2 == 0},{part}")
    (tmp_path / "homes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def suite_of(folder: Path, *tasks: dict[str, Any], **more: Any) -> Suite:
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": list(tasks), **more}, sort_keys=False))
    suite = own(folder / "tasks.yaml")
    again = build(json.loads(json.dumps(suite.config)))  # what a saved system does
    for one, other in zip(suite, again, strict=True):
        assert one.task == other.task and one.facts == other.facts
        assert torch.equal(one.train.index, other.train.index) and torch.equal(one.train.targets, other.train.targets)
    return suite


def home(target: str, **more: Any) -> dict[str, Any]:
    return {"name": target, "dataset": "csv:homes.csv", "inputs": ["x"], "target": target, **more}


def used(data: TaskData) -> set[int]:
    """Row numbers of all examples of a task."""
    assert data.test is not None
    parts = [data.train.index, data.test.unseal().index, *([data.val.index] if data.val is not None else [])]
    return set(torch.cat(parts).tolist())


def test_rows_without_a_label_are_left_out_of_that_task_only(homes: Path) -> None:
    price, sold = suite_of(homes, home("price"), home("sold"))
    assert used(price) == {n for n in range(60) if n % 6} and price.facts["missing_labels"] == 10
    assert used(sold) == set(range(60)) and "missing_labels" not in sold.facts
    assert torch.equal(price.train.targets[:, 0], 2.5 * price.train.inputs()[:, 0])  # in their own units
    mean = 2.5 * price.train.index.double().mean()
    assert price.task.target.mean[0] == pytest.approx(float(mean))


def test_missing_numbers_among_the_inputs_count_as_the_mean_of_the_others(tmp_path: Path) -> None:
    rows = [f"{'' if n % 4 == 0 else n},{('x', '', 'y')[n % 3]},{n % 2}" for n in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["a,c,y", *rows]) + "\n")
    task = {"name": "t", "dataset": "csv:t.csv", "target": "y", "missing_inputs": "mean"}
    (found,) = suite_of(tmp_path, task)
    there = np.array([n for n in found.train.index.tolist() if n % 4], dtype=np.float64)
    table = found.task.preprocess
    assert table.mean[0] == pytest.approx(there.mean()) and table.std[0] == pytest.approx(there.std())
    encoded = table.encode(found.train.inputs())
    gaps = torch.tensor([n % 4 == 0 for n in found.train.index.tolist()])
    assert (encoded[gaps, 0] == 0).all() and encoded.isfinite().all() and gaps.any()
    assert encoded[~gaps, 0].std(correction=0) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InvalidInput, match="missing_inputs='mean' needs scale='standard'"):
        suite_of(tmp_path, {**task, "scale": "minmax"})
    part = ["train"] * 8 + ["test"] * 2
    rows = [f"{n},{'1' if n > 8 else ''},{n % 2},{part[n]}" for n in range(10)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y,part", *rows]) + "\n")
    with pytest.raises(InvalidInput, match="input column 'b' holds no value in the training rows; leave it out"):
        suite_of(tmp_path, {**task, "split_column": "part"})


WORDS = ["low", "high", "low", "high", "NaN", "NA", "null", "None", "", "none"]


def words_table(folder: Path) -> None:
    rows = [f"{n},{WORDS[n % 10]},2024-01-{n % 28 + 1:02}" for n in range(200)]
    (folder / "words.csv").write_text("\n".join(["x,risk,day", *rows]) + "\n")


def test_texts_that_stand_for_no_value_are_missing_labels(tmp_path: Path) -> None:
    words_table(tmp_path)
    task = {"name": "risk", "dataset": "csv:words.csv", "target": "risk"}
    (found,) = suite_of(tmp_path, task)
    assert found.task.target.labels == ("high", "low", "none") and found.facts["missing_labels"] == 100
    assert used(found) == {n for n in range(200) if WORDS[n % 10] in ("high", "low", "none")}
    (named,) = suite_of(tmp_path, {**task, "classes": ["low", "None"]})  # asked for by name it is a class
    assert named.task.target.labels == ("low", "None") and len(used(named)) == 60
    full = (tmp_path / "words.csv").read_text().replace(",,", ",low,")
    (tmp_path / "full.csv").write_text(full)
    written = "'risk' has 80 missing value.s., written .'NA', 'NaN', 'None', 'null'., the first in line 6; fill"
    with pytest.raises(InvalidInput, match=written):
        suite_of(tmp_path, {**task, "dataset": "csv:full.csv", "missing": "refuse"})


def test_columns_that_are_left_out_or_read_as_categories_are_noted(tmp_path: Path) -> None:
    words_table(tmp_path)
    (found,) = suite_of(tmp_path, {"name": "risk", "dataset": "csv:words.csv", "target": "risk"})
    assert found.task.preprocess.columns == ("x",)
    assert found.facts["noted"] == ["not an input, being neither numbers nor texts: day (date32[day])"]
    rows = [f"{n},{'x7' if n == 15 else n % 9},{'oops' if n in (3, 40) else n % 3}" for n in range(50)]
    (tmp_path / "stray.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    (found,) = suite_of(tmp_path, {"name": "t", "dataset": "csv:stray.csv", "target": "y", "classes": ["0", "1"]})
    assert found.facts["noted"] == [
        "read as categories: b holds 'x7' in line 17, where 49 of 50 values are numbers",
        "read as classes: y holds 'oops' in line 5, where 48 of 50 values are numbers",
    ]
    rows = [f"{n},{'x7' if n % 5 == 0 else n % 9},{n % 2}" for n in range(50)]  # a fifth: they mean it
    (tmp_path / "stray.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    (found,) = suite_of(tmp_path, {"name": "t", "dataset": "csv:stray.csv", "target": "y"})
    assert "noted" not in found.facts


def test_tasks_of_one_table_are_never_tested_on_each_others_training_rows(homes: Path) -> None:
    suite = suite_of(homes, home("price", validation=0.25), home("sold", validation=0.25, inputs=["x", "zip"]))
    tested = set.union(*(set(data.test.unseal().index.tolist()) for data in suite))
    chosen = set.union(*(set(data.val.index.tolist()) for data in suite))
    learned = set.union(*(set(data.train.index.tolist()) for data in suite))
    assert not tested & learned and not tested & chosen and not chosen & learned
    assert [len(suite["sold"].train), len(suite["sold"].val), len(suite["sold"].test)] == [36, 12, 12]
    same = suite_of(homes, home("price"), home("sold"))
    assert same["price"].train.source is same["sold"].train.source  # read and kept once


def test_a_share_and_the_slices_that_it_means_are_one_split(homes: Path) -> None:
    slices = home("sold", name="b", train="train[:80%]", test="train[80%:]")
    suite = suite_of(homes, home("price", test=0.2), home("sold"), slices)
    assert torch.equal(suite["sold"].train.index, suite["b"].train.index)
    assert set(suite["price"].train.index.tolist()) <= set(suite["sold"].train.index.tolist())


def test_whole_numbers_with_gaps_are_still_whole_numbers(tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{'' if n % 5 == 0 else n % 3}" for n in range(60))
    (tmp_path / "t.csv").write_text(f"x,level\n{rows}\n")
    task = {"name": "t", "dataset": "csv:t.csv", "target": "level"}
    assert suite_of(tmp_path, task)["t"].task.target.labels == ("0", "1", "2")
    (number,) = suite_of(tmp_path, {**task, "target_kind": "regression"})
    assert number.task.target.kind == "regression" and len(used(number)) == 48
    with pytest.raises(InvalidInput, match=r"line 5: task 't': t: column 'level' has 12 missing value\(s\)"):
        suite_of(tmp_path, {"name": "t", "dataset": "csv:t.csv", "missing": "refuse", "target": "level"})


def test_nan_is_a_mistake_unless_it_is_said_to_be_missing(tmp_path: Path) -> None:
    x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20, dtype=np.float64)
    y[3] = np.nan
    np.savez(tmp_path / "t.npz", x=x, y=y)
    task = {"name": "t", "dataset": "npz:t.npz"}
    with pytest.raises(InvalidInput, match=r"NaN or infinity in row\(s\) \[3\]"):
        suite_of(tmp_path, task)
    (found,) = suite_of(tmp_path, {**task, "missing": "skip_nan"})
    assert used(found) == set(range(20)) - {3} and found.facts["missing_labels"] == 1


def test_inputs_are_all_columns_that_no_task_uses_otherwise(homes: Path) -> None:
    tasks = [
        {"name": target, "dataset": "csv:homes.csv", "target": target, "split_column": "part", "seed": 1}
        for target in ("price", "sold")
    ]
    suite = suite_of(homes, *tasks)
    assert suite["price"].facts["input_columns"] == ["x", "city", "zip", "owner"]
    assert suite["price"].task.preprocess.categories == {"city": ("Milan", "Rome")}


def test_categories_are_encoded_by_the_tasks_own_preprocessing(homes: Path) -> None:
    (data,) = suite_of(homes, home("sold", inputs=["x", "city", "zip"], categorical="zip"))
    pre = data.task.preprocess
    assert pre.categories == {"city": ("Milan", "Rome"), "zip": ("100", "101")} and data.task.inputs.size == 5
    shown = pre.encode(pre.decode({"x": ["3", 4], "city": ["Rome", "Oslo"], "zip": [101.0, "100"]}))
    assert shown[:, 1:].tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]]  # an unknown city is neither of the two
    assert torch.equal(pre.decode(pre.decode({"x": [3], "city": ["Rome"], "zip": [100]})), torch.tensor([[3.0, 1, 0]]))
    rows = data.train.inputs()
    assert torch.equal(rows[:, 1], torch.tensor([(1.0, 0.0, -1.0)[int(x) % 3] for x in rows[:, 0]]))  # "" is none


def test_a_column_says_which_rows_are_for_what(homes: Path) -> None:
    (data,) = suite_of(homes, home("sold", split_column="part"))
    assert set(data.test.unseal().index.tolist()) == {n for n in range(60) if n % 5 == 4}
    assert set(data.val.index.tolist()) == {n for n in range(60) if n % 5 == 3}
    with pytest.raises(InvalidInput, match="row 0 says 'Rome'"):
        suite_of(homes, home("sold", split_column="city"))


def test_groups_stay_together(homes: Path) -> None:
    (data,) = suite_of(homes, home("sold", group_column="owner", test=0.3, validation=0.2))
    owners = [{int(row) // 3 for row in part.index} for part in (data.train, data.val, data.test.unseal())]
    assert not owners[0] & owners[1] and not owners[0] & owners[2] and not owners[1] & owners[2]
    assert [len(data.train), len(data.val), len(data.test)] == [30, 12, 18]  # groups of three meet the shares exactly


def test_a_share_of_the_rows_is_the_test(homes: Path) -> None:
    (data,) = suite_of(homes, home("sold", test=0.3, validation=0.5))
    assert [len(data.train), len(data.val), len(data.test)] == [21, 21, 18]


def test_weights_losses_and_access_are_the_tasks(homes: Path) -> None:
    weights = {"sold": {"True": 3}, "balanced": "balanced"}
    tasks = [home("sold", name=name, class_weights=given, classes=["True", "False"]) for name, given in weights.items()]
    tasks[0] |= {"loss": "focal", "metric": "auc", "loss_weight": 2.0, "private_to": "ward"}
    sold, balanced = suite_of(homes, *tasks)
    assert sold.task.class_weights == (3.0, 1.0) and sold.task.private_to == "ward"
    assert (sold.task.loss, sold.task.metric, sold.task.loss_weight) == ("focal", "auc", 2.0)
    counts = torch.bincount(balanced.train.targets).tolist()
    assert balanced.task.class_weights == pytest.approx([sum(counts) / 2 / count for count in counts])
    outputs, targets = torch.tensor([[0.2, -0.1]]), torch.tensor([1])
    plain = sold.task.changed(loss_weight=1.0).loss_of(outputs, targets)
    assert torch.equal(sold.task.loss_of(outputs, targets), 2 * plain)
    assert torch.equal(sold.task.loss_of(outputs, targets, weighted=False), plain)


def test_a_regression_answers_in_its_own_units(homes: Path) -> None:
    (data,) = suite_of(homes, home("price"))
    target = data.task.target
    scaled = torch.tensor([[0.0], [1.0]])
    said = answer(data.task, scaled).values
    assert said is not None
    torch.testing.assert_close(said[:, 0], torch.tensor([target.mean[0], target.mean[0] + target.std[0]]))


def test_defaults_hold_where_a_task_says_nothing_else(homes: Path) -> None:
    task = {"name": "sold", "target": "sold", "inputs": "x"}
    suite = suite_of(
        homes, task, {**task, "name": "b", "test": 0.5}, defaults={"dataset": "csv:homes.csv", "test": 0.25}
    )
    assert [len(data.test) for data in suite] == [15, 30]


def test_one_task_alone_is_a_file_too(homes: Path) -> None:
    (homes / "task.yaml").write_text("name: sold\ndataset: csv:homes.csv\ninputs: x\ntarget: solt\n")
    with pytest.raises(InvalidInput, match="line 4: task 'sold': unknown column of homes 'solt'. Did you mean 'sold'"):
        own(homes / "task.yaml")
    (homes / "task.yaml").write_text("name: sold\ndataset: csv:homes.csv\ninputs: x\ntarget: sold\n")
    assert own(homes / "task.yaml").names == ("sold",)


MISTAKES = """\
name: shop
tasks:
- name: a
  dataset: csv:homes.csv
  target: prize
  inputs: [x, cty]
- name: b
  dataset: csv:nothing.csv
  target: sold
- {name: a, dataset: "csv:homes.csv", target: sold, inputs: x, seed: x, validation: 1.5}
- name: c
  dataset: csv:homes.csv
  inputs: x
  target: sold
  classes: [0, 7]
  loss: hinge
- name: d
  dataset: csv:homes.csv
  inputs: x
  target: sold
  test: "train[100%:]"
- name: e
  dataset: csv:homes.csv
  inputs: x
  target: sold
  metric: mse
  class_weights: {True: 2, "yes": 1}
- name: f
  dataset: csv:homes.csv
  inputs: x
  target: price
  class_weights: balanced
  colour: red
- just a word
- name: g
  dataset: csv:homes.csv
  inputs: x
  target: city
  loss: mse
"""


def test_every_mistake_is_told_with_its_line(homes: Path) -> None:
    (homes / "tasks.yaml").write_text(MISTAKES)
    with pytest.raises(InvalidInput) as caught:
        own(homes / "tasks.yaml")
    told = str(caught.value).splitlines()
    assert told[0].endswith("tasks.yaml: 14 problems:")
    for line, said in (
        (5, "task 'a': unknown column of homes 'prize'. Did you mean 'price'?"),
        (6, "task 'a': unknown column of homes 'cty'. Did you mean 'city'?"),
        (8, "nothing.csv' does not exist"),
        (10, "two tasks are called 'a'"),
        (10, "task 'a': seed: input should be a valid integer"),
        (10, "task 'a': validation: a share between 0 and 1"),
        (15, "task 'c': sold: class index 7 is outside the 2 labels"),
        (16, "task 'c': unknown loss 'hinge'"),
        (21, "task 'd': test: 'train[100%:]' is empty"),
        (26, "task 'e': metric 'mse' does not suit a classification target; choose one of accuracy"),
        (32, "task 'f': class_weights need a classification, this is a regression task"),
        (33, "unknown key of task 'f' 'colour'"),
        (34, "tasks[8]: a mapping with name and dataset is required, received 'just a word'"),
        (39, "task 'g': loss 'mse' does not suit a classification target"),
    ):
        assert any(text.startswith(f"  - line {line}: ") and said in text for text in told), (line, said, told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nfolder: homes\n", "line 2: unknown key of task 'a' 'folder'. Write: dataset: folder:homes"),
        ("tasks:\n- name: a\n  csv: [x]\n", "line 3: unknown key of task 'a' 'csv'. Write: dataset: csv:PATH"),
        (
            "name: a\ndataset: csv:homes.csv\ntraget: sold\n",
            "line 3: unknown key of task 'a' 'traget'. Did you mean 'target'?",
        ),
        ("name: a\ndataset: csv:homes.csv\ny: sold\n", "line 3: unknown key of task 'a' 'y'. Did you mean 'target'?"),
        ("name: a\ndataset: csv:homes.csv\nqqq: sold\n", "line 3: unknown key of task 'a' 'qqq'. Known: "),
    ],
)
def test_an_unknown_key_says_how_it_is_written(homes: Path, text: str, said: str) -> None:
    (homes / "tasks.yaml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        own(homes / "tasks.yaml")
    assert said in str(caught.value) and "dataset: required" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": [0, 7]}, "class index 7 is outside the 2 labels"),
        ({"class_weights": {"True": 2, "yes": 1}}, "unknown label of class_weights 'yes'"),
        ({"target": "price", "class_weights": "balanced"}, "class_weights need a classification"),
        ({"inputs": ["x", "sold"]}, "are inputs and target, split or group at once"),
        ({"target": None}, "name the target column; homes has x, city"),
        ({"group_column": "owner", "test": "train[:10]"}, "whole groups need shares"),
        ({"split_column": "part", "test": 0.5}, "leave train, test and group_column out"),
        ({"train": "train[:50%]", "test": 0.5}, "leave train out"),
        ({"dataset": "wine", "split_column": "part"}, "split_column needs a csv: or parquet: dataset"),
        ({"categorical": ["city"]}, "unknown input column of categorical 'city'"),
        ({"class_weights": [1, -2]}, "class_weights"),
        ({"dataset": 5}, "dataset: input should be a valid string; received 5"),
    ],
)
def test_mistakes_of_one_task_by_themselves(homes: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        suite_of(homes, home("sold") | change)
    assert said in str(caught.value) and "line " in str(caught.value)


def test_a_key_twice_is_a_mistake_and_not_the_last_one_wins(homes: Path) -> None:
    (homes / "tasks.yaml").write_text("tasks:\n- name: a\n  dataset: csv:homes.csv\n  target: x\n  target: sold\n")
    with pytest.raises(InvalidInput, match=r"key 'target' stands twice \(lines 4, 5\)"):
        own(homes / "tasks.yaml")


def test_lines_of_keys(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("name: x\ntasks:\n- name: a\n  inputs:\n  - p\n  - q\n- {name: b}\n")
    lines = lines_of(tmp_path / "t.yaml")
    assert lines[("tasks", 0, "inputs", 1)] == 6 and lines[("tasks", 1, "name")] == 7 and lines[("tasks",)] == 2


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of six images each; one file is no image, one is cut off."""
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                tmp_path / "pets" / label / f"{number}.png"
            )
    (tmp_path / "pets" / "cat" / "0.png").write_text("no image")
    cut = tmp_path / "pets" / "dog" / "3.png"
    cut.write_bytes(cut.read_bytes()[:100])
    return tmp_path


@pytest.mark.parametrize("size", [8, 100])  # kept as pixels, and decoded when they are taken
def test_unreadable_images_are_named_and_left_out_as_asked(pets: Path, size: int) -> None:
    task = {"name": "pets", "dataset": "folder:pets", "size": size, "test": 0.25, "on_error": "skip"}
    (data,) = suite_of(pets, task)
    assert used(data) == set(range(12)) - {0, 9} and data.facts["unreadable_images"] == 2
    assert [Path(name.strip("'")).name for name in data.facts["unreadable_names"]] == ["0.png", "3.png"]
    assert data.train.inputs().shape[1:] == (3, size, size)


def test_an_unreadable_image_stops_where_nothing_else_is_asked(pets: Path) -> None:
    with pytest.raises(InvalidInput, match=r"line 3: task 'pets': image '.*cat/0\.png' cannot be read"):
        suite_of(pets, {"name": "pets", "dataset": "folder:pets"})


def test_images_named_in_a_table_may_be_missing(pets: Path) -> None:
    files = [f"pets/{label}/{n}.png,{label}" for label in ("cat", "dog") for n in range(6)]
    (pets / "list.csv").write_text("file,animal\n" + "\n".join([*files, "pets/cat/77.png,cat"]) + "\n")
    task = {"name": "pets", "dataset": "csv:list.csv", "target": "animal", "on_error": "skip", "test": 0.25}
    (data,) = suite_of(pets, task)
    assert used(data) == set(range(12)) - {0, 9} and data.facts["unreadable_images"] == 3


def test_texts_bring_their_vocabulary(tmp_path: Path) -> None:
    rows = "\n".join(f"{('good film', 'bad film')[n % 2]} number {n},{('yes', 'no')[n % 2]}" for n in range(24))
    (tmp_path / "reviews.csv").write_text(f"text,liked\n{rows}\n")
    (data,) = suite_of(tmp_path, {"name": "liked", "dataset": "csv:reviews.csv", "target": "liked", "min_count": 2})
    assert set(data.task.preprocess.vocabulary) == {"good", "bad", "film", "number"}
    assert data.facts["input_columns"] == ["text"]


@pytest.mark.parametrize("text", ["tasks:\n- &a [*a]\n", "tasks: &a\n- name: a\n  dataset: *a\n", "&a {tasks: [*a]}"])
def test_an_alias_to_itself_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=r"t.yaml: line [12]: what begins here holds an alias \(\*\) to itself"):
        own(tmp_path / "t.yaml")


def test_aliases_of_aliases_do_not_multiply_without_end(tmp_path: Path) -> None:
    levels = [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]  # 9 ** 40 values in 40 lines
    (tmp_path / "t.yaml").write_text("\n".join(["tasks:", "- &a0 [x]", *levels]))
    with pytest.raises(InvalidInput, match="t.yaml: line 8: what begins here holds more than 200,000 values, aliases"):
        own(tmp_path / "t.yaml")


def test_one_set_of_settings_may_stand_in_many_tasks(homes: Path) -> None:
    tasks = [f"- {{<<: *common, name: t{n}}}" for n in range(20)]
    text = ["defaults: &common {dataset: 'csv:homes.csv', target: sold, inputs: [x]}", "tasks:", *tasks]
    (homes / "t.yaml").write_text("\n".join(text))
    assert len(own(homes / "t.yaml")) == 20


def test_what_stands_in_place_of_a_task_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(f"defaults: [{'1, ' * 999}1]\ntasks:\n- [{'1, ' * 999}1]\n")
    with pytest.raises(InvalidInput) as error:
        own(tmp_path / "t.yaml")
    said = str(error.value)
    assert len(said) < 500 and "a mapping with name and dataset is required, received [1, 1" in said


def test_a_file_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("tasks: " + "[" * 3000 + "]" * 3000)
    with pytest.raises(InvalidInput, match="t.yaml: is nested too deeply"):
        own(tmp_path / "t.yaml")


def test_names_that_look_the_same_are_the_same(homes: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    (suite,) = suite_of(homes, home("sold", name=apart))
    assert suite.name == composed
    with pytest.raises(InvalidInput, match=f"two tasks are called '{composed}'"):
        suite_of(homes, home("sold", name=apart), home("sold", name=composed))
    assert arrays(apart, (np.zeros((4, 2)), np.array([0, 1, 0, 1]))).name == composed
