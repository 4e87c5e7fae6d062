"""Paths through a grid: how they are drawn, given by hand and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.nn import network_class
from polypath.nn.grid import Grid, GridConfig, drawn_rows, read_paths


def task(name: str, channels: int = 3, width: int = 8) -> Task:
    shape = {"channels": channels, "height": 8, "width": width}
    preprocess = ImagePreprocess(**shape, mean=(0.5,) * channels, std=(0.25,) * channels)
    target = Classification(labels=("x", "y"))
    return Task(name=name, inputs=Image(**shape), target=target, preprocess=preprocess)


def rows(*row: int) -> list[list[int]]:
    return [list(row)] * 9


@given(
    seed=st.integers(0, 2**31),
    position=st.integers(0, 6),
    size=st.integers(1, 9).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, m))),
)
def test_rows_are_subsets_and_earlier_tasks_keep_theirs(seed: int, position: int, size: tuple[int, int]) -> None:
    modules, selected = size
    found = drawn_rows(seed, position, 5, modules, selected)
    assert len(found) == 5
    for row in found:
        assert row == sorted(set(row)) and len(row) == selected and 0 <= row[0] and row[-1] < modules
    # Drawing for later tasks, before or after, changes nothing.
    drawn_rows(seed, position + 1, 5, modules, selected)
    assert drawn_rows(seed, position, 5, modules, selected) == found


def test_every_module_is_chosen_equally_often() -> None:
    # 200 tasks of 9 layers choose 4 of 12: each module n p = 1800 / 3 = 600 times, sd sqrt(n p (1 - p)) = 20.
    depth, modules, selected, tasks = 9, 12, 4, 200
    counts = [0] * modules
    for seed in range(tasks // 4):
        for position in range(4):
            for row in drawn_rows(seed, position, depth, modules, selected):
                for number in row:
                    counts[number] += 1
    deviation = (depth * tasks * (selected / modules) * (1 - selected / modules)) ** 0.5
    assert sum(counts) == depth * tasks * selected
    assert max(abs(count - depth * tasks * selected / modules) for count in counts) < 4 * deviation


def test_tasks_and_seeds_have_paths_of_their_own() -> None:
    drawn = [drawn_rows(seed, position, 9, 12, 4) for seed in range(2) for position in range(2)]
    assert all(one != two for i, one in enumerate(drawn) for two in drawn[:i])


def test_adding_tasks_leaves_paths_alone_and_hand_set_ones_are_taken() -> None:
    config = GridConfig(modules=3, selected=2, width=1, paths={"hand": rows(2, 0)})
    grid, plain = Grid(config), Grid(GridConfig(modules=3, selected=2, width=1))
    grid.add_task(task("a"))
    before = grid.path("a")
    grid.add_task(task("hand"))
    grid.add_task(task("c"))
    for name in ("a", "b", "c"):
        plain.add_task(task(name))
    assert grid.path("a") == before and grid.rows("a") == plain.rows("a")
    assert grid.rows("hand") == rows(0, 2)  # ascending: float sums depend on the order
    assert grid.rows("c") == plain.rows("c")  # the hand-set task took its turn, so the third draws as ever
    assert grid.path("hand").steps[0] == ("layer1.module00", "layer1.module02")
    assert grid.path("hand").steps[-1] == ("head.t1",)


@pytest.mark.parametrize(
    ("given_rows", "message"),
    [
        ([[0, 1]] * 8, r"path of 'a': 9 rows required \(one a layer\), received 8"),
        ([[0, 1]] * 8 + [[0, 3]], r"path of 'a', layer 9: 2 different modules out of 0..2 required, received \[0, 3\]"),
        ([[0, 1]] * 8 + [[-1, 1]], r"layer 9: .* received \[-1, 1\]"),
        ([[1, 1]] + [[0, 1]] * 8, r"layer 1: .* received \[1, 1\]"),
        ([[0]] + [[0, 1]] * 8, r"layer 1: .* received \[0\]"),
        ([[0, 1, 2]] + [[0, 1]] * 8, r"layer 1: .* received \[0, 1, 2\]"),
    ],
)
def test_malformed_paths_are_refused(given_rows: list[list[int]], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        GridConfig.of({"modules": 3, "selected": 2, "paths": {"a": given_rows}})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modules": 3, "selected": 4}, r"selected \(N = 4\) must not exceed modules \(M = 3\)"),
        ({"modules": 0, "selected": 0}, "modules: input should be greater than 0"),
        ({"pretrained": "resnet50"}, "layout='resnet50' with width 64"),
        ({"pretrained": "resnet50", "layout": "resnet50", "width": 32}, "width 64 and 3 channels only"),
        ({"layout": "vgg"}, "layout: input should be 'cifar' or 'resnet50'; received 'vgg'"),
    ],
)
def test_impossible_grids_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        GridConfig.of(config)


def test_saved_paths_are_read(tmp_path: Path) -> None:
    file = tmp_path / "paths.json"
    file.write_text(json.dumps({"a": rows(0, 1)}))
    assert read_paths(file) == {"a": rows(0, 1)}


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 3}', "{", None])
def test_files_that_hold_no_paths_are_refused(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "paths.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidInput, match="paths.json"):
        read_paths(file)


def test_tasks_that_do_not_fit_are_refused() -> None:
    grid = Grid(GridConfig(modules=2, selected=1, width=1))
    grid.add_task(task("a"))
    with pytest.raises(InvalidInput, match="'a' is already in the system"):
        grid.add_task(task("a"))
    with pytest.raises(InvalidInput, match=r"images with 3 channel\(s\)"):
        grid.add_task(task("grey", channels=1))
    with pytest.raises(UnknownName, match="Did you mean 'a'"):
        grid.path("aa")
    with pytest.raises(InvalidInput, match="has one exit"):
        grid.path("a", exit="early")


def test_images_that_pooling_would_use_up_are_refused() -> None:
    small = GridConfig(modules=2, selected=1, width=2)
    with pytest.raises(InvalidInput, match="'a': the cifar grid needs images of 4 x 4 .*received 8 x 3; give larger"):
        Grid(small).add_task(task("a", width=3))
    for config, width in ((small, 4), (small.changed(layout="resnet50"), 1)):
        grid = Grid(config)
        grid.add_task(task("a", width=width))
        assert grid.eval()(torch.zeros(2, 3, 8, width), "a").shape == (2, 2)


def test_a_manifest_can_name_no_other_network() -> None:
    assert network_class("grid") is Grid
    with pytest.raises(UnknownName, match="Did you mean 'grid'"):
        network_class("gird")
    with pytest.raises(UnknownName):
        network_class("os:system")
