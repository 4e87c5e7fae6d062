"""DF-CNN's recipes: smoke sizes, the paper's sizes as planned, the authors' tasks, Office-Home from folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from polypath.core.errors import InvalidInput
from polypath.recipes import recipe
from polypath.recipes.dfcnn.cifar100_lifelong import TASKS
from polypath.recipes.experiment import Experiment, experiment_of, planned, run_experiment


@pytest.mark.recipe
@pytest.mark.realdata
def test_cifar100_lifelong_runs_in_smoke_size(tmp_path: Path) -> None:
    variants = ["dfcnn", "single", "hard_sharing", "prognn", "ewc", "den", "dfcnn_tc2"]
    experiment = experiment_of("dfcnn/cifar100_lifelong", "smoke", variants=variants)
    results = {r.variant: r for r in run_experiment(experiment, tmp_path / "run", progress=False)}
    assert set(results) == set(variants)
    for name, result in results.items():
        assert set(result.lifelong.by_peak) == {"validation", "test"}, name
        assert set(result.lifelong.by_peak["test"]["peak_accuracy"]) == {"task1", "task2"}
        exact = result.isolation == "exact"
        assert exact == (name in ("single", "prognn"))
        if exact:
            assert result.lifelong.backward_transfer == 0


@pytest.mark.recipe
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["dfcnn/mnist_mtl", "dfcnn/cifar10_mtl"])
def test_multitask_recipes_run_in_smoke_size(name: str, tmp_path: Path) -> None:
    kept = [v for v in experiment_of(name, "smoke").variants if v.startswith("heterogeneous")]
    results = run_experiment(experiment_of(name, "smoke", variants=kept), tmp_path / "run", progress=False)
    methods = {result.variant.split("_", 2)[2] for result in results}
    assert methods >= {"dfcnn", "single", "hard_sharing", "tensor_factorisation", "tensor_distilled", "dfcnn_direct"}
    assert {r.isolation for r in results if not r.variant.endswith("single")} == {"joint"}


@pytest.mark.recipe
@pytest.mark.realdata
def test_officehome_runs_in_smoke_size_on_its_substitute(tmp_path: Path) -> None:
    experiment = experiment_of("dfcnn/officehome_lifelong", "smoke", variants=["dfcnn", "hard_sharing"])
    results = run_experiment(experiment, tmp_path / "run", progress=False)
    assert [task.name for task in results[0].tasks] == ["product1", "product2", "real1", "real2"]


@pytest.mark.realdata
def test_the_full_lifelong_recipe_is_the_papers() -> None:
    experiment = experiment_of("dfcnn/cifar100_lifelong", "full")
    plan = planned(experiment)["variants"]
    totals = {name: variant["totals"]["parameters"] for name, variant in plan.items()}
    assert totals == {
        "dfcnn": 7_963_252,
        "single": 3_284_260,
        "hard_sharing": 2_694_148,
        "prognn": 3_508_637,
        "ewc": 2_694_148,
        "single_large": 9_345_860,
        "dfcnn_reduced": 2_802_516,
        "dfcnn_tc2": 2_995_168,
        "den": 328_426 + 9 * 650,  # before it grows: one network, and 64 * 10 + 10 for every further task
    }
    assert {variant.config["epochs"] for variant in experiment.variants.values()} == {2000}
    assert len(experiment.seeds) == 5


@pytest.mark.realdata
def test_a_lifelong_task_has_170_30_and_1000_images() -> None:
    from polypath.recipes.experiment import suites_of

    suite = suites_of(experiment_of("dfcnn/cifar100_lifelong", "full", variants=["dfcnn"]), 0)["dfcnn"]
    assert len(suite) == 10
    for data in suite:
        assert data.val is not None and data.test is not None
        assert (len(data.train), len(data.val), len(data.test)) == (170, 30, 1000)
        assert data.train.targets.bincount().tolist() == [17] * 10


def test_the_authors_tasks_take_every_class_once() -> None:
    numbers = [number for task in TASKS for number in task]
    assert sorted(numbers) == list(range(100))
    assert len(TASKS) == 10 and {len(task) for task in TASKS} == {10}


def test_multitask_experiments_have_both_kinds_and_five_fractions() -> None:
    for name, fractions in (("dfcnn/mnist_mtl", (3, 5, 7, 10, 30)), ("dfcnn/cifar10_mtl", (4, 10, 30, 50, 70))):
        found = recipe(name)("full")
        assert isinstance(found, Experiment)
        ways = {tuple(key.split("_")[:2]) for key in found.variants}
        assert ways == {(kind, str(f)) for kind in ("homogeneous", "heterogeneous") for f in fractions}
        assert {key.split("_")[1] for key in found.by_default} == {str(fractions[0])}


def test_officehome_reads_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published layout with 65 classes of ten tiny pictures: ten tasks of thirteen classes, 6 / 1 / 3 of ten."""
    from PIL import Image

    from polypath.recipes.dfcnn.officehome_lifelong import TASKS

    for domain in ("Product", "Real World"):
        for number, name in enumerate(sum(TASKS, [])):
            folder = tmp_path / "office_home" / domain / name
            folder.mkdir(parents=True)
            for place in range(10):
                Image.new("RGB", (9, 7), (number, place, 128)).save(folder / f"{place:05d}.jpg")
    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    from polypath.recipes.experiment import suites_of

    overrides = [f"suite.suites.{n}.size=8" for n in range(2)]
    experiment = experiment_of("dfcnn/officehome_lifelong", "full", overrides, seeds=[0], variants=["dfcnn"])
    suite = suites_of(experiment, 0)["dfcnn"]
    assert suite.names == (*(f"product{n}" for n in range(1, 6)), *(f"real{n}" for n in range(1, 6)))
    for data in suite:
        assert data.val is not None and data.test is not None
        assert (len(data.train), len(data.val), len(data.test)) == (78, 13, 39)
        assert data.task.target.outputs == 13
    assert [list(data.task.target.labels) for data in suite] == [*TASKS, *TASKS]


def test_officehomes_missing_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"office_home/Product is required.*--quick"):
        recipe("dfcnn/officehome_lifelong")("full")
