"""One network that several tasks own in parts: who holds what, what it computes, what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import task as image_task
from torch import nn

import polypath as pp
from polypath.core import accounting
from polypath.core.errors import InvalidInput
from polypath.core.examples import Examples
from polypath.core.seeds import seeded
from polypath.core.task import Classification, Task
from polypath.nn.backbones import BACKBONES, backbone
from polypath.nn.subnet import SubnetConfig, Subnetworks
from polypath.testing import tiny_features, tiny_images

MLP = {"kind": "mlp", "hidden": [7, 5]}
TINY = {"backbone": MLP, "epochs": 1, "batch": 8, "patience": 0, "samples": 8, "threads": 1, "progress": False}
OWN = {"encoder": "Encoder", "tied inside": "TiedInside", "tied across": "TiedAcross"}


@pytest.fixture(autouse=True)
def own_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name in OWN.items():
        monkeypatch.setitem(BACKBONES, kind, f"own_backbones:{name}")


def rows(name: str, size: int = 8, outputs: int = 3) -> Task:
    table = tiny_features(1, classes=2, columns=size).tasks[0].task
    return table.changed(name=name, target=Classification(labels=tuple(f"c{i}" for i in range(outputs))))


def network(config: Mapping[str, Any] = MLP, size: int = 8, **values: Any) -> Subnetworks:
    inputs = {"kind": "features", "size": size}
    return Subnetworks(SubnetConfig.of({"backbone": config, "inputs": inputs, **values}))


def filled(made: Subnetworks, *tasks: Task) -> Subnetworks:
    """The network with tasks, every value drawn: no bias is 0, no norm the identity."""
    for one in tasks:
        made.add_task(one)
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in made.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=stream) + 0.1)
    return made.eval()


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def by_hand(made: Subnetworks, space: str, owner: str, entry: str) -> np.ndarray:
    """An owner's dense weight, unpacked with NumPy."""
    state, key = made.state_dict(), entry.replace(".", "-")
    shape = made.spaces[space].masked[entry]
    bits = np.unpackbits(state[f"parts.{space}.{owner}.at.{key}"].numpy(), bitorder="little")
    weight = np.zeros(int(np.prod(shape)), dtype=np.float32)
    weight[np.flatnonzero(bits)] = state[f"parts.{space}.{owner}.value.{key}"].numpy()
    return weight.reshape(shape)


# ---- what is held ---------------------------------------------------------------------------------------------


def test_equation_3_holds_on_the_stacked_weights() -> None:
    made = filled(network(share=0.3), rows("a"), rows("b"), rows("c"))
    for name, space in made.spaces.items():
        for entry in space.masked:
            stacked = made.stacked(name, entry)
            assert stacked.shape == (3, *space.masked[entry])
            assert int((stacked != 0).sum(0).max()) == 1
            for number, owner in enumerate(("t0", "t1", "t2")):
                assert np.array_equal(stacked[number].detach().numpy(), by_hand(made, name, owner, entry))


def test_every_task_holds_the_floor_of_its_share_of_every_layer_and_the_rest_is_free() -> None:
    made = network(share={"a": 0.3, "default": 0.25})
    made.add_task(rows("a"))
    made.add_task(rows("b"))
    # 8 x 7 = 56, 7 x 5 = 35, 5 x 3 = 15 weights
    assert [made.part(p).counts() for p in made.own("a")] == [{"0.weight": 16}, {"0.weight": 10}, {"weight": 4}]
    assert [made.part(p).counts() for p in made.own("b")] == [{"0.weight": 14}, {"0.weight": 8}, {"weight": 3}]
    assert [len(made.free(s, e)) for s, e in (("fc1", "0.weight"), ("fc2", "0.weight"), ("head3", "weight"))] == [
        26,
        17,
        8,
    ]


def test_tasks_cost_a_byte_of_bits_for_eight_weights_and_no_copies() -> None:
    made = filled(network({"kind": "mlp", "hidden": [64]}, share=0.2), *(rows(f"task{i}") for i in range(5)))
    weights = 8 * 64 + 64 * 3
    values = sum(5 * (size // 5) for size in (8 * 64, 64 * 3))
    bits, biases = 5 * weights // 8, 5 * (64 + 3)
    assert sum(accounting.byte_counts(made).values()) == 4 * values + bits + 4 * biases


def test_five_tasks_on_disk_are_a_third_of_five_dense_networks(tmp_path: Path) -> None:
    suite = tiny_features(5)
    system = pp.learn("rsn2", suite, **{**TINY, "backbone": {"kind": "mlp", "hidden": [300, 300]}, "share": 0.2})
    folder = system.save(tmp_path / "system")
    blobs = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
    dense = 5 * 4 * (8 * 300 + 300 + 300 * 300 + 300 + 300 * 2 + 2)
    assert blobs / dense < 0.35
    again = pp.load(folder)
    again.load_all()
    assert again.network.digests() == system.network.digests()


def test_tasks_with_one_owner_share_the_weights_of_these_pieces_only() -> None:
    slots = {"fc1": {"a": "faces", "b": "faces"}}
    made = filled(network(share=0.3, slots=slots), rows("a"), rows("b"), rows("c"))
    assert made.path("a").steps[0] == made.path("b").steps[0] == (("fc1.faces",))
    assert made.path("c").steps[0] == ("fc1.t2",) and made.path("b").steps[1] == ("fc2.t1",)
    assert list(made.parts["fc1"]) == ["faces", "t2"]
    assert made.components()["fc1.faces"].kind == "module"
    freed, _ = made.release("a")
    assert "fc1.faces" not in freed and "fc1.faces" in made.components()
    assert "fc1.faces" in made.release("b")[0]


def test_other_inputs_get_first_pieces_of_their_own_and_share_the_rest() -> None:
    made = filled(network(share=0.3), rows("a"), rows("wide", size=12), rows("b"))
    assert made.path("wide").steps == (("fc1@t1.t1",), ("fc2.t1",), ("head3.t1",))
    assert made.spaces["fc1@t1"].masked == {"0.weight": (7, 12)}
    assert list(made.parts["fc1"]) == ["t0", "t2"]
    assert made(inputs(4, 12), "wide").shape == (4, 3)


def test_layers_left_out_stay_dense_for_other_inputs_too() -> None:
    made = filled(network(share=0.3, layers=("fc2",)), rows("a"), rows("wide", size=12))
    assert made.spaces["fc1@t1"].masked == {} and "0.weight" in made.spaces["fc1@t1"].dense
    assert torch.equal(made(inputs(4, 12), "wide"), copy.deepcopy(made)(inputs(4, 12), "wide"))


def test_features_of_another_length_get_a_head_of_their_own_size() -> None:
    config = {"kind": "conv", "blocks": [[2]], "dense": []}
    made = Subnetworks(
        SubnetConfig.of({"backbone": config, "inputs": {"kind": "image", "channels": 1, "height": 8, "width": 8}})
    )
    small, large = image_task("small"), image_task("large")
    shape = {"kind": "image", "channels": 1, "height": 12, "width": 12}
    large = Task.of(
        {**large.to_json(), "inputs": shape, "preprocess": {**large.to_json()["preprocess"], "height": 12, "width": 12}}
    )
    filled(made, small, large)
    assert made(inputs(2, 1, 12, 12), "large").shape == made(inputs(2, 1, 8, 8), "small").shape == (2, 2)


def test_a_refused_task_leaves_nothing_behind() -> None:
    made = filled(network(share=0.6), rows("a"))
    before = made.plan()
    with pytest.raises(InvalidInput, match="are free"):
        made.add_task(rows("wide", size=12))
    assert made.plan() == before
    made.add_task(rows("narrow", size=4), share=0.3)  # gets the number of the refused one, not its layers
    assert made(inputs(2, 4), "narrow").shape == (2, 3)


def test_removal_frees_positions_for_the_next_task() -> None:
    made = filled(network(share=0.5), rows("a"), rows("b"))
    with pytest.raises(InvalidInput, match=r"layer fc1\.0\.weight: 28 of 56 weights wanted .* 0 are free"):
        made.add_task(rows("c"))
    kept = {name: value.clone() for name, value in made.state_dict().items() if ".t1." in name}
    held = made.part("fc1.t0").positions("0.weight").clone()
    freed, reset = made.release("a")
    assert freed == ["fc1.t0", "fc2.t0", "head3.t0"] and reset == []
    assert torch.equal(made.free("fc1", "0.weight"), held.long())
    made.add_task(rows("c"))
    assert torch.equal(made.part("fc1.t2").positions("0.weight"), held)
    assert all(torch.equal(made.state_dict()[name], value) for name, value in kept.items())


# ---- what it computes -----------------------------------------------------------------------------------------


def ordinary(made: Subnetworks, name: str) -> nn.Module:
    """A plain network with the weights of a task's path: what NumPy unpacks, and the task's own dense entries."""
    one = made.tasks[name]
    with seeded(0, "ordinary"):
        body = backbone(made.config.backbone, one.inputs)
        plain = nn.Sequential(*body.pieces.values(), nn.Linear(body.features, one.target.outputs))
    for module, (component,) in zip(plain, made.path(name).steps, strict=True):
        space, owner = component.split(".")
        state = {k: v.detach().clone() for k, v in made.part(component).dense_state(made.spaces[space]).items()}
        state |= {e: torch.from_numpy(by_hand(made, space, owner, e)) for e in made.spaces[space].masked}
        assert state.keys() == {key for key, _ in (*module.named_parameters(), *module.named_buffers())}
        module.load_state_dict(state)
    return plain.eval()


NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "mlp": (MLP, (8,)),
    "conv": ({"kind": "conv", "blocks": [[3, 4]], "dense": [5], "norm": "batch"}, (1, 8, 8)),
    "attention and an encoder layer": ({"kind": "encoder"}, (8,)),
    "timm ResNet": ({"kind": "timm", "name": "test_resnet"}, (1, 32, 32)),
    "timm ViT": ({"kind": "timm", "name": "test_vit", "options": {"img_size": 32}}, (1, 32, 32)),
}


@pytest.fixture(params=list(NETWORKS))
def pair(request: pytest.FixtureRequest) -> tuple[Subnetworks, torch.Tensor]:
    config, shape = NETWORKS[request.param]
    size = shape[-1]
    if len(shape) == 1:
        made, tasks = network(config, share=0.4), (rows("a"), rows("b"))
    else:
        spec = {"kind": "image", "channels": 1, "height": size, "width": size}
        made = Subnetworks(SubnetConfig.of({"backbone": config, "inputs": spec, "share": 0.4}))
        given = {"channels": 1, "height": size, "width": size}
        plain = image_task("a").to_json()
        tasks = tuple(
            Task.of({**plain, "name": n, "inputs": spec, "preprocess": {**plain["preprocess"], **given}}) for n in "ab"
        )
    return filled(made, *tasks), inputs(3, *shape)


def test_a_task_s_forward_is_an_ordinary_network_with_the_masked_weights(
    pair: tuple[Subnetworks, torch.Tensor],
) -> None:
    made, x = pair
    with torch.no_grad():
        for name in ("a", "b"):
            expected, said = ordinary(made, name)(x), made(x, name)
            size = float(expected.abs().max())
            if made.config.backbone["kind"] == "encoder":  # its attention has other last bits on some CPUs
                assert float((said - expected).abs().max()) <= 1e-6 * size
            else:
                assert torch.equal(said, expected)
            assert float((made.extract(name)(x) - expected).abs().max()) <= 1e-5 * size
            assert torch.equal(made.extract(name, fused=False)(x), said)


def test_a_step_of_one_task_moves_nothing_of_another(pair: tuple[Subnetworks, torch.Tensor]) -> None:
    made, x = pair
    before = made.digests()
    optimizer = torch.optim.AdamW(made.trainable(made.own("b")), lr=0.1, weight_decay=0.5)
    made.train()
    for _ in range(2):
        optimizer.zero_grad()
        made(x, "b").square().mean().backward()
        optimizer.step()
    after = made.digests()
    moved = {name for name in before if before[name] != after[name]}
    assert moved == set(made.own("b"))
    for component in made.own("b"):
        for entry in made.space(component).masked:
            weight = made.stacked(component.split(".")[0], entry)[1]
            assert int((weight != 0).sum()) <= made.part(component).counts()[entry]


def test_the_gradient_is_the_dense_gradient_at_the_owned_positions() -> None:
    made = filled(network(share=0.4), rows("a"), rows("b"))
    plain, x = ordinary(made, "b"), inputs(6, 8)
    made(x, "b").square().sum().backward()
    plain(x).square().sum().backward()
    at = made.part("fc1.t1").positions("0.weight").long()
    dense = plain[0][0].weight.grad  # type: ignore[index]
    assert torch.equal(made.part("fc1.t1").values("0.weight").grad, dense.view(-1)[at])
    assert made.part("fc1.t0").values("0.weight").grad is None


def test_memory_of_composed_weights_is_reused_without_mixing_tasks() -> None:
    made, x = filled(network(share=0.4), rows("a"), rows("b")).train(), inputs(6, 8)
    expected = [made(x, name).detach().clone() for name in ("a", "b")]
    for _ in range(3):
        together = made(x, "a").square().sum() + made(x, "b").square().sum()  # two graphs alive at once
        together.backward()
    found = [made(x, name) for name in ("a", "b")]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    made.zero_grad()
    found[0].square().sum().backward()
    first = made.part("fc1.t0").values("0.weight").grad
    assert first is not None
    reference = ordinary(made, "a")
    reference(x).square().sum().backward()
    at = made.part("fc1.t0").positions("0.weight").long()
    assert torch.equal(first, reference[0][0].weight.grad.view(-1)[at])  # type: ignore[index]


def test_a_graph_that_was_written_over_is_refused_not_wrong() -> None:
    made, x = filled(network(share=0.4), rows("a")).train(), inputs(6, 8)
    loss = made(x, "a").square().sum()
    loss.backward(retain_graph=True)
    made(x + 1, "a")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_everything_works_in_inference_mode(tmp_path: Path) -> None:
    suite = tiny_features(2)
    system = pp.learn("rsn2", suite, **TINY, order="sequential", read_earlier=True)
    folder, x = system.save(tmp_path / "system"), inputs(3, 8)
    expected = system.extract("task1", fused=False)(x)
    with torch.inference_mode():
        again = pp.load(folder)
        assert torch.equal(again.extract("task1", fused=False)(x), expected)
        torch.testing.assert_close(again.extract("task1")(x), expected, rtol=1e-5, atol=1e-6)


# ---- what it refuses ------------------------------------------------------------------------------------------


def test_shares_above_1_name_the_layer_before_anything_is_learned() -> None:
    with pytest.raises(InvalidInput, match=r"fc1\.0\.weight: 22 of 56 weights wanted \(share 0\.4\), 12 are free"):
        pp.learn("rsn2", tiny_features(3), **TINY, share=0.4)


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1])
def test_a_share_must_lie_between_0_and_1(share: float) -> None:
    with pytest.raises(InvalidInput, match="above 0 and at most 1"):
        network(share=share).add_task(rows("a"))


def test_a_task_without_a_share_is_named() -> None:
    with pytest.raises(InvalidInput, match="none for task 'b' and no 'default'"):
        network(share={"a": 0.5}).add_task(rows("b"))


def test_layers_too_small_for_a_share_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"layer head3\.weight has 15 weights, of which a share of 0\.05 is none"):
        network(share=0.05).add_task(rows("a"))


def test_patterns_that_match_nothing_list_what_there_is() -> None:
    with pytest.raises(InvalidInput, match=r"\['conv\*'\] match\(es\) no layer .* there are \['fc1\.0', 'fc2\.0'\]"):
        network(layers=("fc1", "conv*"))
    with pytest.raises(InvalidInput, match=r"slots: 'conv\*' matches no piece; there are \['fc1', 'fc2'\]"):
        network(slots={"conv*": {"a": "faces"}})


@pytest.mark.parametrize("owner", ["t0", "a.b", "", "keys"])
def test_owners_of_slots_have_names_that_no_task_id_takes(owner: str) -> None:
    with pytest.raises(InvalidInput, match="an owner's name has letters, digits and _"):
        network(slots={"fc1": {"a": owner}})


def test_biases_of_a_first_owner_must_be_on_every_path() -> None:
    with pytest.raises(InvalidInput, match="dense='first' needs reads"):
        network(dense="first")


def test_a_name_that_is_taken_is_refused() -> None:
    made = filled(network(), rows("a"))
    with pytest.raises(InvalidInput, match="'a' is already in the system"):
        made.add_task(rows("a"))


def test_tied_weights_are_refused_or_stay_dense_and_tied() -> None:
    with pytest.raises(InvalidInput, match=r"first\.weight and again\.weight are one tied weight"):
        network({"kind": "tied inside"})
    with pytest.raises(InvalidInput, match=r"one\.weight and two\.weight are one tied weight in two pieces"):
        network({"kind": "tied across"})
    made = filled(network({"kind": "tied inside"}, layers=("last",), share=0.4), rows("a"), rows("b"))
    x = inputs(4, 8)
    with torch.no_grad():
        expected = made(x, "b")
        weights = made.part("body.t1").dense_state(made.spaces["body"])
        assert "again.weight" not in weights
        first = torch.relu(x @ weights["first.weight"].T + weights["first.bias"])
        second = torch.relu(first @ weights["first.weight"].T + weights["again.bias"])
        last = second @ torch.from_numpy(by_hand(made, "body", "t1", "last.weight")).T + weights["last.bias"]
        head = last @ torch.from_numpy(by_hand(made, "head3", "t1", "weight")).T
        torch.testing.assert_close(expected, head + made.part("head3.t1").own["bias"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(made.extract("b")(x), expected, rtol=1e-5, atol=1e-5)


def test_gradients_that_are_not_finite_name_the_layer() -> None:
    data = tiny_features(1)["task0"]
    huge = replace(data, train=Examples.of(data.train.inputs() * 3e38, data.train.targets))
    with pytest.raises(InvalidInput, match=r"choosing weights for fc1\.t0\.0\.weight: .* NaN or infinite"):
        pp.learn("rsn2", huge, **TINY)


# ---- choosing over all layers -----------------------------------------------------------------------------------


def test_over_all_layers_every_task_gets_half_its_share_of_each_and_all_of_it_in_sum() -> None:
    settings = {**TINY, "backbone": {"kind": "mlp", "hidden": [60, 40]}, "init": "backbone"}
    system = pp.learn("rsn2", tiny_images(5), **settings, share=0.2, scope="global")
    planned = [11520 // 5, 2400 // 5, 80 // 5]  # 192 x 60, 60 x 40, 40 x 2
    for name in system.tasks:
        held = [sum(system.network.part(p).counts().values()) for p in system.network.own(name)]
        assert sum(held) == sum(planned)
        assert all(have >= plan // 2 for have, plan in zip(held, planned, strict=True))
    for name, space in system.network.spaces.items():
        assert all(int((system.network.stacked(name, e) != 0).sum(0).max()) <= 1 for e in space.masked)


# ---- systems ----------------------------------------------------------------------------------------------------


def test_an_old_system_is_continued_bit_for_bit(tmp_path: Path) -> None:
    suite = tiny_images(3)
    conv = {"kind": "conv", "blocks": [[4]], "dense": [6], "norm": "batch"}
    settings = {**TINY, "backbone": conv, "share": 0.3}
    system = pp.learn("rsn2", list(suite)[:2], **settings)
    before = system.network.digests()
    folder = system.save(tmp_path / "system")
    again = pp.load(folder)
    again.learn(list(suite)[2], threads=1, progress=False)
    after = again.network.digests()
    assert {name: after[name] for name in before} == before
    assert again.network.own("task2") == ["conv1.t2", "fc1.t2", "head2.t2"]
    stacked = again.network.stacked("fc1", "0.weight")
    assert int((stacked != 0).sum(0).max()) == 1 and len(stacked) == 3
    assert again.verify().ok
