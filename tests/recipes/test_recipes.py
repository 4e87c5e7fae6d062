"""Every recipe in its smoke size; the papers' sizes as planned, without training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.result import Result
from polypath.recipes import RECIPES, recipe
from polypath.recipes.experiment import Experiment, experiment_of, first_seeds, planned, run_experiment
from polypath.recipes.part import SEEDS
from polypath.recipes.part.folders import FOLDERS
from polypath.recipes.part.representations import shared_paths

BUNDLED = ("part/digits", "part/five_tasks", "part/representations", "part/representations_b")


def smoke(name: str, out: Path) -> list[Result]:
    results = run_experiment(experiment_of(name, "smoke"), out, progress=False)
    for result in results:
        stored = json.loads((out / result.variant / f"seed-{result.seed}" / "results.json").read_text())
        assert Result.of(stored) == result
        assert all(0 <= task.test["accuracy"] <= 1 for task in result.tasks)
        assert result.environment["threads"] >= 1
    return results


@pytest.mark.recipe
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_recipes_run_in_smoke_size(name: str, tmp_path: Path) -> None:
    results = smoke(name, tmp_path / "run")
    experiment = experiment_of(name, "smoke")
    assert [result.variant for result in results] == list(experiment.variants)
    for result in results:
        assert bool(result.analysis.get("cka")) == ("cka" in experiment.variants[result.variant].analysis)


@pytest.mark.recipe
@pytest.mark.realdata
@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("part/") and name not in BUNDLED])
def test_other_recipes_run_in_smoke_size(name: str, tmp_path: Path) -> None:
    modes = {result.variant: result for result in smoke(name, tmp_path / "run")}
    assert set(modes) == {"parallel", "sequential", "single"}
    assert modes["single"].lifelong.unlearned is not None
    assert modes["parallel"].totals.parameters < modes["single"].totals.parameters


def test_every_recipe_is_tested_and_described() -> None:
    for name in RECIPES:
        assert recipe(name).__module__.startswith("polypath.recipes.")
        for size in ("quick", "smoke"):
            found = recipe(name)(size)
            assert isinstance(found, Experiment)
            assert found.recipe == name and found.size == size and found.title and found.paper
            assert found.main in found.variants


@pytest.mark.realdata
def test_full_size_is_the_papers() -> None:
    """M = 12, N = 4, 100 outputs; the counts are the paper's architecture added up by hand (docs/methods/part.md)."""
    experiment = experiment_of("part/cifar100", "full", variants=["parallel"])
    assert experiment.seeds == SEEDS == (456, 23743, 96253, 36, 2543)
    plan = planned(experiment)["variants"]["parallel"]
    assert plan["totals"]["parameters"] == 132_038_244
    assert len(plan["tasks"]) == 10
    assert {task["parameters"] for task in plan["tasks"]} == {4 * 10_998_912 + 512 * 10 + 10}
    # 2 x multiply-accumulates of four modules a layer: 3x3 kernels over 32x32, 16x16 and 8x8 maps, and the head.
    at = {
        32: 3 * 64 + 4 * 64 * 64 + 64 * 128 + 3 * 128 * 128,
        16: 128 * 256 + 3 * 256 * 256,
        8: 256 * 512 + 3 * 512 * 512,
    }
    expected = 2 * (4 * sum(9 * size * size * products for size, products in at.items()) + 512 * 10)
    assert {task["flops"] for task in plan["tasks"]} == {expected}


@pytest.mark.realdata
def test_mixed_recipe_is_the_papers() -> None:
    plan = planned(experiment_of("part/cifar10_100", "full", variants=["parallel"]))["variants"]["parallel"]
    assert plan["totals"]["parameters"] == 165_040_110


def test_five_tasks_reads_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's suite on image files laid out as it asks for, tiny ones of bundled digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (folder, _, _) in enumerate(FOLDERS.values()):
        for split, rows in (("train", slice(0, 40)), ("test", slice(40, 60))):
            for position, (pixels, label) in enumerate(zip(digits.images[rows], digits.target[rows], strict=True)):
                if label in (number, number + 5):
                    path = tmp_path / "five_tasks" / folder / split / f"class{label}"
                    path.mkdir(parents=True, exist_ok=True)
                    Image.fromarray((pixels * 15).astype("uint8")).convert("RGB").resize((40, 36)).save(
                        path / f"{position}.png"
                    )
    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    experiment = experiment_of(
        "part/five_tasks",
        "full",
        [f"method.{key}={value}" for key, value in {"width": 2, "modules": 3, "epochs": 1, "batch": 4}.items()]
        + ["method.pretrained=null"]
        + [f"suite.suites.{number}.{key}" for number in range(5) for key in ("size=32",)]
        + [f"suite.suites.{number}.shorter_side=36" for number in (2, 3, 4)],
        seeds=[0],
        variants=["parallel"],
    )
    (result,) = run_experiment(experiment, tmp_path / "run", progress=False)
    assert [task.name for task in result.tasks] == list(FOLDERS)
    assert result.isolation == "joint"


def test_missing_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_DATA", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"cubs_cropped/train.*--quick"):
        recipe("part/five_tasks")("full")


def test_shared_paths_share_the_named_layers_only() -> None:
    paths = shared_paths("a", "b", "13")
    shared = [set(one) & set(other) for one, other in zip(paths["a"], paths["b"], strict=True)]
    assert shared == [{0, 1}, set(), {0, 1}, set(), set()]


def test_overrides_reach_every_variant() -> None:
    changed = experiment_of("part/digits", "smoke", ["method.modules=8", "variants.single.epochs=3", "threads=1"])
    assert {variant.config["modules"] for variant in changed.variants.values()} == {8}
    assert changed.variants["single"].config["epochs"] == 3 and changed.variants["parallel"].config["epochs"] == 1
    assert changed.threads == 1


@pytest.mark.parametrize(
    ("override", "error", "says"),
    [
        ("method.modles=3", UnknownName, "modules"),
        ("method.modules=abc", InvalidInput, "modules"),
        ("method.selected=9", InvalidInput, "must not exceed"),
        ("presicion=32-true", UnknownName, "precision"),
        ("precision=8bit", InvalidInput, "precision"),
        ("method.modules", InvalidInput, "PATH=VALUE"),
    ],
)
def test_wrong_overrides_say_where(override: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        experiment_of("part/digits", "smoke", [override])


def test_seed_counts_begin_with_the_recipes_own() -> None:
    assert first_seeds("part/cifar100", "quick", 3) == [456, 23743, 96253]
    assert len(set(first_seeds("part/cifar100", "quick", 8))) == 8


def test_a_run_folder_is_not_taken_twice(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ["suite.tasks=2", "suite.classes_per_task=2", "threads=1"]
    experiment = experiment_of("part/digits", "smoke", settings, variants=["parallel"])
    first = run_experiment(experiment, out, progress=False)
    with pytest.raises(InvalidInput, match="already holds this run"):
        run_experiment(experiment, out, progress=False)
    other = experiment_of("part/digits", "smoke", [*settings, "method.modules=4"], variants=["parallel"])
    with pytest.raises(InvalidInput, match="another run"):
        run_experiment(other, out, resume=True, progress=False)
    assert run_experiment(experiment, out, resume=True, progress=False) == first
