"""mu2Net's recipes: the smoke size, and what the full size says of the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.result import Result, TaskResult, Timing, Totals
from polypath.methods.mu2net import Mu2NetConfig
from polypath.nn.layered import Layered
from polypath.nn.lineage import lineage
from polypath.recipes.experiment import experiment_of, planned, run_experiment
from polypath.recipes.following import followed
from polypath.recipes.mu2net.ancestry import winner_passes


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
    searched, control = results
    evolved = searched.analysis["evolution"]
    assert evolved["checks"] == {"score_falls": [], "leaks": []}
    models = {model["task"]: model for model in evolved["models"]}
    # Batches of 16; the control of a winner made from another task's model has the steps of that one, too.
    passes = control.config["config"]["cycles_of"]
    assert passes.keys() == models.keys()
    for task in searched.tasks:
        each = -(-task.examples["train"] // 16)
        assert passes[task.name] == -(-sum(models[task.name]["steps"].values()) // each)
    lines = [json.loads(line) for line in (tmp_path / "alone_winner/seed-0/metrics.jsonl").read_text().splitlines()]
    trained = {line["search"]: len(line["children"][0]["quality"]) for line in lines if "search" in line}
    assert trained == passes
    system = pp.load(tmp_path / "mu2net" / "seed-0" / "system")
    network = system.network
    assert isinstance(network, Layered)
    assert network.model_of("telugu").groups == ("telugu",)
    assert all("telugu" not in lineage(network, task).shares for task in ("bangla", "devanagari"))


@pytest.mark.realdata
def test_the_control_of_the_winners_needs_the_search_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--variant mu2net --variant alone_winner"):
        experiment_of("mu2net/numerals", "smoke", variants=["alone_winner"])
    swapped = experiment_of("mu2net/numerals", "smoke", variants=["alone_winner", "mu2net"])
    assert [name for name, _ in swapped.in_order] == ["mu2net", "alone_winner"]
    follows = swapped.variants["alone_winner"].follows
    assert follows is not None
    with pytest.raises(InvalidInput, match=r"mu2net.*seed 3.*results\.json does not exist"):
        followed(follows, "alone_winner", tmp_path, 3)


def test_passes_of_winners_count_whole_ancestries() -> None:
    """Batches of 4: 10 images are 3 steps a pass; 7 steps on a and 3 on b make 10 steps, 4 passes; b's 3 make one."""
    models = [{"task": "a", "steps": {"a": 7, "b": 3}}, {"task": "b", "steps": {"b": 3}}]
    found = winner_passes(record_of(models))
    assert found == {"cycles_of": {"a": 4, "b": 1}}
    with pytest.raises(InvalidInput, match="steps of the model of task 'b'"):
        winner_passes(record_of(models[:1]))


def record_of(models: list[dict[str, Any]]) -> Result:
    """The record of a search over two tasks of ten images each."""
    tasks = [
        TaskResult(name=name, test={}, parameters=1, added_parameters=1, activated=1.0, flops=1, examples={"train": 10})
        for name in ("a", "b")
    ]
    zero = dict.fromkeys(Timing.model_fields, 0)
    return Result(
        recipe="own",
        variant="mu2net",
        method="mu2net",
        isolation="exact",
        suite="own",
        seed=0,
        size="full",
        tasks=tasks,
        totals=Totals(parameters=1, size_bytes=1),
        analysis={"evolution": {"models": models}},
        timing=Timing.of(zero),
        config={"config": {"batch": 4}},
        environment={},
    )


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
