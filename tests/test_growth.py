"""A system that grows: an added task costs the same whatever is there already, and what is there stays as it is."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import CorruptError, IsolationError, StoreError
from polypath.methods.single import Single
from polypath.store import FORMAT_VERSION, ComponentEntry, Event, Manifest, Store
from polypath.store.seal import sealed
from polypath.system import System
from polypath.testing import tiny_features

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY: dict[str, Any] = {"epochs": 1, "batch": 8, "threads": 1, "progress": False, "device": "cpu"}
SUITE = tiny_features(5)


def bench(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def learned() -> System:
    backbone = {"kind": "mlp", "hidden": [4]}
    return pp.learn("single", SUITE.only(SUITE.names[:3]), backbone=backbone, **TINY)


@pytest.fixture
def folder(learned: System, tmp_path: Path) -> Path:
    return pp.load(learned.save(tmp_path / "first")).save(tmp_path / "system")


def rows(task: str) -> torch.Tensor:
    return SUITE[task].train.inputs()


def answers(system: System, tasks: Any) -> dict[str, list[Any]]:
    return {task: system.predict(task, rows(task)).probabilities.tolist() for task in tasks}


def own(system: System, task: str) -> set[str]:
    return set(system.network.path(task).components)


# ---- what is touched ----------------------------------------------------------------------------------------------


def test_opening_builds_nothing_and_answering_builds_one_path(folder: Path) -> None:
    system = pp.load(folder)
    assert set(system.network.built()) == set() and len(list(system.network.parameters())) == 0
    system.cost("task1"), system.sharing(), system.access("task2"), system.exit_costs("task1")
    assert set(system.network.built()) == set()
    system.predict("task1", rows("task1"))
    assert set(system.network.built()) == own(system, "task1")


def test_adding_reads_no_other_task_and_holds_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, read = pp.load(folder), []
    original = Store.tensors
    monkeypatch.setattr(Store, "tensors", lambda store, sha: (read.append(sha), original(store, sha))[1])
    system.learn(SUITE["task3"], **TINY)
    assert read == [] and set(system.network.built()) == own(system, "task3")
    system.save(folder)
    system.learn(SUITE["task4"], **TINY)  # what is on disk leaves memory
    assert read == [] and set(system.network.built()) == own(system, "task4")


def test_growing_lazily_equals_growing_in_memory(learned: System, folder: Path) -> None:
    import copy

    straight, again = copy.deepcopy(learned), pp.load(folder)
    before = answers(straight, straight.tasks)
    for system in (straight, again):
        system.learn(SUITE["task3"], **TINY)
        system.load_all()
    assert again.network.plan() == straight.network.plan()
    assert again.network.digests() == straight.network.digests()
    assert answers(again, before) == before == answers(straight, before)
    assert again.sources == straight.sources and again.verify().ok


def test_answers_that_nothing_touched_are_not_folded_again(folder: Path) -> None:
    system = pp.load(folder)
    system.predict("task0", rows("task0"))
    module = system._module("task0")
    system.learn(SUITE["task3"], **TINY)
    assert system._module("task0") is module


def test_changes_in_memory_that_were_not_saved_survive_growth(folder: Path) -> None:
    system = pp.load(folder)
    system.predict("task0", rows("task0"))
    head = system.network.path("task0").components[-1]
    with torch.no_grad():
        for tensor in system.network.tensors([head])[head].values():
            tensor += 1
    changed = system.network.digests([head])
    system.learn(SUITE["task3"], **TINY)
    assert system.network.digests([head]) == changed


class Meddling(Single):
    """Asks for another task's components, and moves them or fails."""

    harm = ""

    def learn(self, network: Any, data: Any, run: Any) -> None:
        """Learn, and then do the harm."""
        super().learn(network, data, run)
        names = network.path("task0").components
        network.require(names)
        with torch.no_grad():
            if self.harm == "move":
                network.tensors(names)[names[0]]["0.bias"].add_(1e-6)
        if self.harm == "fail":
            raise RuntimeError("half-way")


@pytest.mark.parametrize(("harm", "error"), [("move", IsolationError), ("fail", RuntimeError)])
def test_a_stage_that_fails_changes_nothing(
    folder: Path, harm: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = pp.load(folder)
    expected, plan, absent = answers(system, ["task0"]), system.network.plan(), dict(system._absent)
    monkeypatch.setattr("polypath.learning.method_class", lambda name: Meddling)
    monkeypatch.setattr(Meddling, "harm", harm)
    with pytest.raises(error):
        system.learn(SUITE["task3"], **TINY)
    assert list(system.tasks) == ["task0", "task1", "task2"] and system.network.plan() == plan
    assert system._absent == absent and answers(system, ["task0"]) == expected
    monkeypatch.setattr(Meddling, "harm", "")
    system.learn(SUITE["task3"], **TINY)  # a method may read them
    assert answers(system, ["task0"]) == expected and system.verify().ok


def test_a_task_can_be_removed_renamed_and_added_again_unbuilt(folder: Path) -> None:
    system = pp.load(folder)
    expected = answers(pp.load(folder), ["task2"])
    freed = system.remove("task0").freed
    assert len(freed) == 2 and not any(name in system.network.components() for name in freed)
    system.rename("task2", "second")
    system.learn(SUITE["task0"], **TINY)
    system.save(folder)
    again = pp.load(folder)
    assert list(again.tasks) == ["task1", "second", "task0"] and again.verify().ok
    assert again.predict("second", rows("task2")).probabilities.tolist() == expected["task2"]


# ---- pages --------------------------------------------------------------------------------------------------------


def large(count: int, dropped: Any = ()) -> tuple[Manifest, dict[str, Any]]:
    """A manifest of many tasks, made by hand; all components have the same contents."""
    from polypath.core.component import digest

    blob = {"weight": torch.ones(2)}
    numbers = [n for n in range(count) if n not in dropped]
    entry = {"sha256": digest(blob), "kind": "own", "size_bytes": 8}
    manifest = Manifest(
        polypath="0",
        network="columns",
        plan={"config": {"wide": 1}, "tasks": [{"id": f"t{n}", "task": {"name": f"task{n}"}} for n in numbers]},
        method="single",
        config={},
        seed=0,
        components={f"head.t{n}": ComponentEntry(**entry, sources={f"task{n}": None}) for n in numbers},
        tasks={f"task{n}": {"metrics": {"accuracy": n / 1000}} for n in numbers},
        history=[Event(what="learned", tasks=(f"task{n}",), method="single", at="now") for n in range(count)],
    )
    return manifest, {digest(blob): blob}


def pages(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "pages").rglob("*.json")}


def test_a_manifest_lies_in_pages_and_reads_as_one(tmp_path: Path) -> None:
    manifest, blobs = large(200)
    Store(tmp_path).write(manifest, blobs)
    assert Store(tmp_path).manifest() == manifest
    assert list(Store(tmp_path).manifest().components) == list(manifest.components)
    assert len(pages(tmp_path)) == 4 * 3  # components, tasks, history and the plan's tasks: three full pages of 64 each
    head = json.loads((tmp_path / "manifest.json").read_text())
    assert len(head["tasks"]) == len(head["plan"]["tasks"]) == len(head["history"]) == 200 - 3 * 64


def test_a_save_writes_the_page_that_is_new_and_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(*large(130))
    before, size = pages(tmp_path), (tmp_path / "manifest.json").stat().st_size
    store.write(*large(131))
    assert pages(tmp_path) == before  # one more entry in the head
    fresh = Store(tmp_path)
    fresh.open()
    fresh.write(*large(192))
    after = pages(tmp_path)
    assert len(after) == 4 * 3 and {name: after[name] for name in before} == before
    assert (tmp_path / "manifest.json").stat().st_size < size + 2000


def test_what_is_removed_is_in_no_page(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(*large(200))
    before = pages(tmp_path)
    manifest, blobs = large(200, dropped={70, 71, 150})
    store.write(manifest.changed(history=[]), blobs)
    assert Store(tmp_path).manifest().components == manifest.components
    text = "".join(path.read_text() for path in (tmp_path / "pages").rglob("*.json"))
    assert "task70" not in text and "task150" not in text and "task69" in text
    # first pages, and what follows the last removed task only as far as a page reaches
    assert len(before.keys() & pages(tmp_path).keys()) == 3


def test_a_system_of_the_first_format_opens_and_is_saved_in_this_one(folder: Path, tmp_path: Path) -> None:
    expected = answers(pp.load(folder), SUITE.names[:3])
    values = {**Store(folder).manifest().model_dump(mode="json"), "format_version": 1}
    (folder / "manifest.json").write_text(json.dumps(values, indent=1))
    system = pp.load(folder)
    assert answers(system, SUITE.names[:3]) == expected
    system.learn(SUITE["task3"], **TINY)
    system.save(folder)
    assert json.loads((folder / "manifest.json").read_text())["format_version"] == FORMAT_VERSION
    assert answers(pp.load(folder), SUITE.names[:3]) == expected and pp.load(folder).verify().ok


@pytest.mark.parametrize("damage", ["gone", "changed", "no page"])
def test_a_damaged_page_is_named(tmp_path: Path, damage: str) -> None:
    Store(tmp_path).write(*large(70))
    path = next((tmp_path / "pages").rglob("*.json"))
    if damage == "gone":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(path.read_bytes().replace(b"5", b"6", 1))
    else:
        head = json.loads((tmp_path / "manifest.json").read_text())
        del head["sha256"]
        text = json.dumps({**head, "pages": {"tasks": [["../../x", 1]]}}).encode()
        (tmp_path / "manifest.json").write_bytes(sealed(text))
    says = "pages of tasks" if damage == "no page" else path.name
    with pytest.raises(CorruptError, match=says):
        Store(tmp_path).open()


def test_pages_of_a_killed_writer_are_collected(tmp_path: Path) -> None:
    Store(tmp_path).write(*large(70))
    stray = tmp_path / "pages" / "ab" / ("ab" + "0" * 62 + ".json")
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("[]")
    Store(tmp_path).write(*large(70))
    assert not stray.exists() and Store(tmp_path).manifest() == large(70)[0]


@pytest.mark.parametrize("call", range(1, 6))  # four new pages, then the manifest
def test_a_save_that_breaks_off_leaves_the_old_manifest_and_its_pages(
    tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    store, left = Store(tmp_path), [call]
    store.write(*large(70))
    kept = pages(tmp_path)

    def replace(part: str, target: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError("no space")
        os.rename(part, target)

    monkeypatch.setattr("polypath.core.files.os.replace", replace)
    with pytest.raises(StoreError, match="no space"):
        store.write(*large(130))
    monkeypatch.undo()
    assert Store(tmp_path).manifest() == large(70)[0] and pages(tmp_path) == kept
    store.write(*large(130))
    assert Store(tmp_path).manifest() == large(130)[0]


def test_snapshots_share_pages_and_keep_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(*large(70))
    store.write(*large(70, dropped={3}), keep=True)
    (kept,) = store.snapshots.listed()
    assert kept.tasks == tuple(large(70)[0].tasks)
    both = pages(tmp_path).keys()
    store.prune(0)
    assert len(both) == 4 + 3 and len(pages(tmp_path)) == 4  # the history has one page, which both have in common
    assert Store(tmp_path).manifest() == large(70, dropped={3})[0]


# ---- the benchmarks, small ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["single", "mu2net"])
def test_the_growth_benchmark_measures(method: str, tmp_path: Path) -> None:
    growth = bench("bench_growth")
    found = growth.grown(tmp_path / "system", 4, 2, method)
    assert found["early_tasks_answer_bit_identically"] and set(found["disk"]) == {"2", "4"}
    few, many = (found["disk"][count] for count in ("2", "4"))
    assert many["components"] == 2 * few["components"] or method == "mu2net"  # which shares layers
    times = growth.timed(growth.early_folder(tmp_path / "system"), tmp_path / "system", 2)
    assert set(times) == {"first_answer", "answer", "add"} and times["add"]["ratio_of_medians"] > 0
    assert len(pp.load(tmp_path / "system").tasks) == 6


def test_every_exact_method_is_in_the_benchmark_of_adding() -> None:
    add = bench("bench_add")
    assert set(add.exact_by_default()) <= set(add.EXACT)


@pytest.fixture(scope="module")
def five() -> dict[str, Any]:
    code = "import json, bench_add; print(json.dumps(bench_add.measured(bench_add.EXACT)))"  # one import for all
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("method", ["single", "packnet", "cpg", "rsn2", "prognn", "part"])
def test_five_tasks_added_in_five_processes_leave_old_ones_bit_identical(method: str, five: dict[str, Any]) -> None:
    found = five[method]
    assert found["changed"] == [] and found["compared"] == 1 + 2 + 3 + 4 + 5
    assert "all component hashes hold" in found["verify"]
