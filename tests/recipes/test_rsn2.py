"""RSN2's recipes: each in smoke size, the paper's sizes and counts as planned, variants with suites of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from polypath.core.errors import UnknownName
from polypath.core.result import Result
from polypath.recipes import RECIPES, recipe
from polypath.recipes.experiment import Experiment, Variant, experiment_of, planned, run_experiment, suites_of
from polypath.recipes.rsn2 import first_rows

OURS = [name for name in RECIPES if name.startswith("rsn2/")]
# Dense controls at the paper's sizes: layers added up by hand.
FC = 784 * 1000 + 1000 + 5 * (1000 * 1000 + 1000) + 1000 * 10 + 10


def conv(flat: int) -> int:
    """Two blocks of two 3x3 convolutions, two layers of 256, ten outputs; `flat` numbers reach the first layer."""
    convolutions = (9 * 1 * 32 + 32) + (9 * 32 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 64 + 64)
    return convolutions + (flat * 256 + 256) + (256 * 256 + 256) + (256 * 10 + 10)


@pytest.mark.recipe
@pytest.mark.realdata
@pytest.mark.parametrize("name", OURS)
def test_recipes_run_in_smoke_size(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    experiment = experiment_of(name, "smoke")
    results = run_experiment(experiment, out, progress=False)
    assert [result.variant for result in results] == list(experiment.variants)
    for result in results:
        stored = json.loads((out / result.variant / f"seed-{result.seed}" / "results.json").read_text())
        assert Result.of(stored) == result
        assert bool(result.analysis.get("ensemble")) == ("ensemble" in experiment.variants[result.variant].analysis)
        for task in result.tasks:
            assert bool(task.f1) == ("accuracy" in task.test)
            assert all(0 <= f1 <= 1 for f1 in task.f1.values())


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "variant", "parameters"),
    [
        ("rsn2/digits_fashion_fc", "dense", 2 * FC),
        ("rsn2/fashion_ensemble", "dense", conv(64 * 26 * 26)),  # 28 -> 27 -> 26 with stride 1
        ("rsn2/fashion_ensemble", "dense_stride2", conv(64 * 7 * 7)),
    ],
)
def test_dense_controls_have_the_papers_parameters(name: str, variant: str, parameters: int) -> None:
    plan = planned(experiment_of(name, "full", variants=[variant]))["variants"][variant]
    assert plan["totals"]["parameters"] == parameters


def test_the_sums_by_hand_are_the_papers() -> None:
    assert FC == 5_800_010
    assert conv(64 * 26 * 26) == 11_209_194
    assert conv(64 * 7 * 7) == 936_426


@pytest.mark.parametrize("name", [name for name in OURS if name != "rsn2/owners"])  # not an experiment of the paper
def test_full_size_trains_as_the_paper_says(name: str) -> None:
    experiment = recipe(name)("full")
    assert isinstance(experiment, Experiment)
    for variant in experiment.variants.values():
        assert variant.config["learning_rate"] == 1e-3 and variant.config["epochs"] == 100
        assert variant.config["patience"] == (5 if name == "rsn2/faces_cifar" else 3)
        if not variant_is_finer(variant):
            assert variant.config["min_delta"] == (0.004 if name == "rsn2/reuters" else 0.01)


def test_owners_differ_in_nothing_but_who_owns_what() -> None:
    variants = experiment_of("rsn2/owners", "full").variants
    assert {variant.method for variant in variants.values()} == {"rsn2", "packnet", "cpg", "nestednet", "single"}
    for key in ("backbone", "optimizer", "learning_rate", "batch", "epochs", "patience"):
        assert len({str(variant.config[key]) for variant in variants.values()}) == 1, key


def variant_is_finer(variant: Variant) -> bool:
    """Boston's loss is about 0.02, so one variant asks for smaller improvements of it."""
    return variant.config["min_delta"] == {"default": 0.01, "boston": 0.001}


def test_four_domains_keeps_the_papers_stopping_by_default() -> None:
    chosen = experiment_of("rsn2/four_domains", "full").variants
    assert list(chosen) == ["rsn2", "dense"] and not any(map(variant_is_finer, chosen.values()))


def test_small_sizes_take_disjoint_rows() -> None:
    assert first_rows(250, 100) == {"train": "train[:200]", "validation": "train[200:250]", "test": "test[:100]"}


def two_suites() -> Experiment:
    """Digits of 8 x 8 and of 16 x 16 pixels; the large variant learns the second task only."""
    suite = {"kind": "split", "dataset": "digits", "tasks": 2, "classes_per_task": 2, "per_class": 10}
    config = {"backbone": {"kind": "mlp", "hidden": [4]}, "epochs": 1, "batch": 8}
    return Experiment(
        recipe="none",
        title="two suites",
        paper="none",
        suite=suite,
        variants={
            "small": Variant(method="single", config=config),
            "again": Variant(method="single", config=config),
            "large": Variant(method="single", config=config, suite={**suite, "size": 16}, tasks=("task2",)),
        },
        main="small",
        by_default=("small", "large"),
    )


def test_variants_learn_suites_and_tasks_of_their_own(tmp_path: Path) -> None:
    experiment = two_suites()
    suites = suites_of(experiment, 0)
    assert suites["small"] is suites["again"]  # examples are read once
    assert suites["large"].names == ("task2",) and suites["large"]["task2"].task.inputs.shape == (1, 16, 16)
    plan = planned(experiment)["variants"]
    assert plan["small"]["totals"]["parameters"] == 2 * ((64 * 4 + 4) + (4 * 2 + 2))
    assert plan["large"]["totals"]["parameters"] == (256 * 4 + 4) + (4 * 2 + 2)
    results = run_experiment(experiment, tmp_path / "run", progress=False)
    assert {r.variant: [t.name for t in r.tasks] for r in results} == {
        "small": ["task1", "task2"],
        "again": ["task1", "task2"],
        "large": ["task2"],
    }


def test_variants_by_default_are_those_named_by_the_recipe() -> None:
    name = "rsn2/fashion_ensemble"
    assert list(experiment_of(name, "full").variants) == ["rsn2", "dense"]
    chosen = experiment_of(name, "full", variants=["rsn2_stride2", "dense_stride2"])
    assert list(chosen.variants) == ["rsn2_stride2", "dense_stride2"] and chosen.main == "rsn2_stride2"
    with pytest.raises(UnknownName, match="dense_stride2"):
        experiment_of(name, "full", variants=["dense_stride"])
    with pytest.raises(ValidationError, match="are not all among"):
        Experiment(**{**two_suites().model_dump(), "by_default": ("medium",)})


def test_suite_overrides_reach_the_suites_of_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "none", "tests.recipes.test_rsn2:two_suites")
    monkeypatch.setattr("polypath.recipes.experiment.recipe", lambda name: lambda size: two_suites())
    changed = experiment_of("none", "full", ["suite.per_class=5"])
    assert changed.suite["per_class"] == 5
    large = changed.variants["large"].suite
    assert large is not None and large["per_class"] == 5 and large["size"] == 16
