"""CKA between two paths, against the same values walked by hand."""

import json
import math

import pytest
import torch
from torch import nn

from polypath.analysis import CKAConfig, average, compare_paths
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Examples, Sealed
from polypath.ops.cka import MinibatchCKA, linear_cka, rbf_cka


@torch.no_grad()
def by_hand(network, inputs):
    """{(task, step, name or None): representation} with every step written out."""
    found = {}
    for task, shift, rows in (("a", 0.0, [[0, 1], [0, 1]]), ("b", 0.5, [[0, 2], [2]])):
        value = inputs - shift
        for layer, row in enumerate(rows):
            for number in row:
                found[task, layer, f"l{layer}.m{number}"] = network.pool[f"l{layer}-m{number}"](value)
            value = sum(found[task, layer, f"l{layer}.m{number}"] for number in row).tanh()
            found[task, layer, None] = value
        found[task, 2, None] = network.heads[task](value)
    return found


@pytest.mark.parametrize(
    ("config", "measure"),
    [
        ({}, lambda x, y: rbf_cka(x, y)),
        ({"fraction": 2.0}, lambda x, y: rbf_cka(x, y, fraction=2.0)),
        ({"kernel": "linear"}, lambda x, y: linear_cka(x, y)),
        ({"kernel": "linear", "debiased": True}, lambda x, y: linear_cka(x, y, debiased=True)),
        ({"debiased": True}, lambda x, y: rbf_cka(x, y, debiased=True)),
        ({"debiased": True, "minibatch": 20}, lambda x, y: rbf_cka(x, y, debiased=True)),
    ],
)
def test_every_layer_and_every_pair_of_modules(network, inputs, config, measure):
    found = compare_paths(network, ("a", "b"), inputs, CKAConfig(batch_size=7, **config))
    known = by_hand(network, inputs)
    assert [entry["layer"] for entry in found["layers"]] == [1, 2, 3]
    for entry in found["layers"]:
        step = entry["layer"] - 1
        assert entry["cka"] == pytest.approx(measure(known["a", step, None], known["b", step, None]), abs=1e-6)
    assert [(m["layer"], m["rows"], m["columns"]) for m in found["modules"]] == [
        (1, ["l0.m0", "l0.m1"], ["l0.m0", "l0.m2"]),
        (2, ["l1.m0", "l1.m1"], ["l1.m2"]),
    ]
    for entry in found["modules"]:
        for i, row in enumerate(entry["rows"]):
            for j, column in enumerate(entry["columns"]):
                pair = known["a", entry["layer"] - 1, row], known["b", entry["layer"] - 1, column]
                assert entry["values"][i][j] == pytest.approx(measure(*pair), abs=1e-6)


def test_the_record_says_what_was_done_and_is_json(network, inputs):
    found = compare_paths(network, ("a", "b"), inputs, setup="layer 1")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    said = {key: found[key] for key in found if key not in ("layers", "modules")}
    assert said == {
        "setup": "layer 1",
        "kernel": "rbf",
        "fraction": 0.5,
        "debiased": False,
        "minibatch": None,
        "pool": None,
        "samples": 20,
        "inputs": "common",
        "tasks": ["a", "b"],
        "shared": ["l0.m0"],
    }


def test_a_task_is_entirely_like_itself(network, inputs):
    found = compare_paths(network, ("a", "a"), inputs)
    assert [entry["cka"] for entry in found["layers"]] == pytest.approx([1, 1, 1])
    assert found["modules"][0]["values"][0][0] == pytest.approx(1)


@pytest.mark.parametrize("numbers", [6 * 20, 2 * 6 * 20, 5 * 6 * 20])
def test_little_memory_takes_more_passes_and_gives_the_same(network, inputs, numbers):
    once = compare_paths(network, ("a", "b"), inputs)
    walks = []
    network.start = lambda value: walks.append(len(value)) or value
    found = compare_paths(network, ("a", "b"), inputs, CKAConfig(memory_bytes=4 * numbers))
    assert found == once
    assert sum(walks) > 2 * 2 * 20  # more than one pass of both sides


def test_one_representation_must_fit(network, inputs):
    with pytest.raises(InvalidInput, match="20 samples of layer 1 .6 values each. need 480 bytes, 479 are allowed"):
        compare_paths(network, ("a", "b"), inputs, CKAConfig(memory_bytes=479))


def test_minibatches_are_nearly_equal_and_none_is_too_small(network, inputs):
    # 20 samples by 6: three batches of 6, 7 and 7, not 6, 6, 6 and 2
    found = compare_paths(network, ("a", "b"), inputs, CKAConfig(debiased=True, minibatch=6, layers=(2,)))
    known = by_hand(network, inputs)
    reference = MinibatchCKA("rbf")
    for start, stop in ((0, 6), (6, 13), (13, 20)):
        reference.update([known["a", 1, None][start:stop]], [known["b", 1, None][start:stop]])
    assert found["layers"] == [{"layer": 2, "cka": pytest.approx(float(reference.table()), abs=1e-6)}]


def test_own_inputs_are_labelled_and_each_path_sees_its_own(network, inputs):
    other = inputs.flip(0) * 2
    found = compare_paths(network, ("a", "b"), {"b": other, "a": inputs}, inputs="own")
    assert found["inputs"] == "own"
    expected = rbf_cka(by_hand(network, inputs)["a", 0, None], by_hand(network, other)["b", 0, None])
    assert found["layers"][0]["cka"] == pytest.approx(expected, abs=1e-6)


def test_a_probe_may_be_several_sets_and_sealed(network, inputs):
    config = CKAConfig(batch_size=6)  # in both: sums of float32 depend on the batch
    whole = compare_paths(network, ("a", "b"), inputs, config)
    labels = torch.zeros(8, dtype=torch.int64)
    sealed = Sealed(Examples.of(inputs[12:], labels))
    parts = [inputs[:5], Examples.of(inputs[5:12], labels[:7]), sealed]
    assert compare_paths(network, ("a", "b"), parts, config) == whole


def test_a_network_that_shows_no_modules_is_compared_by_layers(tiny, inputs):
    Tiny, _, task = tiny
    network = Tiny().add(task("a"), [[0, 1], [0, 1]]).add(task("b", mean=0.5), [[0, 2], [2]])
    found = compare_paths(network, ("a", "b"), inputs)
    assert found["modules"] == []
    assert len(found["layers"]) == 3


def test_layers_alone_run_every_component_once(network, inputs):
    whole = compare_paths(network, ("a", "b"), inputs)
    network.step_outputs = lambda value, names: pytest.fail("components ran alone")
    found = compare_paths(network, ("a", "b"), inputs, CKAConfig(modules=False))
    assert found == {**whole, "modules": []}


def test_a_constant_layer_is_like_nothing(network, inputs):
    nn.init.zeros_(network.pool["l1-m2"].weight)
    found = compare_paths(network, ("a", "b"), inputs)
    assert [entry["cka"] for entry in found["layers"]][1:] == [0.0, 0.0]
    assert found["modules"][1]["values"] == [[0.0], [0.0]]


def test_the_network_is_left_as_it_was(network, inputs):
    network.train()
    network.pool.register_module("noise", nn.Dropout())
    state, drawn = network.state_dict(), torch.random.get_rng_state()
    copies = {key: value.clone() for key, value in state.items()}
    compare_paths(network, ("a", "b"), inputs)
    assert network.training and network.pool["noise"].training
    assert all(torch.equal(state[key], copies[key]) for key in state)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_diverged_is_named(network, inputs):
    nn.init.constant_(network.pool["l1-m2"].weight, math.nan)
    with pytest.raises(InvalidInput, match="task 'b', layer 2, component 'l1.m2': .* NaN"):
        compare_paths(network, ("a", "b"), inputs)
    with pytest.raises(InvalidInput, match="task 'b', layer 2, component 'l1.m2': .* NaN"):
        compare_paths(network, ("a", "b"), inputs, CKAConfig(debiased=True, minibatch=5))


def test_what_cannot_be_compared_is_refused(network, inputs, tiny):
    both = ("a", "b")
    with pytest.raises(UnknownName, match="unknown task 'c'"):
        compare_paths(network, ("a", "c"), inputs)
    with pytest.raises(InvalidInput, match=r"same number of inputs for both tasks.*received \[20, 19\]"):
        compare_paths(network, both, {"a": inputs, "b": inputs[1:]}, inputs="own")
    with pytest.raises(InvalidInput, match="at least 4, is required"):
        compare_paths(network, both, inputs[:3], CKAConfig(debiased=True))
    with pytest.raises(InvalidInput, match="mapping with"):
        compare_paths(network, both, inputs, inputs="own")
    with pytest.raises(InvalidInput, match="one set or a list"):
        compare_paths(network, both, {"a": inputs, "b": inputs})
    with pytest.raises(InvalidInput, match=r"layers: from 1 to 3 .* received \[0, 4\]"):
        compare_paths(network, both, inputs, CKAConfig(layers=(0, 4)))
    with pytest.raises(InvalidInput, match="set debiased=True"):
        CKAConfig.of({"minibatch": 8})
    network.add(tiny[2]("wide", size=7), [[0], [0]])
    with pytest.raises(InvalidInput, match="inputs of different shape"):
        compare_paths(network, ("a", "wide"), inputs)


def test_average_over_seeds():
    def record(cka, cell):
        modules = [{"layer": 1, "rows": ["x"], "columns": ["y"], "values": [[cell]]}]
        return {"kernel": "rbf", "layers": [{"layer": 1, "cka": cka}], "modules": modules, "shared": ["x"]}

    found = average([record(0.2, 0.5), record(0.4, 1.0), record(0.6, 0.0)])
    assert found["seeds"] == 3
    assert found["layers"] == [{"layer": 1, "cka": pytest.approx(0.4), "std": pytest.approx(0.2)}]
    assert found["modules"][0]["values"] == [[pytest.approx(0.5)]]
    assert average([record(0.2, 0.5)])["layers"][0]["std"] is None

    other = record(0.4, 1.0)
    other["modules"][0]["rows"] = ["z"]
    assert average([record(0.2, 0.5), other])["modules"] == []
    assert average([record(0.2, 0.5), other])["layers"][0]["cka"] == pytest.approx(0.3)
    with pytest.raises(InvalidInput, match="differ in .'kernel'"):
        average([record(0.2, 0.5), {**other, "kernel": "linear"}])
    with pytest.raises(InvalidInput, match="at least one"):
        average([])
