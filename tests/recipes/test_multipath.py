"""The recipes of Multi-Path: each in its smoke size, and what the full sizes say of the paper."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from polypath.core.result import Result
from polypath.recipes import RECIPES
from polypath.recipes.experiment import experiment_of, planned, run_experiment
from polypath.recipes.multipath.celeba import BRANCHES, EASY, HARD, NORMAL

NAMES = [name for name in RECIPES if name.startswith("multipath/")]


@pytest.mark.recipe
@pytest.mark.realdata
@pytest.mark.parametrize("name", NAMES)
def test_recipes_run_in_smoke_size(name: str, tmp_path: Path) -> None:
    experiment = experiment_of(name, "smoke", ["threads=1"])
    results = run_experiment(experiment, tmp_path, progress=False)
    assert [result.variant for result in results] == list(experiment.variants)
    for result in results:
        stored = json.loads((tmp_path / result.variant / f"seed-{result.seed}" / "results.json").read_text())
        assert Result.of(stored) == result
        assert all(0 <= task.test["accuracy"] <= 1 for task in result.tasks)
        method = experiment.variants[result.variant].method
        assert result.isolation == ("exact" if method in ("single", "packnet") else "joint")


@pytest.mark.realdata
def test_the_split_recipes_are_the_papers_table_2() -> None:
    """25, 36, 58, 79, 100 % of the parameters; twice 26.66 ... 35.05 M multiply-accumulates, heads of 20 added."""
    plan = planned(experiment_of("multipath/split_cifar100", "full", variants=["distilled", "mtan", "hard_sharing"]))
    tasks = plan["variants"]["distilled"]["tasks"]
    assert [round(100 * task["parameters"] / tasks[-1]["parameters"]) for task in tasks] == [25, 35, 58, 79, 100]
    heads = [256, 512, 512, 512, 512]
    macs = [task["flops"] / 2 - 20 * features for task, features in zip(tasks, heads, strict=True)]
    assert [f"{count / 1e6:.2f}" for count in macs] == ["26.66", "27.84", "30.33", "32.69", "35.05"]
    whole = plan["variants"]["hard_sharing"]["tasks"][0]["parameters"]
    assert whole == tasks[-1]["parameters"]
    attended = plan["variants"]["mtan"]["tasks"][0]["parameters"]
    assert f"{attended / whole:.3f}" == "1.525"  # the paper's 1.5


@pytest.mark.realdata
def test_the_hierarchy_is_3_20_and_100_classes_at_rising_branches() -> None:
    names = ["distilled", "mobilenet_plain"]
    plan = planned(experiment_of("multipath/hierarchy", "full", variants=names))
    for variant, ratios in (("distilled", [0.4, 0.6, 1.0]), ("mobilenet_plain", [0.3, 0.6, 1.0])):
        tasks = plan["variants"][variant]["tasks"]
        assert [task["name"] for task in tasks] == ["group", "coarse_label", "fine_label"]
        assert [round(task["parameters"] / tasks[-1]["parameters"], 1) for task in tasks] == ratios


def test_the_comparison_differs_in_one_thing_at_a_time() -> None:
    variants = experiment_of("multipath/comparison", "full").variants
    distilled = variants["distilled"].config
    assert variants["plain"].config == {**distilled, "distill": False}
    assert variants["hard_sharing"].config == {**distilled, "distill": False, "assign": "last"}
    assert distilled["epochs"] >= 20 and len(experiment_of("multipath/comparison", "full").seeds) >= 3


@pytest.mark.realdata
def test_the_celeba_attributes_are_chosen_by_balance() -> None:
    """The forty ranked by the share of their rarer label, every 39/7-th rank."""
    import pyarrow.parquet as pq

    (file,) = (Path(os.environ["POLYPATH_DATA"]) / "celeba_small").glob("train-*.parquet")
    table = pq.read_table(file)
    columns = [name for name in table.column_names if name != "image"]
    share = {name: float(np.mean(table[name].to_numpy(zero_copy_only=False))) for name in columns}
    ranked = sorted(columns, key=lambda name: -min(share[name], 1 - share[name]))
    assert (*EASY, *NORMAL, *HARD) == tuple(ranked[round(place * 39 / 7)] for place in range(8))
    assert set(BRANCHES.values()) == {1, 2, 3} and [BRANCHES[name] for name in EASY] == [1, 1, 1]
