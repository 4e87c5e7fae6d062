"""Examples, components, accounting, seeds, files and probes, by hand on a network of two small layers."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Self

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from polypath.core import accounting, files
from polypath.core.component import Component, Path, digest
from polypath.core.errors import CorruptError, InvalidInput, SealedError, StoreError, UnknownName
from polypath.core.examples import Examples, Sealed, Suite, TaskData
from polypath.core.network import Network
from polypath.core.preprocess import ImagePreprocess, TablePreprocess
from polypath.core.probe import one_thread, probe_inputs, probe_outputs
from polypath.core.seeds import derive, generator, seeded
from polypath.core.task import Classification, Features, Image, MultiLabel, Regression, Target, Task


def task(name: str, target: Target | None = None) -> Task:
    preprocess = TablePreprocess(columns=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))
    chosen = target or Classification(labels=("x", "y", "z"))
    return Task(name=name, inputs=Features(size=2), target=chosen, preprocess=preprocess)


class Chain(Network):
    """A layer for all, and a head a task; the second task also reads the first one's head."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms = nn.ModuleDict({"base": nn.Linear(2, 4), "spare": nn.Linear(2, 4)})
        self.register_buffer("trace", torch.zeros(4))

    def plan(self) -> dict[str, Any]:
        return {"tasks": [t.to_json() for t in self._tasks.values()]}

    @classmethod
    def restore(cls, plan: Mapping[str, Any], keep: Collection[str] | None = None) -> Self:
        with torch.device("meta"):
            chain = cls()
            for entry in plan["tasks"]:
                chain.add_task(Task.of(entry))
        if keep is not None:  # an extracted path: only its components, and nothing that only learning needs
            del chain.trace
            for name in chain.rooms.keys() - set(keep):
                del chain.rooms[name]
        return chain

    def add_task(self, task: Task) -> None:
        self.rooms[f"head{len(self._tasks)}"] = nn.Linear(4 if not self._tasks else 3, 3)
        self._tasks[task.name] = task

    def components(self) -> dict[str, Component]:
        found = {}
        for name in self.rooms:
            tensors = {local: f"rooms.{name}.{local}" for local in ("weight", "bias")}
            traces = {"trace": "trace"} if name == "base" and hasattr(self, "trace") else {}
            kind = {"base": "base", "spare": "module"}.get(name, "own")
            found[name] = Component(name, kind, tensors, auxiliary=traces, capacity=name == "spare")
        return found

    def path(self, task: str, exit: str | None = None) -> Path:
        position = list(self._tasks).index(task)
        return Path(task, (("base",), *((f"head{i}",) for i in range(position + 1))))

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        out: torch.Tensor = self.rooms[names[0]](value)
        return out

    def release(self, task: str) -> tuple[list[str], list[str]]:
        raise NotImplementedError

    def fuse(self, path: Path) -> nn.Module:
        return nn.Sequential(*(copy.deepcopy(self.rooms[name]) for name in path.components))


@pytest.fixture
def chain() -> Chain:
    with seeded(0, "chain"):
        made = Chain()
        made.add_task(task("first"))
        made.add_task(task("second"))
    return made


# ---- components and digests -----------------------------------------------------------------------------------------


def test_a_digest_by_hand() -> None:
    sha = hashlib.sha256()
    sha.update(json.dumps(["a", "int32", [2]]).encode() + (1).to_bytes(4, "little") + (258).to_bytes(4, "little"))
    sha.update(json.dumps(["b", "float32", []]).encode() + bytes([0, 0, 128, 63]))  # 1.0
    tensors = {"b": torch.tensor(1.0), "a": torch.tensor([1, 258], dtype=torch.int32)}
    assert digest(tensors) == sha.hexdigest()


def test_digests_see_values_names_types_and_shapes_but_no_layout() -> None:
    value = torch.arange(24.0).reshape(1, 2, 3, 4)
    same = [value.clone(), value.contiguous(memory_format=torch.channels_last), nn.Parameter(value)]
    assert len({digest({"w": tensor}) for tensor in same}) == 1
    other = [value + 1, value.double(), value.reshape(24), -value * 0, value * 0, value.bfloat16()]
    assert len({digest({"w": tensor}) for tensor in (value, *other)}) == 7  # -0.0 and 0.0 differ in a bit
    assert digest({"v": value}) != digest({"w": value}) and len(digest({"e": torch.zeros(0)})) == 64


def test_kinds_are_checked_and_paths_list_components_once() -> None:
    with pytest.raises(ValueError, match="kind must be one of"):
        Component("x", "modul", {})
    path = Path("t", (("a", "b"), ("a",), ("c",)))
    assert path.components == ("a", "b", "c")


# ---- accounting -----------------------------------------------------------------------------------------------------


def test_counts_by_hand(chain: Chain) -> None:
    # base 2*4+4 = 12, spare 12, first head 4*3+3 = 15, second 3*3+3 = 12; the trace is auxiliary.
    assert chain.parameter_counts() == {"base": 12, "spare": 12, "head0": 15, "head1": 12}
    assert accounting.total_parameters(chain) == 51
    assert accounting.byte_counts(chain) == {"base": 48, "spare": 48, "head0": 60, "head1": 48}
    first, second = accounting.cost(chain, "first"), accounting.cost(chain, "second")
    assert (first.parameters, first.added_parameters, first.activated) == (27, 27, 27 / 51)
    assert (second.parameters, second.added_parameters, second.size_bytes) == (39, 12, 156)
    assert first.flops == 2 * (2 * 4 + 4 * 3)


def test_sharing_dependencies_and_removal_by_hand(chain: Chain) -> None:
    shared = accounting.sharing(chain.components(), chain.paths())
    assert shared.users["base"] == shared.users["head0"] == ("first", "second") and shared.users["spare"] == ()
    assert shared.profile == [1, 0, 1]  # spare by none, base by two; own heads are left out
    assert chain.affected_by({"head1"}) == ("second",)
    assert chain.affected_by({"base"}) == ("first", "second")
    assert accounting.dependencies(chain.paths(), chain.components()) == {"first": ("second",), "second": ()}
    with pytest.raises(InvalidInput, match=r"'first' cannot be removed: \['second'\] build on it"):
        accounting.tasks_to_remove(chain, "first", cascade=False)
    assert accounting.tasks_to_remove(chain, "first", cascade=True) == ("first", "second")
    assert accounting.tasks_to_remove(chain, "second", cascade=False) == ("second",)
    with pytest.raises(UnknownName, match="Did you mean 'first'"):
        accounting.tasks_to_remove(chain, "frist", cascade=True)


def test_a_broken_partition_is_described(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    assert accounting.check_partition(chain) == []
    parts = chain.components()
    parts["spare"] = Component("spare", "module", {"a": "rooms.base.bias", "b": "rooms.spare.weight", "c": "nowhere"})
    monkeypatch.setattr(chain, "components", lambda: parts)
    assert accounting.check_partition(chain) == [
        "state entry 'rooms.spare.bias' belongs to no component",
        "component(s) ['spare'] name 'nowhere', which is no state entry",
        "state entry 'rooms.base.bias' belongs to ['base', 'spare']",
    ]


# ---- networks -------------------------------------------------------------------------------------------------------


def test_walking_freezing_and_thawing(chain: Chain) -> None:
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = chain.rooms["head1"](chain.rooms["head0"](chain.rooms["base"](x)))
        assert torch.equal(chain(x, "second"), expected)
        assert torch.equal(chain.forward_many(x, ["second", "first"])["second"], expected)
    chain.freeze(["base"])
    chain.train()
    assert (
        not chain.rooms["base"].training
        and chain.rooms["spare"].training
        and not chain.rooms["base"].weight.requires_grad
    )
    assert chain.frozen == {"base"} and len(chain.trainable(chain.path("first").components)) == 2
    chain.thaw()
    assert chain.rooms["base"].training and chain.rooms["base"].weight.requires_grad and not chain.frozen
    assert len(chain.trainable(chain.path("second").components)) == 6


# ---- examples -------------------------------------------------------------------------------------------------------

ROWS = torch.arange(12.0).reshape(6, 2)


def test_examples_share_their_source_and_select_rows() -> None:
    held = Examples.of(ROWS, torch.tensor([0, 1, 2, 0, 1, 2]))
    part = held.select(torch.tensor([4, 0]))
    assert part.source is held.source and part.inputs().tolist() == [[8.0, 9.0], [0.0, 1.0]]
    assert part.targets.tolist() == [1, 0] and part.inputs(slice(1, 2)).tolist() == [[0.0, 1.0]]


def test_test_labels_are_sealed() -> None:
    sealed = Sealed(Examples.of(ROWS, torch.tensor([0, 1, 2, 0, 1, 2])))
    with pytest.raises(SealedError, match="test labels are sealed"):
        _ = sealed.targets
    assert len(sealed) == 6 and torch.equal(sealed.inputs(), ROWS) and sealed.unseal().targets.tolist()[2] == 2


@pytest.mark.parametrize(
    ("target", "targets", "message"),
    [
        (None, torch.tensor([0, 1, 2, 3, 0, 0]), r"class index 3, outside the 3 labels \(0..2\)"),
        (None, torch.tensor([0, 1, 2, -1, 0, 0]), "class index -1"),
        (None, torch.tensor([0, 1, 1, 1, 0, 0]), r"no example of class\(es\) \['z'\]"),
        (None, torch.tensor([0.0] * 6), "must be class indices"),
        (
            None,
            torch.tensor([0, 1, 2] * 2, dtype=torch.int32),
            r"int64 \(tensor.long\(\)\), received \(6,\) torch.int32",
        ),
        (None, torch.tensor([True, False] * 3), "int64 .*received .*bool"),
        (None, torch.tensor([0, 1, 2]), "6 inputs but 3 targets"),
        (Regression(size=2), torch.zeros(6, 3), r"must have shape \(6, 2\), received \(6, 3\)"),
        (Regression(size=1), torch.tensor([0, 0, float("nan"), 0, 0, 0]), r"NaN or infinite targets at rows \[2\]"),
        (MultiLabel(labels=("p",)), torch.full((6, 1), 2), "must be 0 or 1"),
    ],
)
def test_bad_targets_are_refused(target: Target | None, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TaskData(task("a", target), Examples.of(ROWS, targets))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(6, 3, 4, 5), r"shape \(1, 4, 5\), uint8 or float32, received \(3, 4, 5\) torch.float32; .*decode"),
        (torch.zeros(6, 1, 5, 4, dtype=torch.uint8), r"received \(1, 5, 4\) torch.uint8"),
        (torch.zeros(6, 1, 4, 5, dtype=torch.float64), "received .*float64"),
        (torch.zeros(6, 1, 4, 5, dtype=torch.int64), "received .*int64"),
    ],
)
def test_inputs_that_are_not_the_task_s_are_refused(inputs: torch.Tensor, message: str) -> None:
    shape = {"channels": 1, "height": 4, "width": 5}
    preprocess = ImagePreprocess(**shape, mean=(0.5,), std=(0.5,))
    made = Task(name="a", inputs=Image(**shape), target=Classification(labels=("x", "y")), preprocess=preprocess)
    targets, good = torch.tensor([0, 1] * 3), torch.zeros(6, 1, 4, 5)
    with pytest.raises(InvalidInput, match=f"train inputs must be rows of .*{message}"):
        TaskData(made, Examples.of(inputs, targets))
    with pytest.raises(InvalidInput, match="val inputs must be"):
        TaskData(made, Examples.of(good, targets), val=Examples.of(inputs, targets))
    TaskData(made, Examples.of(good, targets), test=Sealed(Examples.of(good.to(torch.uint8), targets)))
    wide = made.changed(inputs=Image(channels=3, height=4, width=5))
    with pytest.raises(InvalidInput, match=r"inputs of the task have shape \(3, 4, 5\), but its preprocess makes"):
        TaskData(wide, Examples.of(good, targets))


def test_rows_that_the_source_does_not_have_are_refused() -> None:
    targets = torch.tensor([0, 1, 2])
    with pytest.raises(InvalidInput, match="train picks row 6 of its source, which has 6 rows"):
        TaskData(task("a"), Examples(Examples.of(ROWS, targets).source, targets, torch.tensor([0, 1, 6])))


def test_what_data_prints_is_its_names_and_sizes() -> None:
    data = TaskData(task("a"), Examples.of(ROWS, torch.tensor([0, 1, 2, 0, 1, 2])))
    assert repr(Suite("s", (data,))) == "<suite 's': <task 'a', classification: 6 train>>"
    assert repr(data.train) == "<6 examples>"


def test_suites_name_their_tasks_once() -> None:
    data = TaskData(task("a"), Examples.of(ROWS, torch.tensor([0, 1, 2, 0, 1, 2])))
    other = TaskData(task("b"), data.train)
    suite = Suite("s", (data, other))
    assert suite.names == ("a", "b") and suite["b"] is other and suite.only(["b"]).names == ("b",)
    with pytest.raises(UnknownName):
        _ = suite["c"]
    with pytest.raises(InvalidInput, match=r"occur twice: \['a'\]"):
        Suite("s", (data, data))
    with pytest.raises(InvalidInput, match="at least one task"):
        Suite("s", ())
    with pytest.raises(InvalidInput, match="train is empty"):
        TaskData(task("a"), Examples.of(ROWS[:0], torch.zeros(0, dtype=torch.int64)))


# ---- seeds ----------------------------------------------------------------------------------------------------------


def test_a_seed_by_hand() -> None:
    raw = hashlib.sha256(b'[7,"order","task",3]').digest()
    assert derive(7, "order", "task", 3) == int.from_bytes(raw[:8], "big") >> 1


@given(seed=st.integers(0, 2**40), key=st.lists(st.text() | st.integers(), max_size=3))
def test_streams_repeat_and_differ(seed: int, key: list[Any]) -> None:
    one, two = generator(seed, *key), generator(seed, *key)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=two))
    assert len({derive(seed, *key), derive(seed + 1, *key), derive(seed, *key, "x"), derive(seed, "x", *key)}) == 4 or (
        set(key) <= {"x"}  # then "x" in front is "x" behind
    )


def test_seeding_the_global_generator_ends_with_the_block() -> None:
    before = torch.get_rng_state()
    with seeded(1, "a"):
        one = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(KeyError), seeded(1, "a"):
        assert torch.equal(torch.rand(3), one)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(derive(1, "a")))
    assert torch.equal(one, expected)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_files_are_the_old_or_the_new(tmp_path: FilePath) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"b": 1, "a": "é"})
    assert files.read_json(path) == {"b": 1, "a": "é"} and list(files.read_json(path)) == ["b", "a"]

    def half(file: Any) -> None:
        file.write(b"half")
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        files.write_atomically(path, half)
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(path, {"x": float("nan")})
    assert files.read_json(path)["b"] == 1 and os.listdir(tmp_path) == ["a.json"]


def test_files_that_cannot_be_written_or_read(tmp_path: FilePath) -> None:
    nowhere = tmp_path / "none" / "a.csv"
    with pytest.raises(StoreError) as caught:  # the temporary name is nobody's business
        files.write_atomically(nowhere, lambda file: None)
    said = f"{nowhere} could not be written (No such file or directory); what was there before is unchanged"
    assert str(caught.value) == said
    with pytest.raises(StoreError, match="could not be written"):
        files.write_json(tmp_path / "no folder" / "a.json", 1)
    with pytest.raises(CorruptError, match="does not exist"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(CorruptError, match="b.json cannot be read as JSON"):
        files.read_json(tmp_path / "b.json")


# ---- probes ---------------------------------------------------------------------------------------------------------


def test_probes_are_seeded_and_answered_by_the_path_alone(chain: Chain) -> None:
    found = probe_inputs(chain.tasks["first"], seed=4)
    assert found.shape == (8, 2) and torch.equal(found, torch.randn(8, 2, generator=generator(4, "probe")))
    with torch.no_grad():
        assert torch.equal(probe_outputs(chain, "second", 4), chain(found, "second"))
        before = probe_outputs(chain, "first", 4)
        chain.rooms["head1"].weight.fill_(float("nan"))
    assert torch.equal(probe_outputs(chain, "first", 4), before)


def test_one_thread_is_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
