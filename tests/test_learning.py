"""Learning: promises kept or nothing changed, run folders that belong to one run, records that add up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny
import torch

import polypath as pp
from polypath.core.errors import Cancelled, InvalidInput, IsolationError, Locked, UnknownName
from polypath.core.examples import Suite, TaskData
from polypath.core.network import Network
from polypath.core.result import Result
from polypath.core.run import Run
from polypath.core.task import Regression
from polypath.methods import METHODS
from polypath.methods.part import PaRT
from polypath.methods.single import Single
from polypath.report.summary import overall
from polypath.store import writing
from polypath.system import System
from polypath.testing import tiny_features

QUICK: dict[str, Any] = {"epochs": 1, "evaluate_every": 0}
GROW: dict[str, Any] = {"progress": False, "threads": 1}


# ---- growth: all or nothing -----------------------------------------------------------------------------------


class Bad(PaRT):
    """PaRT that breaks its promise, or just breaks, when it learns a task called `bad`."""

    name: ClassVar[str] = "bad"
    harm: ClassVar[str] = ""

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """Learn, and then do the harm."""
        super().learn(network, data, run)
        if data[0].name != "bad":
            return
        if self.harm == "raise":
            raise RuntimeError("half-way")
        if self.harm == "leak":  # a module that task1 uses
            with torch.no_grad():
                network.state_dict()["pool.layer5-module00.conv1.weight"][0, 0, 0, 0] += 1e-6
        if self.harm == "reroute":  # not a weight moves, and yet task1 is another
            network._rows["task1"] = [[1, 2]] * 9  # type: ignore[attr-defined]


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setitem(METHODS, "bad", f"{__name__}:Bad")
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(Bad=Bad))
    config = {key: tiny.SETTINGS[key] for key in ("modules", "selected", "width", "batch", "batch_set")}
    from polypath.learning import learn

    method = Bad(**config, **QUICK, mode="sequential", paths={"task1": [[0, 1]] * 9})
    return learn(method, tiny.suite(1), device="cpu", precision="32-true", **GROW)


def everything(system: System) -> dict[str, Any]:
    return {
        "state": tiny.state_digest(system),
        "plan": system.network.plan(),
        "history": list(system.history),
        "entries": dict(system.entries),
        "sources": {name: dict(held) for name, held in system.sources.items()},
        "tombstones": dict(system.tombstones),
        "config": dict(system.suite_config),
        "data": system.data.names if system.data else None,
        "probabilities": system.predict("task1", tiny.pixels(3, 0)).probabilities.tolist(),
        "generator": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize(
    ("harm", "error", "says"),
    [
        ("raise", RuntimeError, "half-way"),
        ("leak", IsolationError, r"layer5\.module00.*previous system is kept"),
        ("reroute", IsolationError, "path of task1.*previous system is kept"),
    ],
)
def test_a_failed_growth_changes_nothing(
    bad: System, harm: str, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(bad)
    monkeypatch.setattr(Bad, "harm", harm)
    with pytest.raises(error, match=says):  # the second of two stages fails: the first is taken back, too
        bad.learn([tiny.data("good", seed=4), tiny.data("bad", seed=5)], **GROW)
    assert everything(bad) == before
    assert bad.verify().ok
    monkeypatch.setattr(Bad, "harm", "")
    assert list(bad.learn(tiny.data("bad", seed=5), **GROW).tasks) == ["task1", "bad"]


def test_a_cancelled_growth_changes_nothing() -> None:
    system = tiny.learn(tiny.suite(1), mode="sequential", **QUICK)
    before = everything(system)
    with pytest.raises(Cancelled):
        system.learn(tiny.data("new", seed=4), on_progress=lambda now: True, epochs=9, **GROW)
    assert everything(system) == before


def test_growth_says_what_it_needs() -> None:
    system = tiny.learn(tiny.suite(1), **QUICK)
    with pytest.raises(InvalidInput, match=r"joint.*needs the data of \['task1'\]"):
        system.learn(tiny.data("new"), **GROW)
    with pytest.raises(InvalidInput, match="nothing to learn"):
        system.learn(tiny.suite(1), **GROW)
    with pytest.raises(InvalidInput, match="mean and std"):
        system.learn(tiny.data("r", target=Regression()), mode="sequential", **GROW)
    with pytest.raises(UnknownName, match="Did you mean 'epochs'"):
        system.learn(tiny.data("new"), epoch=3)
    system.learn(tiny.data("new", seed=8), mode="sequential", **GROW)
    assert set(system.evaluate()) == {"task1", "new"}  # both suites are at hand
    assert [event.isolation for event in system.history] == ["joint", "exact"]
    assert system.isolation == "exact"


# ---- run folders ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, System]:
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, tiny.learn(tiny.suite(3), mode="sequential", out=folder, order="random")


def test_a_run_folder_belongs_to_one_run(run: tuple[Path, System], tmp_path: Path) -> None:
    folder, system = run
    kept = tiny.contents(folder)
    same: dict[str, Any] = {"mode": "sequential", "order": "random", "out": folder}
    with pytest.raises(InvalidInput, match="already holds this run.*resume"):
        tiny.learn(tiny.suite(3), **same)
    with pytest.raises(InvalidInput, match="holds another run.*seed"):
        tiny.learn(tiny.suite(3), seed=5, resume=True, **same)
    again = tiny.learn(tiny.suite(3), resume=True, **same)  # finished: read, not learned
    again.load_all()
    assert tiny.state_digest(again) == tiny.state_digest(system) and again.result == system.result
    assert tiny.contents(folder) == kept
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not empty"):
        tiny.learn(tiny.suite(1), out=tmp_path)
    with pytest.raises(InvalidInput, match="is a file"):
        tiny.learn(tiny.suite(1), out=tmp_path / "notes.txt")
    assert tiny.contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_run_that_is_going_on_is_left_alone(run: tuple[Path, System]) -> None:
    with writing(run[0]), pytest.raises(Locked, match="process"):
        tiny.learn(tiny.suite(3), mode="sequential", order="random", out=run[0], resume=True)


def test_settings_that_did_not_fit_leave_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="9 rows"):
        tiny.learn(tiny.suite(1), out=tmp_path / "run", paths={"task1": [[0, 1]]}, **QUICK)
    assert tiny.learn(tiny.suite(1), out=tmp_path / "run", **QUICK).result.tasks[0].test


# ---- the record -----------------------------------------------------------------------------------------------


def test_the_record_adds_up(run: tuple[Path, System]) -> None:
    folder, system = run
    result = Result.model_validate_json((folder / "results.json").read_text())
    assert result == system.result
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    order = [event.tasks[0] for event in system.history]
    assert sorted(order) == ["task1", "task2", "task3"]

    # curves: what metrics.jsonl says, epoch by epoch, and nothing twice
    for curve in result.curves:
        kind = "train" if curve.split == "train" else "score"
        held = [
            (
                line["stage"],
                line["epoch"],
                line["loss"][curve.task] if kind == "train" else line["values"][curve.metric],
            )
            for line in lines
            if line["kind"] == kind and (curve.task in line["loss"] if kind == "train" else line["task"] == curve.task)
        ]
        assert list(zip(curve.stages, curve.epochs, curve.values, strict=True)) == held
        assert held[0][0] == order.index(curve.task) and [epoch for _, epoch, _ in held] == [0, 1]

    # matrix: a row a stage; a frozen task keeps its score, counted again here from its answers
    for stage, row in enumerate(result.lifelong.matrix):
        for name, value in zip(["task1", "task2", "task3"], row, strict=True):
            if name not in order[: stage + 1]:
                assert value is None
                continue
            opened = tiny.suite(3)[name].test.unseal()
            answers = system.predict(name, opened.inputs()).probabilities.argmax(1)
            assert value == pytest.approx(float((answers == opened.targets).float().mean()))
    assert len(result.lifelong.matrix) == 3
    final = dict(zip(["task1", "task2", "task3"], result.lifelong.matrix[-1], strict=True))
    assert {task.name: task.test["accuracy"] for task in result.tasks} == pytest.approx(final)
    assert result.lifelong.peak_accuracy == pytest.approx(final)
    assert overall(result)["accuracy"] == pytest.approx(np.mean(list(final.values())))

    # totals, from the tensors themselves
    parameters = sum(p.numel() for p in system.network.parameters())
    size = sum(t.numel() * t.element_size() for t in system.network.state_dict().values())
    assert (result.totals.parameters, result.totals.size_bytes) == (parameters, size)
    for task in result.tasks:
        names = system.network.path(task.name).components
        used = sum(p.numel() for p in system.network.trainable(names))
        assert task.parameters == used and task.activated == pytest.approx(used / parameters)
        assert task.examples == {"train": 16, "test": 10}
        assert sum(map(sum, task.confusion)) == 10
        right = sum(task.confusion[i][i] for i in range(2))
        assert right / 10 == pytest.approx(task.test["accuracy"])
    assert sum(task.added_parameters for task in result.tasks) <= parameters
    assert result.timing.samples == 3 * 2 * 16  # tasks, epochs, examples
    assert result.environment["threads"] == 1 and result.config["seed"] == 0


def test_two_tasks_with_one_name_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"twice: \['a'\]"):
        Suite("s", (tiny.data("a"), tiny.data("a")))
    with pytest.raises(InvalidInput, match="a Suite or TaskData required"):
        tiny.learn(["digits"])


class Outside(Single):
    """A method that is in no table."""

    name = "outside"


def test_a_method_of_ones_own_goes_on_learning(tmp_path: Path) -> None:
    tasks, quick = tiny_features(3), {"epochs": 1, "batch": 8, "threads": 1, "progress": False}
    system = pp.learn(
        Outside(backbone={"kind": "mlp", "hidden": [4]}, epochs=1, batch=8), tasks.only(["task0"]), threads=1
    )
    system.learn(tasks["task1"], **quick)
    system.save(tmp_path / "s")
    loaded = pp.load(tmp_path / "s")
    with pytest.raises(InvalidInput, match=r"'outside'; name it again: --method .*learn\(..., method=MyMethod\)"):
        loaded.learn(tasks["task2"], **quick)
    with pytest.raises(InvalidInput, match="this system was learned with 'outside'; received 'single'"):
        loaded.learn(tasks["task2"], method="single", **quick)
    assert list(loaded.learn(tasks["task2"], method=Outside, **quick).tasks) == ["task0", "task1", "task2"]
