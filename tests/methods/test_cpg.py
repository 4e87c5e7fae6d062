from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.core.task import Regression
from polypath.methods import cpg
from polypath.methods.gradual import Pruning
from polypath.nn.subnet import Subnetworks
from polypath.system import System
from polypath.testing import tiny_features, tiny_images

TINY: dict[str, Any] = {
    "backbone": {"kind": "mlp", "hidden": [8]},
    "goal": 0.0,
    "max_width": 1.0,
    "epochs": 1,
    "prune_epochs": 1,
    "sparsities": (0.5, 0.8),
    "batch": 8,
    "threads": 1,
    "progress": False,
}
STILL = {"learning_rate": 1e-30, "prune_rate": 1e-30, "mask_rate": 1e-30, "weight_decay": 0.0}


def learn(tasks: int = 2, **settings: Any) -> System:
    return pp.learn("cpg", tiny_features(tasks), **{**TINY, **settings})


def network_of(system: System) -> Subnetworks:
    assert isinstance(system.network, Subnetworks)
    return system.network


def scripted(scores: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation scores in the order in which they are asked for."""
    left = iter(scores)

    def score(self: cpg.Learner) -> float:
        self._choose()
        return next(left)

    monkeypatch.setattr(cpg.Learner, "_score", score)


def test_the_smallest_weights_are_given_back_while_the_goal_is_met() -> None:
    network = network_of(learn(1, **STILL))
    values = network.initial("fc1.t0", network.tasks["task0"])[0]["0.weight"].flatten()
    largest = sorted(values.abs().argsort(descending=True)[: 64 - 51].tolist())  # round(0.8 x 64) = 51 went
    assert network.part("fc1.t0").positions("0.weight").tolist() == largest
    assert torch.equal(network.part("fc1.t0").values("0.weight").detach(), values[largest])


def test_the_highest_sparsity_that_meets_the_goal_is_kept_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    plain = cpg.Learner._state
    monkeypatch.setattr(cpg.Learner, "_state", lambda self: states.append(plain(self)) or states[-1])
    scripted([0.9, 0.85, 0.8, 0.79, 0.99], monkeypatch)
    settings = {"sparsities": (0.25, 0.5, 0.75, 0.9), "goal": 0.8, "learning_rate": 0.1, "prune_rate": 0.1}
    network = network_of(learn(1, **settings))
    assert network.part("fc1.t0").counts() == {"0.weight": 32}  # 0.75 missed it; 0.9 was not tried
    assert len(states) == 3  # trained, 0.25, 0.5
    for part, held in network.tensors(["fc1.t0", "head@t0.t0"]).items():
        for local, tensor in held.items():
            assert torch.equal(tensor, states[-1][part][local]), (part, local)


@pytest.mark.parametrize(
    ("missed", "scores", "kept"),
    [("lower", [0.7, 0.7, 0.69], 32), ("keep", [0.7], 64)],
)
def test_a_goal_that_training_misses(
    missed: str, scores: list[float], kept: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scripted(scores, monkeypatch)
    network = network_of(learn(1, missed=missed, goal=0.8))
    assert network.part("fc1.t0").counts() == {"0.weight": kept}
    assert "task 'task0' reached 0.7 on validation, its goal is 0.8" in caplog.text


def test_a_missed_goal_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted([0.7], monkeypatch)
    with pytest.raises(InvalidInput, match="at 1 times the backbone's width; set a larger max_width"):
        learn(1, missed="refuse", goal=0.8)


def test_the_network_grows_when_nothing_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 units become 12: the first task keeps all of its 8 x 8 weights, so that the second begins with 12 x 8."""
    scripted([0.9, 0.7, 0.9, 0.7], monkeypatch)  # trained and pruned, for each of them
    system = learn(2, goal=0.8, max_width=1.5, sparsities=(0.5,))
    network = network_of(system)
    first, second = (network.part(f"fc1.{owner}") for owner in ("t0", "t1"))
    assert network.space("fc1.t0").masked == {"0.weight": (12, 8)}
    assert first.positions("0.weight").tolist() == list(range(64))  # pruning missed the goal: all of the first width
    assert second.positions("0.weight").tolist() == list(range(64, 96))
    heads = [network.part(f"head@{owner}.{owner}").positions("weight") for owner in ("t0", "t1")]
    assert heads[0].tolist() == [*range(8), *range(12, 20)] and heads[1].tolist() == list(range(24))
    plain = [layer for layer in system.extract("task0").modules() if isinstance(layer, torch.nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in plain] == [(8, 8), (2, 8)]  # an ordinary network of the first width


def test_growing_changes_nothing_of_earlier_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = tiny_features(2)
    settings = {**TINY, "max_width": 2.0, "width_step": 0.5, "learning_rate": 0.1}
    system = pp.learn("cpg", Suite("own", suite.tasks[:1]), **settings)
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    before = system.network.digests(), system.extract("task0", fused=False)(inputs)
    scripted([0.1, 0.1, 0.9, 0.9, 0.9], monkeypatch)
    system.learn(suite["task1"], goal=0.8, threads=1, progress=False)
    after = system.network.digests()
    assert all(after[name] == sha for name, sha in before[0].items())
    assert torch.equal(system.extract("task0", fused=False)(inputs), before[1])
    grown = network_of(system).part("fc1.t1")
    assert int(grown.positions("0.weight").max()) >= 12 * 8  # beyond 1.5 times 8 units


def test_a_later_task_may_use_the_width_that_earlier_ones_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted([0.1, *[0.9] * 6], monkeypatch)
    network = network_of(learn(2, goal=0.8, max_width=1.5, sparsities=(0.5, 0.6)))
    assert network.part("fc1.t0").counts()["0.weight"] == 96 - 58  # 0.6 of the wider layer went
    assert network.part("fc1.t1").counts()["0.weight"] == 58 - 35  # and 0.6 of what was free


GROWING: dict[str, Any] = {
    "mlp": {"kind": "mlp", "hidden": [8]},
    "conv": {"kind": "conv", "blocks": [[4, 6], [8]], "dense": [10], "norm": "batch"},
    "resnet18": {"kind": "resnet18", "width": 0.125},
}


@pytest.mark.parametrize("kind", GROWING)
def test_a_task_is_extracted_and_counted_at_its_own_width(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first task stays at the backbone's width; the second grows to 1.5 times it."""
    suite = tiny_features(2) if kind == "mlp" else tiny_images(2, size=32)
    scripted([0.9, 0.9, 0.1, 0.9, 0.9, *[0.9] * 4], monkeypatch)
    settings = {**TINY, "backbone": GROWING[kind], "goal": 0.8, "sparsities": (0.5,)}
    system = pp.learn("cpg", suite, **{**settings, "max_width": 1.5})
    never = pp.learn("cpg", suite, **settings)
    system.save(tmp_path)
    for again in (system, pp.load(tmp_path)):
        assert again.cost("task0").flops == never.cost("task0").flops < again.cost("task1").flops
        if kind == "mlp":  # 8 x 8 and 2 x 8 weights, 12 x 8 and 2 x 12
            assert (again.cost("task0").flops, again.cost("task1").flops) == (160, 240)
        for item in suite:
            inputs = item.task.preprocess.encode(item.train.inputs(slice(0, 4)))
            with torch.no_grad():
                fused, plain = again.extract(item.name)(inputs), again.extract(item.name, fused=False)(inputs)
            torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)  # float32 sums in another order
    if kind == "resnet18":  # of chains dead units go as well
        sizes = [sum(map(torch.Tensor.numel, one.extract("task0").parameters())) for one in (system, never)]
        assert sizes[0] == sizes[1]


def test_a_task_with_other_inputs_is_extracted_at_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = tiny_features(2), tiny_features(1, columns=5).tasks[0]
    other = replace(narrow, task=narrow.task.renamed("narrow"))
    scripted([0.9] * 6, monkeypatch)
    settings = {**TINY, "goal": 0.8, "sparsities": (0.5,), "max_width": 2.0, "width_step": 1.0}
    system = pp.learn("cpg", Suite("mixed", (*wide, other)), **settings)
    assert system.cost("narrow").flops == 2 * (8 * 5 + 2 * 8)
    inputs = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            system.extract("narrow")(inputs), system.extract("narrow", fused=False)(inputs), rtol=1e-4, atol=1e-5
        )


def test_a_goal_missed_at_one_width_is_tried_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted([0.1, 0.9, 0.9], monkeypatch)
    network = network_of(learn(1, missed="keep", goal=0.8, max_width=1.5, width_step=0.5, sparsities=(0.5,)))
    assert network.part("fc1.t0").counts() == {"0.weight": 48}


def test_a_task_for_which_nothing_is_left_is_refused_with_who_holds_what(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted([0.7], monkeypatch)
    with pytest.raises(InvalidInput, match="task 'task1'.*of its 64 weights 0 are free.*held: 64 of task0"):
        learn(2, missed="keep", goal=0.8)


def test_the_goal_can_be_that_of_a_single_network(tmp_path: Path) -> None:
    learn(1, goal="single", epochs=2, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    alone = [line["values"]["accuracy"] for line in lines if line.get("task") == "task0 (single)"]
    own = [line["values"]["accuracy"] for line in lines if line.get("task") == "task0" and line.get("split") == "val"]
    asked = [line["goal"] for line in lines if "goal" in line]
    assert len(alone) == 1 and asked
    assert set(asked) == {min(alone[0], own[0])}  # lowered where training does not reach it
    # Two epochs of the single network, two of training, then one a sparsity step: counted on
    trained = [line["epoch"] for line in lines if "loss" in line]
    assert trained == list(range(len(trained)))


def test_weight_decay_is_for_own_shared_weights_and_masks_have_an_adam_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    plain = cpg.train

    def spy(*arguments: Any, **values: Any) -> None:
        plain(*arguments, **values)
        seen.append([(type(o).__name__, o.param_groups) for o in values["optimizers"][values["groups"][0][0]]])

    monkeypatch.setattr(cpg, "train", spy)
    learn(2, weight_decay=0.3, learning_rate=0.1, prune_rate=0.2, mask_rate=0.05, sparsities=(0.5,))
    first, pruned, second, _ = seen
    shapes = [[[tuple(p.shape) for p in group["params"]] for group in groups] for _, groups in second]
    assert [name for name, _ in first] == ["SGD"]  # nothing to choose from
    assert [name for name, _ in second] == ["SGD", "Adam"]
    assert shapes == [[[(32,)], [(8,), (16,), (2,)]], [[(32,)]]]
    decays = [[group["weight_decay"] for group in groups] for _, groups in second]
    assert decays == [[0.3, 0.0], [0]]
    assert [[group["lr"] for group in groups] for _, groups in second] == [[0.1, 0.1], [0.05]]
    assert [group["lr"] for group in pruned[0][1]] == [0.2, 0.2]


def test_a_task_uses_the_older_weights_that_its_mask_picked() -> None:
    system = learn(2, mask_rate=3e-3, epochs=3, learning_rate=0.1)
    network = network_of(system)
    old, new = network.part("fc1.t0"), network.part("fc1.t1")
    picked = new.picked("0.weight")
    assert 0 < len(picked) < len(old.positions("0.weight"))
    assert torch.isin(picked, old.positions("0.weight")).all()
    assert network.path("task1").selected == (("fc1.t0", len(picked)),)
    weight = torch.zeros(64).scatter(0, old.positions("0.weight"), old.values("0.weight").detach())
    weight = torch.zeros(64).scatter(0, picked, weight[picked])
    weight = weight.scatter(0, new.positions("0.weight"), new.values("0.weight").detach()).view(8, 8)
    head = network.part("head@t1.t1")
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    hidden = torch.relu(inputs @ weight.T + new.own["0-bias"])
    expected = hidden @ head.values("weight").view(2, 8).T + head.own["bias"]
    torch.testing.assert_close(system.extract("task1")(inputs), expected)
    # own weights and picked ones, 8 biases, the head
    assert system.cost("task1").parameters == new.counts()["0.weight"] + len(picked) + 8 + 18
    assert not network._values._soft.get(new)  # the real mask is gone


def test_owners_of_which_nothing_was_picked_are_not_on_the_path() -> None:
    system = learn(2, mask_init=0.0, mask_rate=1e-30)
    assert network_of(system).path("task1").steps == (("fc1.t1",), ("head@t1.t1",))
    assert system.remove("task0").removed == ("task0",)  # nobody builds on it


def test_pruned_weights_stay_zero_and_are_never_fewer() -> None:
    class Held:
        def __init__(self) -> None:
            self.values_ = torch.nn.Parameter(torch.tensor([4.0, -1.0, 3.0, -2.0, 5.0]))

        def values(self, entry: str) -> torch.nn.Parameter:
            return self.values_

    held = Held()
    network: Any = SimpleNamespace(part=lambda name: held)
    sizes = {("fc1.t0", "w"): 10}  # five of ten were given back in the step before
    pruning = Pruning(network, sizes, 2, 0.5, 0.8, 4)
    pruning()
    assert held.values_.tolist() == [4.0, -1.0, 3.0, -2.0, 5.0]
    pruning()  # halfway: 0.8 - 0.3 / 8 = 0.7625, so 8 of 10
    assert held.values_.tolist() == [4.0, 0.0, 0.0, 0.0, 5.0]
    with torch.no_grad():
        held.values_.add_(10.0)
    pruning()
    assert held.values_.tolist() == [14.0, 0.0, 0.0, 0.0, 15.0]
    pruning.at(1.0)
    assert int(pruning.pruned["fc1-t0/w"].sum()) == 3


def test_errors_meet_a_goal_from_below() -> None:
    task = tiny_features(1).tasks[0].task
    scores = [task, task.changed(target=Regression(mean=(0.0,), std=(1.0,)))]
    met = [cpg.Learner._meets(SimpleNamespace(item=SimpleNamespace(task=t)), 0.1, 0.2) for t in scores]  # type: ignore[arg-type]
    assert met == [False, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_width": 0.5}, "max_width"),
        (
            {"max_width": 2, "backbone": "transformer"},
            "max_width: layers of a 'transformer' backbone cannot be widened",
        ),
        ({"sparsities": (0.5, 0.4)}, "each larger than the one before; received \\[0.5, 0.4\\]"),
        ({"sparsities": (0.5, 1.0)}, "between 0 and 1"),
        ({"patience": 3}, "patience and evaluate_every must be 0"),
        ({"goal": {"task0": 0.5}}, "goal: none for task 'task1' and no 'default'"),
        ({"goal": "best"}, "goal"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        learn(**settings)


def test_a_goal_of_a_task_that_may_come_later_is_told(caplog: pytest.LogCaptureFixture) -> None:
    learn(goal={"default": 0.0, "tusk1": 0.5})
    assert caplog.text.count("goal: 'tusk1' is none of the tasks ['task0', 'task1']") == 1


def test_without_validation_examples_there_is_nothing_to_judge_by() -> None:
    from dataclasses import replace

    suite = tiny_features(1)
    bare = replace(suite, tasks=tuple(replace(item, val=None) for item in suite))
    with pytest.raises(InvalidInput, match="has no validation split"):
        pp.learn("cpg", bare, **TINY)
