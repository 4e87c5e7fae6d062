"""Changes of a saved system: proved, all or nothing, undone on request, and deletions that leave nothing."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
import small
import tiny
import torch

import polypath as pp
from polypath import lifecycle
from polypath.certificate import Certificate
from polypath.core.errors import Cancelled, InvalidInput, IsolationError, Locked, StoreError, UnknownName
from polypath.core.examples import Examples, Suite
from polypath.difference import difference
from polypath.store import Store, writing
from polypath.store.events import logged
from polypath.store.store import Store as Writer
from polypath.system import System


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of an exact method."""
    return small.learn().save(tmp_path_factory.mktemp("learned") / "system")


@pytest.fixture
def folder(learned: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    import shutil

    return Path(shutil.copytree(learned, tmp_path / "system"))


def add(folder: Path, *data: Any, **settings: Any) -> lifecycle.Change:
    return lifecycle.add(folder, small.suite(*data), **settings, **small.QUIET)


def certificates(folder: Path) -> list[Certificate]:
    paths = sorted((folder / "certificates").glob("*.json"))
    values = [json.loads(path.read_text()) for path in paths]
    return [Certificate.model_validate(found.get("proof", found)) for found in values]  # a deletion report holds one


# ---- add ------------------------------------------------------------------------------------------------------


def test_add_certifies_that_old_tasks_are_bit_identical(folder: Path) -> None:
    old = pp.load(folder)
    expected = {name: small.answers(old, name) for name in old.tasks}
    digests = old.network.digests()
    done = add(folder, small.task(2))
    assert list(done.system.tasks) == ["task0", "task1", "task2"]
    (found,) = certificates(folder)
    assert found == done.certificate and found.what == "added" and found.tasks == ("task2",) and found.identical
    assert set(found.others) == {"task0", "task1"}
    for name, proof in found.others.items():
        assert {part: digests[part] for part in proof.components} == {
            part: found.components[part].before for part in proof.components
        }
        assert all(found.components[part].after == digests[part] for part in proof.components)
        # the recorded outputs are those of the network on the same seeded inputs, counted again here
        assert proof.probe.after is None and len(proof.probe.before) == 8
        assert torch.equal(small.answers(pp.load(folder), name), expected[name])
    text = (folder / "manifest.json").read_bytes()
    assert found.manifest_after == __import__("hashlib").sha256(text).hexdigest()
    assert pp.load(folder).verify().ok


def test_a_drifting_method_gets_its_drift_measured(tmp_path: Path) -> None:
    folder = small.learn("ewc", learning_rate=0.1).save(tmp_path / "system")
    before = {name: probe_answers(pp.load(folder), name) for name in ("task0", "task1")}
    found = add(folder, small.task(2)).certificate
    assert found is not None and found.isolation == "drifts" and found.moved == ["task0", "task1"]
    for name, first in before.items():
        last = probe_answers(pp.load(folder), name)
        proof = found.others[name].probe
        assert proof.largest == pytest.approx(float((first - last).abs().max())) and float(proof.largest) > 0
        assert proof.mean == pytest.approx(float((first - last).abs().mean()))
        assert proof.answers == pytest.approx(float((first.argmax(1) != last.argmax(1)).float().mean()))
    assert "changed (drifts)" in found.summary()


def probe_answers(system: System, name: str) -> torch.Tensor:
    from polypath.core.probe import probe_outputs

    system.load_all()
    return probe_outputs(system.network, name, system.seed)


def test_a_joint_method_says_which_data_it_needs_and_takes_it(tmp_path: Path) -> None:
    folder = small.learn("hard_sharing").save(tmp_path / "system")
    kept = tiny.contents(folder)
    with pytest.raises(InvalidInput, match=r"joint.*needs the data of \['task0', 'task1'\]"):
        add(folder, small.task(2))
    with pytest.raises(InvalidInput, match="target.*differ from what the system knows.*update"):
        other = small.task(1)
        wider = other.task.changed(target={"kind": "classification", "labels": ("a", "b")})
        add(folder, small.task(0), type(other)(wider, other.train, other.val, other.test), small.task(2))
    assert tiny.contents(folder) == kept
    done = add(folder, small.task(0), small.task(1), small.task(2))
    assert list(done.system.tasks) == ["task0", "task1", "task2"] and done.system.isolation == "joint"
    assert done.certificate is not None and done.certificate.moved == ["task0", "task1"]


def test_a_second_change_at_once_is_told_who_holds_the_system(folder: Path) -> None:
    for change in (
        lambda: add(folder, small.task(2)),
        lambda: lifecycle.remove(folder, "task1"),
        lambda: lifecycle.rename(folder, "task1", "b"),
        lambda: lifecycle.prune(folder),
    ):
        with writing(folder), pytest.raises(Locked, match=r"process \d+ on \S+ since 20\d\d-"):
            change()
    seen: list[str] = []

    def second(now: Any) -> bool:  # while the first is learning, not only while it saves
        with pytest.raises(Locked, match="process"):
            add(folder, small.task(3))
        seen.append("refused")
        return False

    add(folder, small.task(2), on_progress=second)
    assert seen and list(pp.load(folder).tasks) == ["task0", "task1", "task2"]


@pytest.mark.parametrize("when", ["learning", "saving", "proving", "interrupted"])
def test_nothing_changes_where_an_add_fails_or_is_stopped(
    folder: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tiny.contents(folder)
    if when == "learning":
        with pytest.raises(Cancelled):
            add(folder, small.task(2), on_progress=lambda now: True)
    elif when == "saving":
        saved = lifecycle.save

        def stopped(*words: Any, **named: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return saved(*words, **named)

        monkeypatch.setattr(lifecycle, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            add(folder, small.task(2))
        monkeypatch.undo()
    else:
        error = KeyboardInterrupt if when == "interrupted" else OSError(28, "No space left on device")

        def fails(*_: Any) -> None:
            raise error

        monkeypatch.setattr(lifecycle, "write", fails)  # the certificate, when the system is saved already
        with pytest.raises((KeyboardInterrupt, StoreError)):
            add(folder, small.task(2))
        monkeypatch.undo()
    assert tiny.contents(folder) == kept
    assert add(folder, small.task(2)).certificate is not None


def test_ctrl_c_waits_for_the_save() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt), lifecycle.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        seen.append("went on")
    assert seen == ["went on"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_changed_on_disk_is_not_certified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tiny.contents(folder)
    real = lifecycle.measured

    def other(system: System, *arguments: Any) -> Any:
        found = real(system, *arguments)
        if "task2" in found.tasks:  # after: one component is another
            name = system.network.path("task0").components[0]
            found.components[name] = "0" * 64
        return found

    monkeypatch.setattr(lifecycle, "measured", other)
    with pytest.raises(IsolationError, match="task0"):
        add(folder, small.task(2))
    assert tiny.contents(folder) == kept


# ---- snapshots ------------------------------------------------------------------------------------------------


def test_every_change_can_be_rolled_back_and_the_rollback_too(folder: Path) -> None:
    first = add(folder, small.task(2)).snapshot
    assert first is not None and first.tasks == ("task0", "task1")
    expected = small.answers(pp.load(folder), "task2")
    second = lifecycle.rename(folder, "task1", "b").snapshot
    assert second is not None and second.tasks == ("task0", "task1", "task2")
    assert [one.id for one in pp.load(folder).snapshots()] == [first.id, second.id]
    lifecycle.rollback(folder, first.id[:5])
    system = pp.load(folder)
    assert list(system.tasks) == ["task0", "task1"] and system.history[-1].what == "rolled back" and system.verify().ok
    lifecycle.rollback(folder, system.snapshots()[-1].id)
    again = pp.load(folder)
    assert list(again.tasks) == ["task0", "b", "task2"] and again.verify().ok
    assert torch.equal(small.answers(again, "task2"), expected)
    with pytest.raises(UnknownName, match="snapshot 'zzz'"):
        lifecycle.rollback(folder, "zzz")


def test_what_a_rollback_takes_back_stays_in_the_history(folder: Path) -> None:
    def log() -> list[tuple[str, str, bool]]:
        return [(event.what, " ".join(event.tasks), undone) for event, undone in logged(pp.load(folder).history)]

    learned = [("learned", "task0 task1", False)]
    assert log() == learned
    first = add(folder, small.task(2)).snapshot
    lifecycle.rename(folder, "task1", "b")
    assert first is not None
    lifecycle.rollback(folder, first.id)
    grown = [("learned", "task2"), ("renamed", "task1 b")]
    back = [("rolled back", "task0 task1")]
    # what is in the state of the snapshot, what is not any more, and why
    assert log() == [*learned, *((*one, True) for one in grown), *((*one, False) for one in back)]
    assert [event.what for event in pp.load(folder).history] == ["learned", "rolled back"]
    lifecycle.rename(folder, "task0", "a")
    with_b = next(one for one in pp.load(folder).snapshots() if one.tasks == ("task0", "b", "task2"))
    lifecycle.rollback(folder, with_b.id)
    again = [*back, ("renamed", "task0 a")]
    last = ("rolled back", "task0 b task2", False)
    assert log() == [*learned, *((*one, False) for one in grown), *((*one, True) for one in again), last]
    lifecycle.rollback(folder, pp.load(folder).snapshots()[-1].id)  # and back to where one had gone back already
    assert log()[:-2] == [
        *learned,
        *((*one, True) for one in grown),
        *((*one, False) for one in again),
    ]
    assert log()[-2:] == [("rolled back", "task0 b task2", True), ("rolled back", "a task1", False)]
    system = pp.load(folder)
    assert system.verify().ok and all(task.exact for task in system.verify().tasks.values())


def test_no_snapshot_keeps_a_removed_task_under_a_name_that_was_rolled_back(folder: Path) -> None:
    first = lifecycle.rename(folder, "task1", "b").snapshot
    lifecycle.rename(folder, "b", "c")
    assert first is not None
    lifecycle.rollback(folder, first.id)
    lifecycle.remove(folder, "task1")
    assert pp.load(folder).snapshots() == []


def test_a_snapshot_costs_no_component_and_only_so_many_are_kept(folder: Path) -> None:
    components = {path.name for path in (folder / "components").rglob("*.safetensors")}
    lifecycle.rename(folder, "task1", "b")
    assert {path.name for path in (folder / "components").rglob("*.safetensors")} == components
    lifecycle.prune(folder, 2, remember=True)
    for old, new in (("b", "c"), ("c", "d"), ("d", "e")):
        lifecycle.rename(folder, old, new)
    assert [one.tasks for one in pp.load(folder).snapshots()] == [("task0", "c"), ("task0", "d")]
    add(folder, small.task(2))
    lifecycle.rollback(folder, pp.load(folder).snapshots()[-1].id)
    with_task2 = len(list((folder / "components").rglob("*.safetensors")))
    assert len(lifecycle.prune(folder, 0)[0]) == 2  # and what only they named
    assert len(list((folder / "components").rglob("*.safetensors"))) < with_task2
    assert pp.load(folder).verify().ok and pp.load(folder).keep_snapshots == 2
    with pytest.raises(InvalidInput, match="keep"):
        lifecycle.prune(folder, -1)


def test_pruning_takes_the_certificates_of_states_that_are_gone_and_leaves_reports_on_removed_tasks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        """An hour passes between two looks at it: changes of a test follow each other within a second."""

        looks = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            cls.looks += 1
            return cls(2100, 1, 1, tzinfo=tz) + timedelta(hours=cls.looks)

    for module in ("system", "certificate"):
        monkeypatch.setattr(f"polypath.{module}.datetime", Clock)
    lifecycle.rename(folder, "task1", "b")
    lifecycle.remove(folder, "b")
    add(folder, small.task(2))
    add(folder, small.task(3))
    lifecycle.rename(folder, "task2", "c")
    left = [path.name for path in sorted((folder / "certificates").glob("*.json"))]
    first, removed, second, third, last = left
    assert removed == "000002-removed.json"
    # The oldest state that is left is the one that the second `add` made.
    assert [path.name for path in lifecycle.prune(folder, 1)[1]] == [first, second]
    assert [path.name for path in lifecycle.prune(folder, 0)[1]] == [third]
    assert [path.name for path in sorted((folder / "certificates").glob("*.json"))] == [removed, last]
    assert pp.load(folder).verify().ok


def test_with_no_snapshot_kept_a_failed_add_is_still_undone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle.prune(folder, 0, remember=True)
    kept = tiny.contents(folder)
    monkeypatch.setattr(lifecycle, "write", lambda *_: (_ for _ in ()).throw(RuntimeError("half-way")))
    with pytest.raises(RuntimeError, match="half-way"):
        add(folder, small.task(2))
    assert tiny.contents(folder) == kept
    monkeypatch.undo()
    assert add(folder, small.task(2)).snapshot is None and not list((folder / "snapshots").iterdir())


def test_diff_names_what_differs(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="no snapshot"):
        difference(folder)
    before = Store(folder).manifest()
    done = add(folder, small.task(2))
    found = difference(folder)
    assert found.added == ("task2",) and found.removed == found.altered == found.components_changed == ()
    now = Store(folder).manifest()
    assert set(found.components_added) == set(now.components) - set(before.components)
    fresh = [Store(folder).blob_path(sha) for sha in now.blobs() - before.blobs()]
    assert (found.new_bytes, found.freed_bytes) == (sum(path.stat().st_size for path in fresh), 0)
    lifecycle.rename(folder, "task0", "a")
    assert difference(folder).renamed == {"task0": "a"}
    lifecycle.update(folder, small.suite(small.task(1, seed=9)), **small.QUIET)
    found = difference(folder, done.snapshot.id if done.snapshot else None, "current")
    assert found.altered == ("task1",) and found.added == ("task2",) and found.renamed == {"task0": "a"}
    assert difference(folder, "current", "current").empty
    back = difference(folder, "current", found.before)
    assert back.removed == ("task2",) and back.components_removed == found.components_added


# ---- rename and update ----------------------------------------------------------------------------------------


def test_rename_changes_a_name_and_not_a_byte_of_a_component(folder: Path) -> None:
    before, files = pp.load(folder), tiny.contents(folder / "components")
    expected = small.answers(before, "task1")
    done = lifecycle.rename(folder, "task1", "übersicht")
    assert tiny.contents(folder / "components") == files
    assert done.certificate is not None and done.certificate.identical
    assert done.certificate.others["übersicht"].was == "task1"
    after = pp.load(folder)
    assert list(after.tasks) == ["task0", "übersicht"] and torch.equal(small.answers(after, "übersicht"), expected)
    assert after.verify().ok and all(task.exact for task in after.verify().tasks.values())
    for old, new, says in (
        ("task1", "x", "unknown task"),
        ("task0", "übersicht", "already"),
        ("task0", "a/b", "slash"),
    ):
        kept = tiny.contents(folder)
        with pytest.raises((UnknownName, InvalidInput), match=says):
            lifecycle.rename(folder, old, new)
        assert tiny.contents(folder) == kept


def test_rename_follows_into_settings_and_descriptions() -> None:
    rows = {"task1": [[0, 1]] * 9, "task2": [[1, 2]] * 9}
    system = tiny.learn(tiny.suite(2), paths=rows, epochs=1, evaluate_every=0)
    system.rename("task2", "b")
    assert set(system.config["paths"]) == {"task1", "b"} and set(system.evaluate()) == {"task1", "b"}
    assert {name for held in system.sources.values() for name in held} == {"task1", "b"}
    split = pp.data.split("digits", tasks=2, classes_per_task=2, seed=0, per_class=5, test_per_class=5)
    again = tiny.learn(split, epochs=1, modules=1, selected=1, evaluate_every=0)
    again.rename("task1", "a")
    again.rename("a", "first")
    again.data = None  # as after a load: built again from its description
    assert set(again.evaluate()) == {"first", "task2"}


def test_update_learns_a_task_again_and_leaves_the_others_alone(folder: Path) -> None:
    old = pp.load(folder)
    expected, was = small.answers(old, "task0"), small.answers(old, "task1")
    data = small.task(1)
    rows = torch.cat([data.train.inputs(), data.train.inputs() + 0.05, -3.0 * torch.ones(4, 8)])
    targets = torch.cat([1 - data.train.targets, 1 - data.train.targets, torch.full((4,), 2)])  # corrected, more, new
    task = data.task.changed(target={"kind": "classification", "labels": ("class0", "class1", "new")})
    new = type(data)(task, Examples.of(rows, targets), data.val, data.test)
    done = lifecycle.update(folder, small.suite(new), epochs=5, **small.QUIET)
    assert done.certificate is not None and done.certificate.identical and list(done.certificate.others) == ["task0"]
    system = pp.load(folder)
    assert torch.equal(small.answers(system, "task0"), expected)
    assert small.answers(system, "task1").shape == (3, 3) != was.shape
    assert [event.what for event in system.history] == ["learned", "updated", "learned"] and system.verify().ok
    fresh = small.learn(data=small.suite(small.task(0)))
    fresh.learn(new, epochs=5, **small.QUIET)
    assert small.answers(fresh, "task1").shape == (3, 3)
    assert system.entries["task1"].metrics.keys() == fresh.entries["task1"].metrics.keys()
    lifecycle.rollback(folder, done.snapshot.id if done.snapshot else "")
    assert torch.equal(small.answers(pp.load(folder), "task1"), was)


def test_an_update_that_cannot_be_says_why_and_changes_nothing(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InvalidInput, match="'task2' is not in the system.*add"):
        lifecycle.update(folder, small.suite(small.task(2)), **small.QUIET)
    with pytest.raises(UnknownName, match="task in the data"):
        lifecycle.update(folder, small.suite(small.task(1)), ["task0"], **small.QUIET)
    built = small.learn("packnet").save(tmp_path / "built")
    kept = tiny.contents(built)
    with pytest.raises(InvalidInput, match=r"'task0' cannot be updated: \['task1'\] build on.*rename"):
        lifecycle.update(built, small.suite(small.task(0)), **small.QUIET)
    assert tiny.contents(built) == kept
    joint = small.learn("hard_sharing").save(tmp_path / "joint")
    kept = tiny.contents(joint)
    with pytest.raises(InvalidInput, match="needs the data of"):
        lifecycle.update(joint, small.suite(small.task(0)), **small.QUIET)
    assert tiny.contents(joint) == kept
    done = lifecycle.update(joint, small.suite(small.task(0, seed=3), small.task(1)), ["task0"], **small.QUIET)
    assert list(done.system.tasks) == ["task1", "task0"] and done.system.verify().ok


def test_what_an_old_version_of_a_private_task_taught_stays_private() -> None:
    system = small.learn("ewc", data=small.suite(small.task(0, private_to="ward"), small.task(1)))
    system.update(small.task(0), **small.QUIET)  # public this time
    assert system.access("task1") == system.access("task0") == {"ward"}
    with pytest.raises(InvalidInput, match="build on"):  # what it once trained is still its
        system.remove("task0", keep_residue=False)
    assert set(system.remove("task0", keep_residue=False, cascade=True).removed) == {"task0", "task1"}


# ---- remove ---------------------------------------------------------------------------------------------------


def test_a_removed_task_is_in_no_file_of_the_folder(folder: Path) -> None:
    add(folder, small.task(2))
    add(folder, small.task(3))
    lifecycle.rename(folder, "task3", "three")
    lifecycle.update(folder, small.suite(small.task(3, name="three", seed=5)), **small.QUIET)
    add(folder, small.task(4))
    system = pp.load(folder)
    manifests = [Store(folder).manifest(), *(_read(one.path) for one in system.snapshots())]
    mine: set[str] = set()
    for manifest in manifests:  # every version of it that the folder ever held, with method state and answers
        network = pp.nn.network_class(manifest.network).restore(manifest.plan)
        for name in {"task3", "three"} & set(network.tasks):
            mine |= {manifest.components[part].sha256 for part in network.path(name).components}
            probe = manifest.tasks[name].probe
            assert probe is not None
            mine |= {probe.learned, probe.saved}
    others = {name: small.answers(system, name) for name in system.tasks if name != "three"}
    for other in ("task0", "task1", "task2", "task4"):
        mine -= {Store(folder).manifest().components[part].sha256 for part in system.network.path(other).components}
    raw = [bytes(data) for sha in mine for data in _raw(folder, sha)]
    figures = [str(value).encode() for value in _figures(folder, "three")]
    assert len(mine) == 2 * (3 + 1) and len(raw) > 8 and figures  # two versions: three layers, and answers
    assert all(small.files_with(folder, data) for data in (*raw, *(sha.encode() for sha in mine)))  # they are there

    report, path = lifecycle.remove(folder, "three")
    assert report.complete and report.removed == ("three",) and report.proof.identical
    assert len(report.snapshots) == 3 and {name for one in report.snapshots for name in one["tasks"]} >= {"three"}
    assert [one.tasks for one in pp.load(folder).snapshots()] == [("task0", "task1"), ("task0", "task1", "task2")]
    for data in (*raw, *figures, *(sha.encode() for sha in mine)):
        assert not small.files_with(folder, data)
    after = pp.load(folder)
    assert list(after.tasks) == list(others) and after.verify().ok
    for name, expected in others.items():
        assert torch.equal(small.answers(after, name), expected)
    written = path.with_suffix(".md").read_text()
    assert "Deletion report" in written and all(part.name in written for part in report.freed)
    assert all(one["id"] in written for one in report.snapshots)
    assert not list(folder.rglob("*.part"))
    add(folder, small.task(3))  # and it can come back, as a new one
    assert pp.load(folder).verify().ok


def _read(path: Path) -> Any:
    from polypath.store.manifest import read_manifest

    return read_manifest(path)


def _raw(folder: Path, sha: str) -> list[bytes]:
    held = Store(folder).tensors(sha).values()
    raw = [tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for tensor in held]
    return [data for data in raw if len(data) >= 8 and len(set(data)) > 4]


def _figures(folder: Path, task: str) -> list[float | str]:
    """Recorded answers of a task in the certificates."""
    proofs = [found.others[task] for found in certificates(folder) if task in found.others]
    return [value for proof in proofs for row in proof.probe.before for value in row]


def test_residue_is_listed_and_others_are_kept_bit_for_bit(tmp_path: Path) -> None:
    rows = {"task1": [[0, 1]] * 9, "task2": [[1, 2]] * 9}
    folder = tiny.learn(tiny.suite(2), paths=rows, epochs=1, mode="sequential", evaluate_every=0).save(tmp_path / "s")
    before = pp.load(folder).predict("task2", tiny.pixels(2, 0)).probabilities
    report, _ = lifecycle.remove(folder, "task1")
    assert not report.complete and {part.name for part in report.residue} == {
        f"layer{i}.module01" for i in range(1, 10)
    }
    assert all(part.users == ("task2",) and "task1" in part.sources for part in report.residue)
    assert {part.name for part in report.reset} == {f"layer{i}.module00" for i in range(1, 10)}
    assert any("Residue: 9" in line and "task2" in line for line in report.lines())
    assert torch.equal(pp.load(folder).predict("task2", tiny.pixels(2, 0)).probabilities, before)


def test_a_task_that_others_build_on_is_refused_or_takes_them_along(tmp_path: Path) -> None:
    folder = small.learn("packnet", tasks=3).save(tmp_path / "system")
    kept = tiny.contents(folder)
    with pytest.raises(InvalidInput, match=r"\['task1', 'task2'\] build on it.*--cascade"):
        lifecycle.remove(folder, "task0")
    assert tiny.contents(folder) == kept
    report, _ = lifecycle.remove(folder, "task1", cascade=True)
    assert report.removed == ("task1", "task2") and list(pp.load(folder).tasks) == ["task0"]
    assert pp.load(folder).verify().ok and "and with it task2" in report.lines()[0]


def test_a_private_task_takes_all_that_its_data_trained(tmp_path: Path) -> None:
    data = [tiny.data("a", seed=1, private_to="ward"), tiny.data("b", seed=2), tiny.data("c", seed=3)]
    rows = {"a": [[0]] * 9, "b": [[0]] * 5 + [[1]] * 4, "c": [[2]] * 9}
    system = tiny.learn(Suite("s", tuple(data)), selected=1, paths=rows, epochs=1, mode="sequential", evaluate_every=0)
    folder = system.save(tmp_path / "s")
    expected = pp.load(folder).predict("c", tiny.pixels(2, 0)).probabilities
    mine = small.bytes_of(pp.load(folder), [f"layer{i}.module00" for i in range(1, 10)])
    with pytest.raises(InvalidInput, match=r"\['b'\] build on it or on what its data trained.*cascade.*residue"):
        lifecycle.remove(folder, "a")
    kept, _ = lifecycle.remove(_copied(folder), "a", keep_residue=True)
    shared, on_top = {f"layer{i}.module00" for i in range(1, 6)}, {f"layer{i}.module01" for i in range(6, 10)}
    assert {part.name for part in kept.residue} == shared | on_top | {"head.t1"}  # what b trained on top of it, too
    report, _ = lifecycle.remove(folder, "a", cascade=True)
    assert report.removed == ("a", "b") and report.complete
    after = pp.load(folder)
    assert list(after.tasks) == ["c"] and after.access("c") == frozenset()
    assert torch.equal(after.predict("c", tiny.pixels(2, 0)).probabilities, expected)
    assert len(mine) > 9 and not [data for data in mine if small.files_with(folder, data)]


def _copied(folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, folder.with_name("copy")))


def test_removal_reaches_the_checkpoints_of_the_run_and_the_description_of_the_data(tmp_path: Path) -> None:
    out = tmp_path / "run"
    pp.learn("rsn2", small.suite(small.task(0), small.task(1)), out=out, **small.METHODS["rsn2"], **small.QUIET)
    (out / "checkpoint").mkdir()  # as of a run that was killed
    (out / "checkpoint" / "stage-000-0.safetensors").write_bytes(b"weights in the middle of learning")
    report, _ = lifecycle.remove(out / "system", "task1")
    assert not list((out / "checkpoint").iterdir())
    assert any("results.json" in line and "metrics.jsonl" in line for line in report.elsewhere)
    system = small.learn()
    system.suite_config = {"kind": "own", "name": "x", "tasks": [{"name": "task0"}, {"name": "task1"}]}
    system.remove("task1")
    assert system.suite_config["tasks"] == [{"name": "task0"}]


def test_removing_in_memory_and_saving_forgets_as_well(folder: Path) -> None:
    add(folder, small.task(2))
    system = pp.load(folder)
    mine = small.bytes_of(system, list(system.network.path("task2").components))
    system.remove("task2")
    with pytest.raises(InvalidInput, match="save"):
        system.rollback("0")
    system.save(folder)
    assert mine and not [data for data in mine if small.files_with(folder, data)]
    (found,) = certificates(folder)
    assert found.tasks == ("task2",) and [one.tasks for one in system.snapshots()] == [("task0", "task1")]


@pytest.mark.parametrize("point", ["before the manifest", "after the manifest"])
def test_a_removal_that_is_killed_leaves_all_or_nothing_to_find(
    folder: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies at a moment: nothing after it runs, no clean-up either."""
    add(folder, small.task(2))
    add(folder, small.task(3))
    system = pp.load(folder)
    mine = small.bytes_of(system, list(system.network.path("task2").components))
    _die(folder, point)
    left = pp.load(folder)
    assert left.verify().ok
    if point == "before the manifest":
        assert "task2" in left.tasks and [one.tasks for one in left.snapshots()] == [("task0", "task1")]
        lifecycle.remove(folder, "task2")
    else:
        assert "task2" not in left.tasks
        lifecycle.prune(folder)  # whoever changes the folder next finishes the job
    assert not [data for data in mine if small.files_with(folder, data)]
    assert not any("task2" in found.others for found in certificates(folder))


def _die(folder: Path, point: str) -> None:
    import os

    child = os.fork()
    if child == 0:
        try:
            if point == "before the manifest":
                import polypath.store.store as store

                store.write_atomically = lambda *_: os._exit(0)  # type: ignore[assignment]
            else:
                Writer._collect = lambda *_: os._exit(0)  # type: ignore[method-assign]
                Writer.collect = lambda *_: None  # type: ignore[method-assign]
            lifecycle.remove(folder, "task2")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
