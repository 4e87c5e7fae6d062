"""Configs, errors, tasks and their JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from polypath.core.config import Config
from polypath.core.errors import CorruptError, InvalidInput, PolypathError, StoreError, UnknownName, collect, nearest
from polypath.core.preprocess import ImagePreprocess, TablePreprocess, TextPreprocess
from polypath.core.task import Classification, Features, Image, MultiLabel, Regression, Task, Tokens


class Oven(Config):
    degrees: int = Field(180, gt=0)
    fan: bool = False
    name: str


# ---- configs ------------------------------------------------------------------------------------------------------


def test_unknown_keys_offer_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        Oven.of({"degree": 200, "name": "x"}, "oven")
    text = "unknown key of oven 'degree'. Did you mean 'degrees'? Known: degrees, fan, name."
    assert str(caught.value) == text


def test_every_mistake_is_named_with_its_path_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        Oven.of({"degrees": -3, "fan": "perhaps"}, "oven")
    lines = str(caught.value).splitlines()
    assert lines[0] == "oven: 3 problems:"
    assert lines[1] == "  - oven.degrees: input should be greater than 0; received -3"
    assert "oven.fan:" in lines[2] and "received 'perhaps'" in lines[2]
    assert lines[3] == "  - oven.name: required, but not given"


def test_infinite_numbers_and_long_values_are_refused_briefly() -> None:
    class Real(Config):
        value: float

    for bad in (float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="finite"):
            Real.of({"value": bad})
    with pytest.raises(InvalidInput) as caught:
        Real.of({"value": "x" * 500})
    assert len(str(caught.value)) < 200


def test_configs_are_frozen_and_changed_copies_are_validated() -> None:
    oven = Oven(name="x")
    with pytest.raises(ValueError, match="frozen"):
        oven.degrees = 1  # type: ignore[misc]
    assert oven.changed(degrees=5) == Oven(name="x", degrees=5) and oven.degrees == 180
    with pytest.raises(InvalidInput, match="degrees"):
        oven.changed(degrees=0)


# ---- errors -------------------------------------------------------------------------------------------------------


def test_errors_are_one_family_and_what_python_expects() -> None:
    assert issubclass(InvalidInput, (PolypathError, ValueError)) and issubclass(InvalidInput, ValueError)
    assert issubclass(UnknownName, KeyError) and issubclass(UnknownName, PolypathError)
    assert issubclass(CorruptError, StoreError) and issubclass(StoreError, PolypathError)


@pytest.mark.parametrize(
    ("received", "known", "found"),
    [("task3", ["task1", "task4"], "task1"), ("zebra", ["task1"], None), ("x", [], None)],
)
def test_nearest(received: str, known: list[str], found: str | None) -> None:
    got = nearest(received, known)
    assert (got is None) is (found is None)  # equally near names: either will do
    assert got is None or got in known


def test_long_tables_are_cut_and_empty_ones_said() -> None:
    many = [f"name{i}" for i in reversed(range(1050))]
    assert str(UnknownName("task", "q", many)).endswith(
        "name9, name10, " + ", ".join(f"name{i}" for i in range(11, 40)) + " and 1,010 more."
    )
    assert str(UnknownName("task", "q", ["b", "10", "a", "9"])).endswith("Known: 9, 10, a, b.")
    assert str(UnknownName("task", "q", [])) == "unknown task 'q'. Known: (none)."


def test_collect() -> None:
    collect([], "x")
    with pytest.raises(InvalidInput, match="^x: one$"):
        collect(["one"], "x")
    with pytest.raises(InvalidInput, match="(?s)^x: 2 problems:\n  - one\n  - two$"):
        collect(["one", "two"], "x")


# ---- tasks --------------------------------------------------------------------------------------------------------

LABELS = st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=4, unique=True).map(tuple)
NAMES = st.text(st.characters(exclude_categories=("C",), exclude_characters="/\\"), min_size=1, max_size=100).filter(
    lambda name: name == name.strip() and name.strip() != ""
)
FLOATS = st.floats(-1e6, 1e6)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    kind = draw(st.sampled_from(["image", "features", "tokens"]))
    size = draw(st.integers(1, 5))
    if kind == "image":
        shape = {"channels": size, "height": 2, "width": 3}
        inputs, preprocess = Image(**shape), ImagePreprocess(**shape, mean=(0.1,) * size, std=(0.3,) * size)
    elif kind == "features":
        scale = draw(st.tuples(FLOATS, st.floats(1e-3, 1e3)))
        columns = tuple(f"c{i}" for i in range(size))
        inputs = Features(size=size)
        preprocess = TablePreprocess(columns=columns, mean=(scale[0],) * size, std=(scale[1],) * size)
    else:
        inputs, preprocess = Tokens(vocabulary=9, length=size), TextPreprocess(vocabulary=("a", "é"), length=size)
    labels = draw(LABELS)
    target = draw(
        st.sampled_from([Classification(labels=labels), MultiLabel(labels=labels), Regression(size=2, mean=(1.5, 2))])
    )
    weights = (0.5,) * len(labels) if isinstance(target, Classification) and draw(st.booleans()) else None
    group = draw(st.none() | st.text(min_size=1, max_size=5))
    return Task(
        name=draw(NAMES), inputs=inputs, target=target, preprocess=preprocess, private_to=group, class_weights=weights
    )


@given(task=tasks())
def test_tasks_survive_json(task: Task) -> None:
    assert Task.of(json.loads(json.dumps(task.to_json(), allow_nan=False))) == task
    assert Task.model_validate_json(task.model_dump_json()) == task
    assert task.renamed("other").renamed(task.name) == task


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a/b", "a\\b", "a\nb", "a\0", "x" * 101, ".", ".."])
def test_unusable_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="a task name has 1 to 100 characters"):
        Task.of({**example().to_json(), "name": name})


def example() -> Task:
    shape = {"channels": 1, "height": 2, "width": 2}
    return Task(
        name="a",
        inputs=Image(**shape),
        target=Classification(labels=("x", "y")),
        preprocess=ImagePreprocess(**shape, mean=(0.5,), std=(0.5,)),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": {"kind": "classification", "labels": ["x"]}}, "at least two labels, got 1"),
        ({"target": {"kind": "classification", "labels": ["x", "y", "x"]}}, r"occur twice: \['x'\]"),
        ({"target": {"kind": "ranking"}}, "target"),
        ({"class_weights": [1.0]}, r"one weight a label \(2\), got 1"),
        ({"class_weights": [1.0, -1.0]}, "must not be negative"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"inputs": {"kind": "image", "channels": 0, "height": 2, "width": 2}}, "channels"),
    ],
)
def test_impossible_tasks_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Task.of({**example().to_json(), **change})


def test_what_follows_from_the_target() -> None:
    task = example()
    assert (task.default_loss, task.default_metric, task.inputs.shape) == ("cross_entropy", "accuracy", (1, 2, 2))
    rows = task.changed(target=Regression(size=3))
    assert (rows.default_loss, rows.default_metric, rows.target.outputs) == ("mse", "mse", 3)
    many = task.changed(target=MultiLabel(labels=("p", "q", "r")))
    assert (many.default_loss, many.default_metric, many.target.outputs) == ("bce", "f1_macro", 3)
