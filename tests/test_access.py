"""Whose data shaped what a task answers with: groups travel with components, through saving, growth and removal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite, TaskData
from polypath.system import System
from polypath.testing import tiny_features

RUN: dict[str, Any] = {"threads": 1, "progress": False, "device": "cpu", "precision": "32-true"}
MLP = {"kind": "mlp", "hidden": [6]}
SETTINGS: dict[str, dict[str, Any]] = {
    "single": {"backbone": MLP, "epochs": 1, "batch": 8},
    "rsn2": {"backbone": MLP, "share": 0.2, "order": "sequential", "epochs": 1, "batch": 8, "samples": 8},
    "packnet": {"backbone": MLP, "epochs": 1, "retrain_epochs": 1, "batch": 8},
    "hard_sharing": {"backbone": MLP, "epochs": 1, "batch": 8},
    "ewc": {"backbone": MLP, "epochs": 1, "batch": 8},
}
PLAIN = tiny_features(3).tasks


def private(data: TaskData) -> TaskData:
    return replace(data, task=data.task.changed(private_to="lab"))


def learn(method: str, *tasks: TaskData) -> System:
    return pp.learn(method, Suite("access", tasks), **SETTINGS[method], **RUN)


def groups(system: System) -> dict[str, set[str]]:
    return {task: set(system.access(task)) for task in system.tasks}


def reloaded(system: System, folder: Path) -> System:
    return pp.load(system.save(folder))


@pytest.mark.parametrize("method", ["single", "rsn2"])
def test_what_uses_nothing_of_a_private_task_is_open(method: str, tmp_path: Path) -> None:
    system = learn(method, private(PLAIN[0]), PLAIN[1])
    assert groups(system) == {"task0": {"lab"}, "task1": set()}
    again = reloaded(system, tmp_path / "s")
    again.learn(PLAIN[2], **RUN)
    assert groups(again) == {"task0": {"lab"}, "task1": set(), "task2": set()}
    again.remove("task0")
    assert groups(reloaded(again, tmp_path / "s")) == {"task1": set(), "task2": set()}


def test_what_builds_on_a_private_task_needs_its_group(tmp_path: Path) -> None:
    system = reloaded(learn("packnet", private(PLAIN[0]), PLAIN[1]), tmp_path / "s")
    system.learn(PLAIN[2], **RUN)
    system = reloaded(system, tmp_path / "s")
    assert groups(system) == {"task0": {"lab"}, "task1": {"lab"}, "task2": {"lab"}}
    with pytest.raises(InvalidInput, match=r"\['task1', 'task2'\]"):
        system.remove("task0")
    assert groups(system) == {"task0": {"lab"}, "task1": {"lab"}, "task2": {"lab"}}
    system.remove("task0", cascade=True)
    system.learn(PLAIN[1], **RUN)
    assert groups(reloaded(system, tmp_path / "s")) == {"task1": set()}  # nothing is left of its data


def test_learned_before_a_private_task_stays_open_where_nothing_moves() -> None:
    system = learn("packnet", PLAIN[0], private(PLAIN[1]))
    assert groups(system) == {"task0": set(), "task1": {"lab"}}


def test_learned_together_with_a_private_task_needs_its_group_for_ever(tmp_path: Path) -> None:
    system = reloaded(learn("hard_sharing", private(PLAIN[0]), PLAIN[1]), tmp_path / "s")
    assert groups(system) == {"task0": {"lab"}, "task1": {"lab"}}
    with pytest.raises(InvalidInput, match="task1"):  # what a private task's data trained goes with it, or stays named
        system.remove("task0")
    system.remove("task0", keep_residue=True)
    system = reloaded(system, tmp_path / "s")
    assert groups(system) == {"task1": {"lab"}}
    system.learn(PLAIN[1:], **RUN)  # trained again with open data alone: the trunk still remembers
    assert groups(reloaded(system, tmp_path / "s")) == {"task1": {"lab"}, "task2": {"lab"}}


def test_an_old_task_that_private_data_moves_needs_the_group_from_then_on(tmp_path: Path) -> None:
    system = learn("ewc", PLAIN[0])
    assert groups(system) == {"task0": set()}
    system.learn(private(PLAIN[1]), **RUN)
    assert groups(reloaded(system, tmp_path / "s")) == {"task0": {"lab"}, "task1": {"lab"}}


def test_access_is_transitive_through_what_was_trained_on_top(tmp_path: Path) -> None:
    """above trains module 1 on secret's first layer; third uses of both what above trained alone."""
    paths = {
        "secret": [[0]] * 9,
        "above": [[0]] + [[1]] * 8,
        "third": [[2]] + [[1]] * 8,
        "apart": [[3]] * 9,
    }
    suite = Suite(
        "transitive", tuple(tiny.data(name, private_to="lab" if name == "secret" else None) for name in paths)
    )
    settings = {"mode": "sequential", "modules": 4, "selected": 1, "paths": paths, "epochs": 1, "evaluate_every": 0}
    system = reloaded(tiny.learn(suite, **settings), tmp_path / "s")
    wanted = {"secret": {"lab"}, "above": {"lab"}, "third": {"lab"}, "apart": set()}
    assert groups(system) == wanted
    system.remove("secret", keep_residue=True)
    del wanted["secret"]
    assert groups(reloaded(system, tmp_path / "s")) == wanted


@pytest.mark.parametrize("marked", [True, False], ids=["the data is private", "the system's task is"])
def test_a_known_task_that_trains_on_keeps_its_access(marked: bool) -> None:
    """Otherwise private examples would go into a task that anyone may use, and nobody would be told."""
    open_, closed = tiny.data("one", validation=True), tiny.data("one", validation=True, private_to="lab")
    evolution = {"iterations": 1, "generations": 1, "children": 2, "cycles": 1, "batch": 8}
    grid = {"modules": 2, "selected": 1, "width": 1, "epochs": 1, "batch": 8}
    before, now = (open_, closed) if marked else (closed, open_)
    evolved = pp.learn("mu2net", before, root=MLP, **evolution, **RUN)
    with pytest.raises(InvalidInput, match="'one'.*private_to is .* in the data.*update without further"):
        evolved.update(now, further=True, **RUN)
    joint = pp.learn("part", before, **grid, **RUN)
    with pytest.raises(InvalidInput, match="private_to"):
        joint.learn([now, tiny.data("two")], **RUN)
    joint.learn([before, tiny.data("two")], **RUN)
    evolved.update(now, **RUN)
    assert groups(evolved) == {"one": {"lab"} if marked else set()}
