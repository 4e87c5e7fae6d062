"""What frozen prefixes make of the examples: computed once for all children, and not a bit different for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from polypath.core.examples import Examples, TaskData
from polypath.core.preprocess import TextPreprocess
from polypath.core.seeds import seeded
from polypath.core.task import Classification, Task, Tokens
from polypath.methods import prefix
from polypath.methods.jobs import Job, Shared, Source
from polypath.methods.offspring import Offspring, train_child
from polypath.methods.prefix import Prefix, Store
from polypath.nn import own
from polypath.nn.backbones import BACKBONES
from polypath.nn.layered import Layered, LayeredConfig
from polypath.nn.roots import HEAD, described_root
from polypath.search.evolution import Gene
from polypath.search.hyperparameters import default_table, defaults

VIT = {"kind": "vit", "depth": 2, "options": {"patch_size": 4, "embed_dim": 16, "num_heads": 2}}
CONV = {"kind": "conv", "blocks": [[4, 8], [8]], "dense": [8], "norm": "batch"}
STILL = {"crop": False, "flip": False, "learning_rate": 0.1}


@pytest.fixture(autouse=True)
def nothing_stored() -> Iterator[None]:
    prefix.forget()
    yield
    prefix.forget()


class World:
    """A root, a task and the jobs of children whose lowest trained layer is given."""

    def __init__(self, root: dict[str, Any], data: TaskData | None = None) -> None:
        self.data: TaskData = data or tiny.data("one", count=20, channels=3, validation=True)
        self.root = described_root(root)
        self.network = Layered(LayeredConfig(root=self.root, inputs=self.data.task.inputs))
        self.sources = {
            name: Source(record.slot, None, dict(self.network.tensors([name])[name]))
            for name, record in self.network.records.items()
        }
        self.slots = [(record.slot, name) for name, record in self.network.records.items()]

    def shared(self, budget: int) -> Shared:
        assert self.data.val is not None
        rows = torch.arange(len(self.data.val))
        facts = {"cycles": 2, "samples": 100, "batch": 8, "cache_bytes": budget}
        return Shared(self.root, self.data.task.inputs, self.data, rows, self.sources, **facts)

    def job(self, frozen: int, **settings: Any) -> Job:
        genes = [Gene(s, "share" if i < frozen else "clone", name) for i, (s, name) in enumerate(self.slots)]
        values = {**defaults(default_table()), **STILL, **settings}
        return Job(1, 5, (*genes, Gene(HEAD, "new")), values)

    def answer(self, budget: int, frozen: int, **settings: Any) -> dict[str, Any]:
        found = train_child(self.shared(budget), self.job(frozen, **settings))
        return {key: value for key, value in found.items() if key != "seconds"}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("root", [VIT, CONV], ids=["vit", "conv"])
@pytest.mark.parametrize("budget", [10**7, 3000, 1], ids=["all fits", "some rows fit", "nothing fits"])
def test_children_are_the_same_bits_with_the_store_and_without(root: dict[str, Any], budget: int) -> None:
    world = World(root)
    depths = [2, 3, 2, 1]
    plain = [world.answer(0, frozen) for frozen in depths]
    kept = [world.answer(budget, frozen) for frozen in depths]
    assert all(equal(a, b) for a, b in zip(plain, kept, strict=True))
    assert plain[0]["tensors"].keys() == {HEAD, *(slot for slot, _ in world.slots[2:])}
    assert not equal(plain[0]["tensors"][HEAD], plain[1]["tensors"][HEAD])  # children of different prefixes differ


ROOTS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "mlp": {"hidden": [6, 5]},
    "conv": CONV,
    "dfcnn": {},
    "timm_stages": {"name": "test_resnet"},
    "resnet18": {"width": 1 / 16},
    "mobilenetv2": {"width": 1 / 16},
    "own": {"name": "prefix"},
    "transformer": {"width": 4, "heads": 1, "feed_forward": 4, "dense": [4], "dropout": 0.0},
}


def texts() -> TaskData:
    words = ("dark", "bright")
    made = Task(
        name="texts",
        inputs=Tokens(length=3, vocabulary=4),
        target=Classification(labels=words),
        preprocess=TextPreprocess(vocabulary=words, length=3),
    )
    targets = torch.arange(20) % 2
    examples = Examples.of(2 + targets[:, None].expand(20, 3), targets)
    return TaskData(made, examples, val=examples)


@pytest.mark.parametrize("kind", ["vit", *BACKBONES])
def test_every_kind_of_root_can_be_frozen_up_to_any_layer(kind: str) -> None:
    if kind == "timm":
        pytest.skip("its layers cannot be enumerated: refused as a root")
    with seeded(0, "own root"):
        own.offer("prefix", nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5)))
    world = World({"kind": kind, **ROOTS[kind]}, texts() if kind == "transformer" else None)
    for frozen in range(0, len(world.slots) + 1, 3 if kind == "mobilenetv2" else 1):  # twenty blocks take time
        plain, kept = world.answer(0, frozen), world.answer(10**7, frozen)
        assert plain["score"] is not None and equal(plain, kept)
        assert plain["tensors"].keys() == {HEAD, *(slot for slot, _ in world.slots[frozen:])}


def test_a_cut_inside_a_residual_block_moves_below_it() -> None:
    # stem, then two halves a block: the fifth layer, layer1_1's second half, receives a pair from the fourth.
    world = World({"kind": "resnet18", "width": 1 / 16})
    cuts = [Offspring(world.shared(0), world.job(frozen)).first for frozen in range(6)]
    assert cuts == [0, 1, 1, 3, 3, 5]


def test_a_child_s_mixed_precision_is_sound() -> None:
    """See tests/nn/test_mixed.py."""
    child = Offspring(replace(World(CONV).shared(0), precision="bf16-mixed"), World(CONV).job(0))
    with seeded(0, "convolution"):
        conv = nn.Conv2d(16, 16, 3, 2, 1)
    for _ in range(6):
        held = [torch.full((count,), float("nan")) for count in (64, 144, 256, 1024, 2304, 4096) for _ in range(6)]
        del held
        with child._autocast():
            out = conv(torch.ones(16, 16, 1, 1))
        out.sum().backward()
        assert conv.weight.grad is not None and conv.weight.grad.isfinite().all()


def test_a_prefix_is_computed_once_for_two_children_and_their_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(CONV)
    rows: list[int] = []
    inner = Prefix._computed
    monkeypatch.setattr(
        Prefix, "_computed", lambda self, split, wanted: rows.append(len(wanted)) or inner(self, split, wanted)
    )
    world.answer(10**7, 2)
    world.answer(10**7, 2)
    assert world.data.val is not None
    assert sum(rows) == len(world.data.train) + len(world.data.val)
    rows.clear()
    world.answer(0, 2)
    assert sum(rows) == 2 * (len(world.data.train) + len(world.data.val))  # two cycles


def test_varied_images_are_never_stored_but_validation_images_are() -> None:
    world = World(CONV)
    shared, job = world.shared(10**7), world.job(2, flip=True)
    train_child(shared, job)
    assert prefix._kept is not None
    assert {key[0] for key in prefix._kept.store._entries} == {"val"}


class Counted(nn.Module):
    """Doubles, and counts the rows that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.rows += len(value)
        return 2 * value


class Placed(nn.Module):
    """What no frozen layer should do: adds a row's place to it."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value + torch.arange(len(value)).view(-1, 1, 1, 1)


def made(layers: list[nn.Module], store: Store | None) -> Prefix:
    names = [f"layer {number}" for number in range(len(layers))]
    return Prefix(layers, names, tiny.data("one", count=20, validation=True), torch.device("cpu"), 4, store)


def test_a_longer_prefix_begins_where_a_shorter_one_ends() -> None:
    low, high, store = Counted(), Counted(), Store(10**7)
    rows = torch.tensor([3, 1, 2, 0, 7, 5])
    short = made([low], store).outputs("train", rows)
    passed = low.rows
    long = made([low, high], store).outputs("train", rows)
    assert torch.equal(long, 2 * short)
    assert low.rows == passed and high.rows == 4 + 4 + 4 + 4  # two chunks to see that the place does not matter


def test_where_a_rows_place_matters_nothing_is_stored() -> None:
    store = Store(10**7)
    rows = torch.tensor([3, 1, 2, 0, 7, 5])
    outputs = made([Placed()], store).outputs("train", rows)
    assert torch.equal(outputs, made([Placed()], None).outputs("train", rows))
    assert store.size_bytes == 0 and store.refused == {("train", "layer 0")}


class Strides(nn.Module):
    """Writes down the strides of what it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.seen.add(value.stride())
        return value


def test_maps_of_one_pixel_have_the_same_strides_from_the_store_and_computed() -> None:
    # Kernels are chosen by strides, also by those of sides of length 1. Sixteen channels of one pixel, channels last:
    # (16, 1, 16, 16); as the layer makes them: (16, 1, 1, 1).
    watch, rows = Strides(), torch.tensor([3, 1, 2, 0])
    with seeded(0, "convolution"):
        layers = [nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Unflatten(1, (16, 1, 1))), watch]
    stores = [None, Store(10**7)]
    with torch.no_grad():
        for store in stores:
            made(layers[:1], store).outputs("train", rows)
            assert made(layers, store).outputs("train", rows).stride() == (16, 1, 16, 16)
    assert watch.seen == {(16, 1, 16, 16)}


def test_the_budget_holds_and_those_not_used_for_longest_go_first() -> None:
    store, like = Store(1000), torch.zeros(1, 10)  # 40 bytes a row
    assert store.made(("train", "a"), 10, 20, like) is not None  # half of the budget, but ten rows are enough
    assert store.made(("train", "b"), 10, 20, like) is not None
    assert store.size_bytes == 800
    assert store.entry(("train", "a")) is not None
    assert store.made(("train", "c"), 10, 20, like) is not None
    assert store.entry(("train", "b")) is None and store.entry(("train", "a")) is not None
    partial = store.made(("val", "d"), 100, 200, like)
    assert partial is not None and len(partial.there) == 12  # 500 bytes
    assert store.size_bytes <= 1000
    assert store.made(("val", "e"), 1, 2, torch.zeros(1, 1000)) is None
    assert ("val", "e") in store.refused


def test_another_tasks_examples_and_other_settings_have_a_store_of_their_own() -> None:
    first, second = tiny.data("one"), tiny.data("two")
    store = prefix.store_of(first, 100, "cpu", 1)
    assert prefix.store_of(first, 100, "cpu", 1) is store
    assert prefix.store_of(first, 100, "cpu", 2) is not store
    assert prefix.store_of(second, 100, "cpu", 2) is not store
    assert prefix.store_of(second, 0, "cpu", 2) is None and prefix._kept is None
