"""What `verify` proves: contents, answers, and that exact learning moved nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

import polypath as pp
import polypath.verification
from polypath.store import Store
from polypath.system import System

QUICK: dict[str, Any] = {"epochs": 1, "evaluate_every": 0}
GROW: dict[str, Any] = {"progress": False, "threads": 1}


def learned(mode: str, tasks: int = 2, **settings: Any) -> System:
    return tiny.learn(tiny.suite(tasks), mode=mode, **QUICK, **settings)


def test_identical_on_the_same_machine(tmp_path: Path) -> None:
    system = learned("parallel")
    for found in (system.verify(), pp.load(system.save(tmp_path / "s")).verify(), system.verify()):
        assert found.ok and found.same_machine and found.failing == []
        assert [(t.replay, t.difference, t.drift) for t in found.tasks.values()] == [("identical", 0.0, 0.0)] * 2
        assert "2 task(s) replayed bit-identical" in found.summary()


def test_another_machine_is_judged_by_closeness_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = learned("parallel").save(tmp_path / "s")
    monkeypatch.setattr(polypath.verification, "machine", lambda: "another")
    original = polypath.verification.probe_outputs
    offset = [1e-7]
    monkeypatch.setattr(polypath.verification, "probe_outputs", lambda *a: original(*a) + offset[0])
    found = pp.load(folder).verify()
    assert found.ok and not found.same_machine
    assert {task.replay for task in found.tasks.values()} == {"close"}
    assert "within 1e-05 (other machine" in found.summary()
    monkeypatch.setattr(polypath.verification, "machine", lambda: pp_machine())
    assert pp.load(folder).verify().failing == ["task1", "task2"]  # here the same bits are due
    monkeypatch.setattr(polypath.verification, "machine", lambda: "another")
    offset[0] = 1e-2
    found = pp.load(folder).verify()
    assert not found.ok and {task.replay for task in found.tasks.values()} == {"different"}
    assert found.tasks["task1"].difference == pytest.approx(1e-2, rel=1e-2)


def pp_machine() -> str:
    from polypath.core.probe import machine

    return machine()


def test_exact_growth_leaves_no_drift(tmp_path: Path) -> None:
    system = learned("sequential", 1)
    expected = system.predict("task1", tiny.pixels(4, 1)).probabilities
    system.save(tmp_path / "s")
    system = pp.load(tmp_path / "s").learn(tiny.data("new", seed=9), **GROW)
    assert system.verify().ok  # grown, not saved: proved in memory
    assert torch.equal(system.predict("task1", tiny.pixels(4, 1)).probabilities, expected)
    system.save(tmp_path / "s")
    found = pp.load(tmp_path / "s").verify()
    assert found.ok and found.tasks["task1"].drift == 0 and found.tasks["task1"].exact
    assert list(found.tasks) == ["task1", "new"]


def test_joint_growth_reports_how_far_old_tasks_drifted(tmp_path: Path) -> None:
    system = learned("parallel", 1)
    inputs = tiny.pixels(1, 0)
    folder = system.save(tmp_path / "s")
    before = system.predict("task1", inputs).probabilities
    system.learn([*tiny.suite(1), tiny.data("new", seed=9)], learning_rate=0.05, **GROW)
    assert not torch.equal(system.predict("task1", inputs).probabilities, before)
    for found in (
        system.verify(),
        pp.load(system.save(folder)).verify(),
        pp.load(system.save(tmp_path / "t")).verify(),
    ):
        assert found.ok  # joint learning promised nothing else
        assert found.tasks["task1"].drift > 0 and not found.tasks["task1"].exact
        assert found.tasks["new"].drift == 0


def test_an_exact_task_that_drifted_fails(tmp_path: Path) -> None:
    system = learned("sequential", 2)
    folder = system.save(tmp_path / "s")
    system = pp.load(folder)
    system.load_all()
    with torch.no_grad():
        system.network.state_dict()["heads.t0.bias"].add_(0.5)
    found = system.verify()
    assert found.damaged == {"head.t0": "the copy in memory was changed after it was saved"}
    system.save(folder)
    found = pp.load(folder).verify()
    assert not found.damaged and found.tasks["task1"].replay == "identical"
    assert found.tasks["task1"].drift == pytest.approx(0.5, rel=1e-5)
    assert found.failing == ["task1"] and "task1" in found.summary()


def test_answers_are_recorded_in_one_layout() -> None:
    """One-channel convolutions count as contiguous in both layouts, but sum in another order."""
    from polypath.core.probe import probe_outputs

    system = learned("parallel", 1)
    plain = probe_outputs(system.network, "task1", 0)
    system.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.equal(probe_outputs(system.network, "task1", 0), plain)


def test_learned_answers_travel_when_a_system_is_saved_elsewhere(tmp_path: Path) -> None:
    folder = learned("parallel", 1).save(tmp_path / "s")
    other = pp.load(folder).save(tmp_path / "t")
    probe = Store(other).manifest().tasks["task1"].probe
    assert probe is not None and Store(other).proven(probe.learned)["outputs"].shape == (8, 2)
