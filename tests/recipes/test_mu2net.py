"""mu2Net's recipes: the smoke size, and what the full size says of the paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import polypath as pp
from polypath.core.result import Result
from polypath.methods.mu2net import Mu2NetConfig
from polypath.nn.layered import Layered
from polypath.nn.lineage import lineage
from polypath.recipes.experiment import experiment_of, planned, run_experiment


@pytest.mark.recipe
@pytest.mark.realdata
def test_numerals_run_in_smoke_size_and_telugu_stays_private(tmp_path: Path) -> None:
    experiment = experiment_of("mu2net/numerals", "smoke", ["threads=1"])
    results = run_experiment(experiment, tmp_path, progress=False)
    assert [result.variant for result in results] == list(experiment.variants)
    for result in results:
        stored = json.loads((tmp_path / result.variant / f"seed-{result.seed}" / "results.json").read_text())
        assert Result.of(stored) == result and result.isolation == "exact"
        assert all(0 <= task.test["accuracy"] <= 1 for task in result.tasks)
    system = pp.load(tmp_path / "mu2net" / "seed-0" / "system")
    network = system.network
    assert isinstance(network, Layered)
    assert network.model_of("telugu").groups == ("telugu",)
    assert all("telugu" not in lineage(network, task).shares for task in ("bangla", "devanagari"))


@pytest.mark.realdata
def test_the_full_size_is_the_papers_preliminary_experiment() -> None:
    """Ti/16 without blocks at 32 pixels: 149,184 parameters and a head of 192 * 10 + 10."""
    experiment = experiment_of("mu2net/numerals", "full")
    config = Mu2NetConfig.of(experiment.variants["mu2net"].config)
    sizes = (config.iterations, config.generations, config.children, config.cycles, config.batch)
    assert sizes == (2, 4, 8, 4, 512)
    assert (config.samples, config.validation) == (51_200, 5_120)
    assert config.hyperparameters["warmup"].start == 0.1 and config.hyperparameters["num_layers"].values == (0, 1, 2, 3)
    plan = planned(experiment_of("mu2net/numerals", "full", variants=["mu2net"]))
    assert [task["parameters"] for task in plan["variants"]["mu2net"]["tasks"]] == [149_184 + 1_930] * 3
