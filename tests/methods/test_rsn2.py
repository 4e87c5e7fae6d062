from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import polypath as pp
from polypath.core.errors import InvalidInput, StoreError, UnknownName
from polypath.core.examples import Suite, TaskData
from polypath.core.seeds import seeded
from polypath.methods.rsn2 import RSN2, chosen_positions, connected
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import SubnetConfig
from polypath.recipes.experiment import changed_settings
from polypath.testing import tiny_features, tiny_images
from polypath.train.engine import Engine

TINY: dict[str, Any] = {
    "backbone": {"kind": "mlp", "hidden": [10]},
    "share": 0.3,
    "epochs": 2,
    "batch": 8,
    "patience": 0,
    "samples": 8,
    "threads": 1,
    "progress": False,
}


def network_of(system: pp.System) -> Subnetworks:
    assert isinstance(system.network, Subnetworks)
    return system.network


def owners(network: Subnetworks, space: str) -> torch.Tensor:
    """How many owners each position of a layer has."""
    entry = next(iter(network.spaces[space].masked))
    counts = torch.zeros(network.spaces[space].size(entry), dtype=torch.int64)
    for owner in network.owners(space):
        counts[network.part(f"{space}.{owner}").positions(entry)] += 1
    return counts


@pytest.mark.parametrize("order", ["joint", "sequential"])
def test_every_task_owns_exactly_its_share_and_no_weight_has_two_owners(order: str) -> None:
    network = network_of(pp.learn("rsn2", tiny_features(3), **{**TINY, "order": order}))
    assert owners(network, "fc1").max() == 1
    assert int(owners(network, "fc1").sum()) == 3 * 24  # floor(0.3 x 80) each
    assert int(owners(network, "head2").sum()) == 3 * 6
    stacked = network.stacked("fc1", "0.weight")
    assert stacked.shape == (3, 10, 8)
    assert int((stacked != 0).sum(0).max()) <= 1  # the paper's equation 3


def test_the_paper_keeps_the_largest_gradients() -> None:
    """Ranked by hand: the gradient of the loss summed over all examples, of the dense network with initial values."""
    suite = tiny_features(1, per_class=4)
    method = RSN2(**{k: v for k, v in TINY.items() if k not in ("threads", "progress")}, learning_rate=1e-30)
    system = pp.learn(method, suite, threads=1, progress=False)
    network = network_of(system)
    task, data = suite["task0"].task, suite["task0"]
    weight = network.initial("fc1.t0", task)[0]["0.weight"].requires_grad_()
    head = network.initial("head2.t0", task)[0]["weight"]
    hidden = (task.preprocess.encode(data.train.inputs()) @ weight.T).relu()
    nn.functional.cross_entropy(hidden @ head.T, data.train.targets, reduction="sum").backward()
    assert weight.grad is not None
    expected = weight.grad.abs().flatten().topk(24).indices.sort().values
    part = network.part("fc1.t0")
    assert torch.equal(part.positions("0.weight"), expected)
    torch.testing.assert_close(part.values("0.weight").detach(), weight.detach().flatten()[expected])


def test_by_magnitude_the_largest_weights_are_kept() -> None:
    suite = tiny_features(1)
    network = network_of(pp.learn("rsn2", suite, select="magnitude", learning_rate=1e-30, **TINY))
    weight = network.initial("fc1.t0", suite["task0"].task)[0]["0.weight"].flatten()
    assert torch.equal(network.part("fc1.t0").positions("0.weight"), weight.abs().topk(24).indices.sort().values)


def test_dense_epochs_train_all_free_weights_before_the_choice() -> None:
    suite = tiny_features(1)
    settings = {**TINY, "select": "magnitude", "learning_rate": 0.1}
    chosen = [
        network_of(pp.learn("rsn2", suite, dense_epochs=n, **settings)).part("fc1.t0").positions("0.weight")
        for n in (0, 2)
    ]
    assert not torch.equal(*chosen)


def test_values_off_the_mask_stay_zero_under_weight_decay_and_momentum() -> None:
    network = network_of(pp.learn("rsn2", tiny_features(2), weight_decay=0.1, **TINY))
    own, other = network.stacked("fc1", "0.weight")
    assert int((own != 0).sum()) <= 24 and not bool((own.ne(0) & other.ne(0)).any())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_earlier_tasks_stay_bit_identical(optimizer: str) -> None:
    suite = tiny_images(3)
    conv = {"kind": "conv", "blocks": [[4], [4]], "dense": [], "norm": "batch"}
    settings = {**TINY, "backbone": conv, "optimizer": optimizer, "weight_decay": 0.1, "order": "sequential"}
    system = pp.learn("rsn2", suite.only(suite.names[:2]), **settings)

    def answers() -> list[torch.Tensor]:
        known = [suite[name] for name in suite.names[:2]]
        encoded = {item.name: item.task.preprocess.encode(item.train.inputs()) for item in known}
        return [system.extract(name, fused=False)(inputs) for name, inputs in encoded.items()]

    before = answers()
    system.learn(suite["task2"], threads=1, progress=False)
    after = answers()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert system.isolation == "exact"


def test_a_removed_tasks_weights_are_free_for_the_next() -> None:
    suite = tiny_features(4)
    system = pp.learn("rsn2", suite.only(suite.names[:3]), **TINY)
    with pytest.raises(
        InvalidInput, match=r"layer fc1.0.weight: 24 of 80 weights wanted .* 8 are\s+free .*remove a task"
    ):
        system.learn(suite["task3"], threads=1, progress=False)
    system.remove("task1")
    assert system.capacity().fits == 1
    system.learn(suite["task3"], threads=1, progress=False)
    assert list(system.tasks) == ["task0", "task2", "task3"]
    assert owners(network_of(system), "fc1").max() == 1


def test_capacity_says_what_is_free_and_how_many_more_fit() -> None:
    system = pp.learn("rsn2", tiny_features(2), **TINY)
    layer = system.capacity(0.2).layers["fc1.0.weight"]
    assert (layer.size, layer.free, layer.fits) == (80, 32, 2)  # 80 - 2 x 24; a fifth is 16
    assert layer.free_share == pytest.approx(0.4)
    assert system.capacity(0.3).fits == 1
    with pytest.raises(InvalidInput, match="above 0 and at most 1"):
        system.capacity(0.0)
    with pytest.raises(InvalidInput, match="own no parts of layers"):
        pp.learn("single", tiny_features(1), backbone="mlp", epochs=1, threads=1, progress=False).capacity()


def test_tasks_of_one_slot_share_weights_and_the_features_are_computed_once() -> None:
    slots = {"fc1": {"task0": "pair", "task1": "pair"}}
    system = pp.learn("rsn2", tiny_features(3), slots=slots, **TINY)
    network = network_of(system)
    assert network.path("task0").steps[0] == network.path("task1").steps[0] == ("fc1.pair",)
    assert system.sharing().users["fc1.pair"] == ("task0", "task1")
    removal = system.remove("task0")
    assert "fc1.pair" not in removal.freed and "task0" in system.sources["fc1.pair"]


def test_tasks_with_other_inputs_get_first_layers_of_their_own() -> None:
    wide, narrow = tiny_features(2), tiny_features(1, columns=5)
    other = narrow.tasks[0]
    mixed = Suite("mixed", (*wide, type(other)(other.task.renamed("narrow"), other.train, other.val, other.test)))
    backbone = {"kind": "mlp", "hidden": [10, 10]}
    system = pp.learn("rsn2", mixed, **{**TINY, "backbone": backbone})
    names = [step[0] for step in network_of(system).path("narrow").steps]
    assert names == ["fc1@t2.t2", "fc2.t2", "head2.t2"]
    assert network_of(system).part("fc1@t2.t2").counts() == {"0.weight": 15}  # 0.3 x 5 x 10, nobody competes


def test_heads_can_be_dense() -> None:
    network = network_of(pp.learn("rsn2", tiny_features(2), heads="dense", **TINY))
    assert network.part("head@t0.t0").counts() == {"weight": 20}


def test_a_later_task_can_read_earlier_ones_without_changing_them() -> None:
    suite = tiny_features(3)
    system = pp.learn("rsn2", suite, read_earlier=True, order="sequential", **TINY)
    network = network_of(system)
    assert network.path("task2").steps[0] == ("fc1.t0", "fc1.t1", "fc1.t2")
    weight = system.extract("task1", fused=False).network.stacked("fc1", "0.weight").sum(0)  # type: ignore[union-attr]
    assert torch.equal(weight, network.stacked("fc1", "0.weight")[:2].sum(0))
    with pytest.raises(InvalidInput, match="build on it"):
        system.remove("task0")
    assert system.remove("task1", cascade=True).removed == ("task1", "task2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0.4}, r"task 'task2': layer fc1.0.weight: 32 of 80 weights wanted \(share 0.4\), 16 are free"),
        ({"share": 0.01}, "has 80 weights, of which a share of 0.01 is none"),
        ({"share": {"task0": 0.1}}, "share: none for task 'task1'"),
        ({"share": 1.5}, "above 0 and at most 1"),
        ({"layers": ["fc1", "conv*"]}, r"layers: \['conv\*'\] match\(es\) no layer .* there are \['fc1.0'\]"),
        ({"read_earlier": True}, "read_earlier needs order='sequential'"),
        ({"groups": [["task0"], ["task0", "task1"]]}, "groups: every task once"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_learned(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pp.learn("rsn2", tiny_features(3), **{**TINY, **settings})


def test_groups_name_known_tasks() -> None:
    with pytest.raises(UnknownName, match="task in groups 'tusk1'.*Did you mean 'task1'"):
        pp.learn("rsn2", tiny_features(2), groups=[["task0"], ["tusk1"]], **TINY)


def test_weights_of_losses_name_tasks_that_are_learned() -> None:
    with pytest.raises(UnknownName, match="task in loss_weights 'tusk1'.*Did you mean 'task1'"):
        pp.learn("rsn2", tiny_features(2), loss_weights={"tusk1": 2.0}, **TINY)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("share", {"default": 0.3, "tusk1": 0.1}),
        ("slots", {"fc1": {"task0": "a", "tusk1": "a"}}),
        ("batch", {"default": 8, "tusk1": 4}),
        ("min_delta", {"default": 0.1, "tusk1": 0.2}),
    ],
)
def test_names_of_tasks_that_may_come_later_are_told(
    setting: str, value: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    system = pp.learn("rsn2", tiny_features(2), **{**TINY, setting: value})
    told = f"{setting}: 'tusk1' is none of the tasks ['task0', 'task1']"
    assert caplog.text.count(told) == 1 and "did you mean 'task1'?" in caplog.text
    system.learn(tiny_features(3)["task2"], threads=1, progress=False)
    assert caplog.text.count(told) == 1


def test_weights_of_losses_given_to_a_system_that_grows_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Not refused, and only those that are new: a name may be that of a task which was removed since."""
    system = pp.learn("rsn2", tiny_features(2), loss_weights={"task0": 2.0}, **TINY)
    system.remove("task0")
    system.learn(tiny_features(3)["task2"], threads=1, progress=False)
    assert "loss_weights" not in caplog.text
    system.learn(tiny_features(4)["task3"], loss_weights={"task0": 2.0, "tusk1": 2.0}, threads=1, progress=False)
    assert "loss_weights: 'tusk1' is none of the tasks ['task1', 'task2', 'task3']" in caplog.text
    assert "loss_weights: 'task0'" not in caplog.text


def test_a_system_keeps_its_slots() -> None:
    """They are the network's; others given later would have changed nothing."""
    system = pp.learn("rsn2", tiny_features(2), **TINY)
    with pytest.raises(InvalidInput, match="slots=.*cannot be"):
        system.learn(tiny_features(3)["task2"], slots={"fc1": {"task2": "a"}}, threads=1, progress=False)


def test_groups_of_a_task_that_was_removed_let_the_system_grow() -> None:
    system = pp.learn("rsn2", tiny_features(2), groups=[["task0"], ["task1"]], **TINY)
    system.remove("task0")
    system.learn(tiny_features(3)["task2"], threads=1, progress=False)
    assert list(system.tasks) == ["task1", "task2"]
    with pytest.raises(InvalidInput, match="groups: names of access groups are required where a system grows"):
        system.learn(tiny_features(3)["task0"], groups=[["task0"]], threads=1, progress=False)
    with pytest.raises(InvalidInput, match="method.groups: given for a first learning only"):  # `polypath add --set`
        changed_settings("rsn2", system.config, ['method.groups=[["task0"]]'])


def test_slots_and_groups_follow_a_task_that_is_renamed() -> None:
    slots = {"fc1": {"task0": "a", "task1": "a"}}
    system = pp.learn("rsn2", tiny_features(2), slots=slots, groups=[["task0", "task1"]], **TINY)
    system.rename("task0", "first")
    assert system.config["groups"] == [["first", "task1"]]
    assert system.config["slots"] == network_of(system).config.slots == {"fc1": {"first": "a", "task1": "a"}}
    system.learn(tiny_features(1), threads=1, progress=False)  # another task0 has weights of its own
    paths = {name: path.steps[0] for name, path in system.network.paths().items()}
    assert paths == {"first": ("fc1.a",), "task1": ("fc1.a",), "task0": ("fc1.t2",)}


def test_groups_learn_stage_after_stage() -> None:
    system = pp.learn("rsn2", tiny_features(3), groups=[["task2", "task0"]], **TINY)
    assert [event.tasks for event in system.history] == [("task2", "task0"), ("task1",)]


def test_gradients_that_are_not_finite_are_named() -> None:
    suite = tiny_features(1)
    suite["task0"].train.source.values[0, 0] = float("inf")  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match=r"choosing weights for .*gradient of the summed loss is NaN or infinite"):
        pp.learn("rsn2", suite, init="normal", **{**TINY, "samples": 100})


def test_rescaling_gives_the_chosen_weights_the_variance_for_the_inputs_that_are_left() -> None:
    values = {}
    for rescale in (False, True):
        still = {**TINY, "rescale": rescale, "learning_rate": 1e-30}
        part = network_of(pp.learn("rsn2", tiny_features(1), **still)).part("fc1.t0")
        values[rescale] = part.values("0.weight").detach()
    # 24 of 80 weights on 10 units: 2.4 inputs a unit are left, so that the mean square is 2 / 2.4.
    torch.testing.assert_close(values[True].square().mean(), torch.tensor(2 / 2.4))
    torch.testing.assert_close(values[True] / values[True].norm(), values[False] / values[False].norm())


@pytest.mark.parametrize(("weight", "epochs"), [(1.0, 6), (0.0, 2)])
def test_the_loss_that_stops_is_weighted_like_the_one_that_is_minimised(
    monkeypatch: pytest.MonkeyPatch, weight: float, epochs: int
) -> None:
    """task0's validation loss rises, task1's falls twice as fast; only with the weight 0 nothing improves."""
    seen: dict[str, int] = {"task0": 0, "task1": 0}

    def score(self: object, network: object, data: TaskData, exit: str | None = None) -> dict[str, float]:
        seen[data.name] += 1
        return {"loss": seen[data.name] * (1.0 if data.name == "task0" else -2.0)}

    monkeypatch.setattr(Engine, "score", score)
    settings = {**TINY, "epochs": 6, "patience": 1, "min_delta": 0.0, "loss_weights": {"task1": weight}}
    pp.learn("rsn2", tiny_features(2), slots={"fc*": {"task0": "both", "task1": "both"}}, **settings)
    assert seen == {"task0": epochs, "task1": epochs}


def test_a_rate_that_falls_over_all_epochs_is_refused_where_they_are_not_counted() -> None:
    with pytest.raises(InvalidInput, match="time_decay=0.1: a Subnetworks does not count the epochs"):
        pp.learn("rsn2", tiny_features(1), time_decay=0.1, **TINY)


def test_trained_weights_are_not_rescaled() -> None:
    with pytest.raises(InvalidInput, match="rescale needs dense_epochs=0"):
        RSN2(rescale=True, dense_epochs=1)


def test_the_choice_is_exact_when_all_gradients_are_zero() -> None:
    config = {"backbone": {"kind": "mlp", "hidden": [10]}, "inputs": {"kind": "features", "size": 8}, "share": 0.5}
    network = Subnetworks(SubnetConfig.of(config))
    for data in tiny_features(2):
        network.add_task(data.task)
    mine = {name: network.own(name) for name in network.tasks}
    parts = [part for own in mine.values() for part in own]
    counts = {part: network.part(part).counts() for part in parts}
    for part in parts:
        network.widen(part, network.tasks["task0"], besides=parts)
    scores = {part: {e: torch.zeros(n) for e, n in network.part(part).counts().items()} for part in parts}
    found = chosen_positions(network, mine, counts, scores, "layer")
    assert found["fc1.t0"]["0.weight"].tolist() == list(range(40))
    assert found["fc1.t1"]["0.weight"].tolist() == list(range(40, 80))


def test_tasks_are_grouped_by_what_they_share() -> None:
    assert connected({"a": ["x"], "b": ["y"], "c": ["x", "z"], "d": ["z"]}) == [["b"], ["a", "c", "d"]]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.conv(x)).relu().mean((2, 3)))


OWN = {k: v for k, v in TINY.items() if k not in ("backbone", "threads", "progress")}


def test_a_module_of_ones_own_becomes_a_network_for_many_tasks(tmp_path: Path) -> None:
    with seeded(0, "values"):
        module = Small()
    suite = tiny_images(2)
    system = pp.learn(pp.subnetworks(module, name="small", **OWN), suite, threads=1, progress=False)
    network = network_of(system)
    assert set(network.space("body.t0").masked) == {"conv.weight", "out.weight"}
    # Every task starts from the module's own values.
    assert torch.equal(network.initial("body.t1", suite["task1"].task)[0]["out.weight"], module.out.weight)
    system.save(tmp_path / "s")
    assert pp.load(tmp_path / "s").verify().ok
    code = "import polypath as pp, sys; pp.load(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=False
    )
    assert "pass it: polypath.load(folder, modules={'small': module})" in done.stderr


def test_only_the_named_layers_are_shared() -> None:
    system = pp.learn(pp.subnetworks(Small, layers=["conv"], **OWN), tiny_images(2), threads=1, progress=False)
    assert set(network_of(system).space("body.t0").masked) == {"conv.weight"}
    assert network_of(system).space("body.t0").dense == (
        "conv.bias",
        "norm.weight",
        "norm.bias",
        "out.weight",
        "out.bias",
    )


def test_what_is_no_module_or_returns_no_features_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"torch.nn.Module, or a function .* received int"):
        pp.subnetworks(3)  # type: ignore[arg-type]
    with seeded(0, "values"):
        flat, linear = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Linear(2, 3)
    with pytest.raises(
        InvalidInput, match=r"features of shape \(n, f\) are required from n inputs, received \(2, 4, 6, 6\)"
    ):
        pp.learn(pp.subnetworks(flat, name="flat", **OWN), tiny_images(1), threads=1, progress=False)
    with pytest.raises(InvalidInput, match="another module of this process has that name"):
        pp.subnetworks(linear, name="flat")


def test_tied_weights_are_refused_unless_they_stay_dense() -> None:
    def tied() -> nn.Module:
        module = nn.Sequential(nn.Flatten(), nn.Linear(192, 192, bias=False), nn.Linear(192, 192, bias=False))
        module[2].weight = module[1].weight
        return module

    with pytest.raises(InvalidInput, match="1.weight and 2.weight are one tied weight"):
        pp.learn(pp.subnetworks(tied, **OWN), tiny_images(1), threads=1, progress=False)


def test_a_missing_module_is_a_store_error() -> None:
    from polypath.core.task import Features
    from polypath.nn.backbones import backbone

    with pytest.raises(StoreError, match="'nobody', which this process does not know"):
        backbone({"kind": "own", "name": "nobody"}, Features(size=2))


def test_the_default_backbone_is_a_description_like_any_other() -> None:
    assert RSN2().config.backbone == RSN2(backbone={"kind": "mlp"}).config.backbone
