"""mu2Net's benchmarks: the paper's splits as data, what must be supplied, and the recipes in their smoke size."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from polypath.core.errors import InvalidInput
from polypath.data.slices import parse
from polypath.methods.mu2net import Mu2NetConfig
from polypath.recipes.experiment import Experiment, experiment_of, run_experiment
from polypath.recipes.mu2net import benchmarks, large
from polypath.recipes.mu2net.benchmarks import CHARACTERS, DECATHLON, VIT, VTAB_1K, VTAB_FULL, Split

NAMES = ("mu2net/vtab", "mu2net/decathlon", "mu2net/large")


def test_the_tasks_add_up_to_the_papers_69() -> None:
    """Table 7: 3 tasks, 26 with VTAB-full, 36 with the decathlon, 44 with the characters, 69 with VTAB-1k."""
    counts = [len(benchmark) for benchmark in (VIT, VTAB_FULL, DECATHLON, CHARACTERS, VTAB_1K)]
    assert [sum(counts[: n + 1]) for n in range(5)] == [3, 26, 36, 44, 69]


def test_every_split_can_be_read_and_no_image_serves_twice() -> None:
    for split in (*VIT, *VTAB_FULL, *DECATHLON, *CHARACTERS, *VTAB_1K):
        texts = (split.train, split.val, split.test)
        assert len({*texts}) == 3
        assert all(len(parse(text)) == 1 for text in texts)
    eurosat = next(split for split in VTAB_1K if split.name == "eurosat/rgb")
    assert (eurosat.train, eurosat.val, eurosat.test) == ("train[:800]", "train[16200:16400]", "train[21600:]")


def test_a_benchmark_that_is_not_here_says_what_is_missing_and_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    with pytest.raises(InvalidInput) as caught:
        benchmarks.suite("mu2net/decathlon", DECATHLON, 384)
    said = str(caught.value)
    assert "10 of 10 data sets are not here: vdd-imagenet12, vdd-svhn" in said
    assert str(tmp_path / "mu2net" / "NAME") in said and "--quick" in said


def test_folders_that_are_supplied_become_tasks_in_the_papers_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    split = Split("kitti/count_vehicles", "train", "validation")
    for part in ("train", "val", "test"):
        folder = tmp_path / "mu2net" / "kitti-count_vehicles" / part / "one"
        folder.mkdir(parents=True)
        Image.new("L", (10, 8), 200).save(folder / "a.png")
    suite = benchmarks.suite("some", (split, Split("cifar10", "train[:98%]", "train[98%:]")), 384)
    first, second = suite["suites"]
    assert first["dataset"] == f"folder:{tmp_path}/mu2net/kitti-count_vehicles"
    assert (first["task"], first["validation"], first["size"], first["channels"]) == (
        "kitti-count_vehicles",
        "validation",
        384,
        3,
    )
    assert second["dataset"] == "cifar10" and second["train"] == "train[:98%]"


def test_the_large_recipe_has_the_papers_settings() -> None:
    config = Mu2NetConfig.of(large.settings("full"))
    assert isinstance(config.root, dict)
    assert (config.root["name"], config.root["pretrained"], config.root["depth"]) == ("L/16", True, None)
    assert (config.iterations, config.generations, config.children, config.cycles) == (2, 4, 8, 4)
    assert (config.samples, config.batch, config.validation) == (128_116, 64, 10_000)
    table = config.hyperparameters
    assert (table["mu"].start, table["learning_rate"].start, table["warmup"].start) == (0.20, 0.01, 0.05)
    assert "num_layers" not in table


def test_a_named_transformer_replaces_the_default_one() -> None:
    experiment = experiment_of("mu2net/cifar", "quick", ["method.root.name=vit_small_patch16_224"])
    assert {v.config["root"]["name"] for v in experiment.variants.values()} == {"vit_small_patch16_224"}


@pytest.mark.recipe
def test_one_recipe_on_the_bundled_digits_runs_in_smoke_size(tmp_path: Path) -> None:
    """The three share their small sets and settings: one run is enough."""
    found = [experiment_of(name, "smoke") for name in NAMES]
    assert len({str(e.suite) for e in found}) == len({str(next(iter(e.variants.values()))) for e in found}) == 1
    (result,) = run_experiment(found[0], tmp_path / "run", progress=False)
    assert len(result.tasks) == 2
    assert [model["task"] for model in result.analysis["evolution"]["models"]] == [task.name for task in result.tasks]


@pytest.mark.recipe
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["mu2net/characters", "mu2net/cifar"])
def test_recipes_on_real_images_run_in_smoke_size(name: str, tmp_path: Path) -> None:
    experiment = experiment_of(name, "smoke")
    assert isinstance(experiment, Experiment)
    (result,) = run_experiment(experiment, tmp_path / "run", progress=False)
    assert len(result.tasks) == 2
    assert all(0 <= task.test["accuracy"] <= 1 for task in result.tasks)
