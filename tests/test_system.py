"""The life of a system: it answers raw inputs, loads what it needs, is measured, extracted, shrunk, and costed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import polypath as pp
from polypath.core.component import digest
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Suite
from polypath.core.task import MultiLabel, Regression
from polypath.store import Store
from polypath.system import System

ROWS = {f"task{i}": [[i % 3]] * 9 for i in range(1, 9)}


@pytest.fixture(scope="module")
def learned() -> System:
    return tiny.learn(tiny.suite(2))


@pytest.fixture(scope="module")
def saved(learned: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learned.save(tmp_path_factory.mktemp("saved") / "system")


def test_new_names_have_their_accents_composed(saved: Path) -> None:
    system = pp.load(saved)
    with pytest.raises(InvalidInput, match="Unicode NFC"):
        system.rename("task1", "cafe\u0301")
    system.rename("task1", "caf\u00e9")
    assert "caf\u00e9" in system.tasks


# ---- answering ------------------------------------------------------------------------------------------------


def test_raw_inputs_of_every_kind_give_one_answer(learned: System, tmp_path: Path) -> None:
    from PIL import Image

    pixels = tiny.pixels(3, 1)
    expected = learned.predict("task1", pixels)
    arrays = pixels.numpy()
    Image.fromarray(arrays[0, 0]).save(tmp_path / "a.png")
    forms: dict[str, Any] = {
        "numpy uint8": arrays,
        "channels last": arrays.transpose(0, 2, 3, 1),
        "grey without channels": arrays[:, 0],
        "floats": arrays / np.float32(255),
        "PIL": [Image.fromarray(image[0]) for image in arrays],
    }
    for form in forms.values():
        found = learned.predict("task1", form)
        assert found.labels == expected.labels
        torch.testing.assert_close(found.probabilities, expected.probabilities)
    for one in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels[0], Image.fromarray(arrays[0, 0])):
        found = learned.predict("task1", one)
        assert len(found) == 1 and found.labels == expected.labels[:1]
    assert expected.values is None and expected.probabilities.sum(1) == pytest.approx(1)
    assert set(expected.labels) <= {"dark", "bright"}


def test_batches_do_not_change_answers(learned: System) -> None:
    pixels = tiny.pixels(7, 2)
    whole = learned.predict("task2", pixels).probabilities
    torch.testing.assert_close(learned.predict("task2", pixels, batch=2).probabilities, whole)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"\(1, 8, 8\).*\(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 9, 8, dtype=torch.uint8), r"\(1, 8, 8\).*\(2, 1, 9, 8\)"),
        (torch.full((2, 1, 8, 8), float("nan")), r"NaN or infinity in image\(s\) \[0, 1\]"),
        (torch.full((1, 1, 8, 8), float("inf")), "NaN or infinity"),
        (torch.full((1, 1, 8, 8), 3.0), r"within \[0, 1\]"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), "int64"),
        ([], "empty list"),
        ("nowhere.png", "does not exist"),
    ],
)
def test_inputs_that_do_not_fit(learned: System, inputs: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        learned.predict("task1", inputs)


def test_an_unknown_task_offers_the_nearest(learned: System) -> None:
    for ask in (
        lambda: learned.predict("tsk1", tiny.pixels(1, 0)),
        lambda: learned.extract("tsk1"),
        lambda: learned.cost("tsk1"),
        lambda: learned.remove("tsk1"),
        lambda: learned.access("tsk1"),
    ):
        with pytest.raises(UnknownName, match="Did you mean 'task1'"):
            ask()


def test_regression_answers_in_its_own_units_and_multi_label_in_lists() -> None:
    target = Regression(size=1, mean=(100.0,), std=(20.0,))
    many = MultiLabel(labels=("left", "right"))
    system = tiny.learn(Suite("kinds", (tiny.data("r", target=target), tiny.data("m", target=many))), epochs=1)
    pixels = tiny.pixels(4, 5)
    found = system.predict("r", pixels)
    raw = system.extract("r", fused=False)(system.tasks["r"].preprocess.encode(pixels))
    assert found.labels is None and found.probabilities is None and len(found) == 4
    torch.testing.assert_close(found.values, raw.detach() * 20 + 100, rtol=1e-4, atol=1e-3)
    found = system.predict("m", pixels)
    expected = [[n for n, p in zip(many.labels, row, strict=True) if p > 0.5] for row in found.probabilities.tolist()]
    assert found.labels == expected
    assert set(system.evaluate()) == {"r", "m"}


def test_eight_threads_get_the_answers_that_one_gets(saved: Path) -> None:
    serial, pixels = pp.load(saved), tiny.pixels(4, 3)
    expected = {name: serial.predict(name, pixels).probabilities for name in serial.tasks}
    for _ in range(3):
        system, barrier, found, errors = pp.load(saved), threading.Barrier(8), [], []

        def ask(number: int, system: System = system, barrier: Any = barrier, found: Any = found) -> None:
            try:
                barrier.wait()  # all ask first
                for name in (f"task{1 + number % 2}", f"task{2 - number % 2}"):
                    found.append((name, system.predict(name, pixels).probabilities))
            except BaseException as error:
                errors.append(error)  # noqa: B023

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(found) == 16 and all(torch.equal(values, expected[name]) for name, values in found)


# ---- loading --------------------------------------------------------------------------------------------------


class Opened:
    """Counts component files as they are opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        original = Store.tensors

        def tensors(store: Store, sha256: str) -> dict[str, torch.Tensor]:
            self.names.append(sha256)
            return original(store, sha256)

        monkeypatch.setattr(Store, "tensors", tensors)


def resident(system: System) -> set[str]:
    held = system.network.tensors(system.network.components())
    return {name for name, tensors in held.items() if not any(t.is_meta for t in tensors.values())}


def test_only_the_asked_path_becomes_resident(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(monkeypatch)
    system = pp.load(saved)
    system.sharing(), system.cost("task1"), system.access("task1"), system.isolation
    assert opened.names == [] and resident(system) == set()
    system.predict("task1", tiny.pixels(1, 0))
    path = set(system.network.path("task1").components)
    assert resident(system) == path
    entries = Store(saved).manifest().components
    assert sorted(opened.names) == sorted(entries[name].sha256 for name in path)
    system.predict("task1", tiny.pixels(1, 1))
    assert len(opened.names) == len(path)


def test_one_task_s_memory_does_not_grow_with_the_number_of_tasks(tmp_path: Path) -> None:
    counts = []
    for tasks in (2, 8):
        system = tiny.learn(tiny.suite(tasks), mode="sequential", selected=1, epochs=1, paths=ROWS, evaluate_every=0)
        system = pp.load(system.save(tmp_path / str(tasks)))
        system.predict("task2", tiny.pixels(1, 0))
        counts.append(len(resident(system)))
    assert counts == [10, 10]  # nine modules and a head


def test_saving_a_loaded_system_reads_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, opened = pp.load(saved), Opened(monkeypatch)
    system.save(saved)
    assert opened.names == []


# ---- measuring, extracting ------------------------------------------------------------------------------------


def test_evaluate_builds_the_suite_again_from_its_description(tmp_path: Path) -> None:
    suite = pp.data.split("digits", tasks=1, classes_per_task=2, seed=3, per_class=12, test_per_class=8)
    system = tiny.learn(suite, epochs=1)
    expected = system.evaluate()
    assert pp.load(system.save(tmp_path / "s")).evaluate() == expected
    (data,) = suite
    opened = data.test.unseal()
    labels = [data.task.target.labels[i] for i in opened.targets.tolist()]
    answers = system.predict(data.name, opened.inputs()).labels
    right = sum(a == b for a, b in zip(answers, labels, strict=True))
    assert expected[data.name]["accuracy"] == pytest.approx(right / len(labels))


def test_data_made_by_hand_must_be_passed(saved: Path) -> None:
    system = pp.load(saved)
    with pytest.raises(InvalidInput, match="made by hand.*pass the suite"):
        system.evaluate()
    assert set(system.evaluate(tiny.suite(2))) == {"task1", "task2"}
    with pytest.raises(InvalidInput, match=r"none of the tasks \['task1', 'task2'\].*\['other'\]"):
        system.evaluate(Suite("others", (tiny.data("other"),)))


@pytest.mark.parametrize("norm", ["shared", "task"])
@pytest.mark.parametrize("channels", [1, 3])
def test_extract(norm: str, channels: int) -> None:
    system = tiny.fill(tiny.learn(tiny.suite(1, channels=channels), norm=norm, width=3))
    task = system.tasks["task1"]
    inputs = task.preprocess.encode(tiny.pixels(5, 9, channels))
    with torch.no_grad():
        expected = system.network.eval()(inputs, "task1")
        plain, fused = system.extract("task1", fused=False), system.extract("task1")
        assert torch.equal(plain(inputs), expected)
        torch.testing.assert_close(fused(inputs), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        before = tiny.state_digest(system)
        for parameter in (*plain.parameters(), *fused.parameters()):
            parameter.add_(1)
    assert tiny.state_digest(system) == before  # extracted modules are copies
    assert type(fused).__module__.startswith("torch.nn")


# ---- costs, sharing, access, removal --------------------------------------------------------------------------


def test_cost_and_sharing_by_hand() -> None:
    rows = {"task1": [[0, 1]] * 9, "task2": [[0, 2]] * 9}
    system = tiny.learn(tiny.suite(2), paths=rows, epochs=1, evaluate_every=0)
    sizes = {name: sum(p.numel() for p in system.network.trainable([name])) for name in system.network.components()}
    first, second = (
        sum(v for k, v in sizes.items() if k.endswith(e)) for e in (("00", "01", "t0"), ("00", "02", "t1"))
    )
    assert system.cost("task1").parameters == system.cost("task1").added_parameters == first
    assert system.cost("task2").parameters == second
    assert system.cost("task2").added_parameters == sum(v for k, v in sizes.items() if k.endswith(("02", "t1")))
    assert system.cost("task2").activated == pytest.approx(second / sum(sizes.values()))
    assert system.sharing().users["layer4.module00"] == ("task1", "task2")
    assert system.sharing().profile == [0, 18, 9]  # of 27 modules: none unused, 18 with one user, 9 with two
    assert system.affected_by(["layer4.module02"]) == ("task2",)


def test_a_private_task_s_group_is_needed_where_its_data_shaped_modules() -> None:
    rows = {"open": [[0, 1]] * 9, "ward": [[1, 2]] * 9, "far": [[0]] * 9}
    data = [tiny.data("open", seed=1), tiny.data("ward", seed=2, private_to="ward-3")]
    joint = tiny.learn(data, paths={k: rows[k] for k in ("open", "ward")}, epochs=1, evaluate_every=0)
    assert joint.access("ward") == joint.access("open") == {"ward-3"}  # module 1 saw the ward's images
    rows["open"] = [[0, 1]] * 9
    apart = tiny.learn(
        data, paths={"open": [[0, 1]] * 9, "ward": [[1, 2]] * 9}, mode="sequential", epochs=1, evaluate_every=0
    )
    assert apart.access("open") == frozenset() and apart.access("ward") == {"ward-3"}


def test_remove_says_what_it_frees_resets_and_leaves(tmp_path: Path) -> None:
    rows = {"a": [[0, 1]] * 9, "b": [[1, 2]] * 9}
    data = [tiny.data("a", seed=1, private_to="group"), tiny.data("b", seed=2)]
    system = tiny.learn(data, paths=rows, epochs=1, evaluate_every=0)
    fresh = tiny.learn(data, paths=rows, epochs=1, evaluate_every=0, learning_rate=1e-30).network
    system = pp.load(system.save(tmp_path / "s"))
    expected = system.predict("b", tiny.pixels(3, 0)).probabilities
    done = system.remove("a", keep_residue=True)
    layers = range(1, 10)
    assert done.removed == ("a",) and done.freed == ("head.t0",)
    assert sorted(done.reset) == [f"layer{i}.module00" for i in layers]
    assert sorted(done.residue) == [f"layer{i}.module01" for i in layers]
    assert list(system.tasks) == ["b"] and system.tombstones == {"a": "group"}
    assert system.access("b") == {"group"}  # its modules still remember
    assert torch.equal(system.predict("b", tiny.pixels(3, 0)).probabilities, expected)
    for name in ("weight", "bias"):  # reset: as on the first day
        key = f"pool.layer1-module00.conv1.{name}"
        torch.testing.assert_close(system.network.state_dict()[key], fresh.state_dict()[key], rtol=0, atol=1e-6)
    assert system.verify().ok
    system.save(tmp_path / "s")
    again = pp.load(tmp_path / "s")
    assert again.verify().ok and again.access("b") == {"group"} and again.tombstones == {"a": "group"}
    names = {path.stem for path in (tmp_path / "s" / "components").rglob("*.safetensors")}
    assert names == Store(tmp_path / "s").manifest().blobs()


def test_the_group_of_a_removed_task_outlives_its_name(tmp_path: Path) -> None:
    rows = {"a": [[0, 1]] * 9, "b": [[1, 2]] * 9}
    quick: dict[str, Any] = {"epochs": 1, "evaluate_every": 0}
    ward, other = tiny.data("a", seed=1, private_to="group"), tiny.data("b", seed=2)
    system = tiny.learn([ward, other], paths=rows, **quick)
    system.remove("a", keep_residue=True)
    system.learn([tiny.data("a", seed=3), other], progress=False, threads=1)  # public this time
    assert system.access("b") == system.access("a") == {"group"}
    assert digest({}) and list(system.tombstones.values()) == ["group"]
