"""A mu2Net system of many tasks: what is read when one is asked or added; known tasks that evolve further."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import polypath as pp
from polypath import lifecycle
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.nn.layered import Layered
from polypath.nn.lineage import lineage
from polypath.store import Store
from polypath.system import System
from polypath.testing import tiny_features

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
TINY: dict[str, Any] = {
    "root": {"kind": "mlp", "hidden": [6, 5]},
    "iterations": 1,
    "generations": 1,
    "children": 2,
    "cycles": 1,
    "batch": 5,
    "hyperparameters": {"mu": [0.5], "learning_rate": [0.02, 0.05, 0.1]},
}
SUITE = tiny_features(7)
KNOWN = SUITE.names[:6]


def private(suite: Suite, **groups: str) -> Suite:
    """The suite with some tasks private to groups."""
    return replace(suite, tasks=tuple(replace(d, task=d.task.changed(private_to=groups.get(d.name))) for d in suite))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved system of six tasks, the first two of the lab."""
    suite = private(SUITE, task0="lab", task1="lab")
    return pp.learn("mu2net", suite.only(KNOWN), **RUN, **TINY).save(tmp_path_factory.mktemp("mu2net") / "s")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return pp.load(saved).save(tmp_path / "system")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses of the files of components and traces that were read since."""
    right: Callable[[Store, str], dict[str, torch.Tensor]] = Store.proven
    found: list[str] = []

    def watched(self: Store, sha256: str) -> dict[str, torch.Tensor]:
        found.append(sha256)
        return right(self, sha256)

    monkeypatch.setattr(Store, "proven", watched)
    return found


def net(system: System) -> Layered:
    assert isinstance(system.network, Layered)
    return system.network


def addresses(system: System, names: Any) -> set[str]:
    return {system.filed[name].sha256 for name in names}


def answers(system: System, tasks: Any) -> dict[str, list[Any]]:
    return {task: system.predict(task, SUITE[task].train.inputs()).probabilities.tolist() for task in tasks}


# ---- what is read -------------------------------------------------------------------------------------------------


def test_opening_reads_no_component_and_answering_reads_those_of_one_task(saved: Path, reads: list[str]) -> None:
    system = pp.load(saved)
    system.cost("task3"), system.sharing(), system.access("task2"), system.exit_costs("task3")
    assert lineage(net(system), "task3").shares["task3"] > 0
    assert reads == [] and list(system.network.parameters()) == [] and list(system.network.buffers()) == []
    system.predict("task3", SUITE["task3"].train.inputs())
    own = system.network.path("task3").components
    assert len(own) == 3 and set(reads) == addresses(system, own) and len(reads) == len(set(reads))
    assert set(system.network.built()) == set(own)


def test_a_system_opened_lazily_answers_bit_for_bit_like_one_read_whole(saved: Path) -> None:
    whole = pp.load(saved)
    whole.load_all()
    assert answers(pp.load(saved), KNOWN) == answers(whole, KNOWN)
    assert whole.network.plan() == pp.load(saved).network.plan()


def test_adding_a_task_reads_what_the_search_samples_and_nothing_else(folder: Path, reads: list[str]) -> None:
    system = pp.load(folder)
    before, models = dict(system.filed), dict(net(system).models)
    system.learn(SUITE["task6"], children=1, **RUN)
    chosen = net(system).selected("task6")
    parents = [models[number] for number in chosen if number in models]
    assert len(parents) == 1
    layers = [before[name] for slot, name in parents[0].layers if slot != "head"]
    asked = {entry.sha256 for entry in layers} | {entry.auxiliary for entry in layers if entry.auxiliary}
    assert set(reads) == asked
    assert system.save(folder) and pp.load(folder).verify().ok


def test_a_task_added_to_a_system_read_in_part_is_the_one_added_to_a_system_in_memory(folder: Path) -> None:
    """Digests of everything, traces too, models, and the answers of all tasks."""
    parted, whole = pp.load(folder), pp.load(folder)
    whole.load_all()
    for system in (parted, whole):
        system.learn(SUITE["task6"], generations=2, **RUN)
        system.load_all()
    assert parted.network.digests() == whole.network.digests()
    traces = {key: value.tolist() for key, value in whole.network.named_buffers()}
    assert traces and {key: value.tolist() for key, value in parted.network.named_buffers()} == traces
    assert parted.network.plan() == whole.network.plan()
    assert answers(parted, SUITE.names) == answers(whole, SUITE.names)


def test_what_answering_read_goes_back_to_disk_when_the_system_grows(folder: Path) -> None:
    system = pp.load(folder)
    before = answers(system, KNOWN)
    system.learn(SUITE["task6"], children=1, **RUN)
    assert len(system.network.built()) < len(system.network.components())
    assert answers(system, KNOWN) == before
    assert answers(pp.load(system.save(folder)), KNOWN) == before


def test_a_task_may_be_called_like_a_key_of_a_setting() -> None:
    named = [replace(data, task=data.task.renamed(name)) for data, name in zip(SUITE, ("kind", "mu"), strict=False)]
    suite = replace(SUITE, tasks=tuple(named))
    system = pp.learn("mu2net", suite, **RUN, **TINY)
    before = system.config
    system.rename("kind", "sort")
    system.rename("mu", "nu")
    assert system.config == before
    system.learn(SUITE["task6"], **RUN)


def test_removal_and_renaming_work_on_a_system_read_in_part(folder: Path) -> None:
    system = pp.load(folder)
    before = answers(pp.load(folder), KNOWN)
    system.predict("task2", SUITE["task2"].train.inputs())
    system.rename("task2", "other")
    again = pp.load(system.save(folder))
    row = SUITE["task2"].train.inputs()
    assert again.predict("other", row).probabilities.tolist() == before["task2"]
    again.remove("task5", cascade=True)
    left = pp.load(again.save(folder))
    assert left.verify().ok and "task5" not in left.tasks
    kept = [task for task in left.tasks if task != "other"]
    assert answers(left, kept) == {task: before[task] for task in kept}


# ---- further ------------------------------------------------------------------------------------------------------


def test_a_known_task_evolves_further_and_its_score_never_falls(folder: Path) -> None:
    system = pp.load(folder)
    suite = private(SUITE, task0="lab", task1="lab")
    others = [name for name in KNOWN if name != "task4"]
    before = answers(system, others)
    digests = {name: system.filed[name].sha256 for name in system.network.components_of(others)}
    models = [net(system).model_of("task4")]
    for _ in range(3):
        system.update(suite["task4"], further=True, children=3, **RUN)
        models.append(net(system).model_of("task4"))
        assert system.entries["task4"].metrics
    scores = [model.score for model in models if model.score is not None]
    assert len(scores) == len(models) and scores == sorted(scores)
    assert len({model.number for model in models}) > 1, "no generation was kept"
    system.save(folder)
    again = pp.load(folder)
    assert answers(again, others) == before and again.verify().ok
    assert {name: again.filed[name].sha256 for name in digests} == digests
    assert lineage(net(again), "task4").shares["task4"] > 0
    assert net(again).model_of("task4").groups == ()
    assert again.access("task4") == frozenset()  # nothing of the lab's tasks came in


def test_the_command_goes_further_with_a_certificate(folder: Path) -> None:
    done = lifecycle.update(folder, SUITE["task3"], further=True, **RUN)
    assert done.certificate is not None and done.certificate.identical
    assert set(done.certificate.others) == set(KNOWN) - {"task3"}


def test_a_method_that_cannot_go_on_says_so() -> None:
    single = {"backbone": {"kind": "mlp", "hidden": [4]}, "epochs": 1, "batch": 8, **RUN}
    system = pp.learn("single", SUITE["task0"], **single)
    with pytest.raises(InvalidInput, match=r"single cannot go on with a task it has learned \(\['task0'\]\)"):
        system.update(SUITE["task0"], further=True, **RUN)


# ---- who may add --------------------------------------------------------------------------------------------------


def test_a_private_task_is_refused_from_whoever_lacks_its_group(folder: Path) -> None:
    system = pp.load(folder)
    plan = system.network.plan()
    secret = private(SUITE, task6="lab")["task6"]
    for groups in ((), ("office",)):
        with pytest.raises(InvalidInput, match=r"task 'task6' is private to 'lab', but whoever adds it is in"):
            system.learn(secret, groups=groups, **RUN)
    with pytest.raises(InvalidInput, match="task 'task6' is private to 'lab'"):
        lifecycle.add(folder, secret, groups=["office"], **RUN)
    with pytest.raises(InvalidInput, match=r"groups: a list of access groups is required, received 'lab'"):
        system.learn(secret, groups="lab", **RUN)
    assert system.network.plan() == plan and "task6" not in pp.load(folder).tasks
    system.learn(secret, groups=["lab", "office"], children=1, **RUN)
    assert system.access("task6") == {"lab"}


def test_a_known_private_task_is_not_learned_again_without_its_group(folder: Path) -> None:
    system = pp.load(folder)
    suite = private(SUITE, task0="lab")
    for further in (False, True):
        with pytest.raises(InvalidInput, match=r"task 'task0' is private to 'lab', but whoever adds it is in no group"):
            system.update(suite["task0"], further=further, groups=[], **RUN)


def test_the_owner_of_the_files_names_no_groups_and_may_add_everything(folder: Path) -> None:
    system = pp.load(folder)
    system.learn(private(SUITE, task6="lab")["task6"], children=1, **RUN)
    assert system.access("task6") == {"lab"}
