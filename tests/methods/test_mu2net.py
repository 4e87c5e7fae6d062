"""mu2Net: what a child learns from whom, what stays untouched, what is private, what a killed run loses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.examples import Cutout, PadCrop, Suite
from polypath.methods import mu2net, offspring
from polypath.methods.jobs import Job, Shared, Source, steps_of, validation_rows
from polypath.methods.mu2net import Mu2Net, Mu2NetConfig
from polypath.methods.offspring import Schedule, train_child
from polypath.nn.evolved import ROOT
from polypath.nn.layered import Layered
from polypath.nn.lineage import lineage
from polypath.nn.roots import described_root, layer_of
from polypath.search import Gene
from polypath.search.hyperparameters import defaults, merged
from polypath.system import System
from polypath.testing import tiny_features, tiny_images

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
MLP: dict[str, Any] = {"kind": "mlp", "hidden": [6, 5]}
TINY: dict[str, Any] = {
    "root": MLP,
    "iterations": 1,
    "generations": 2,
    "children": 3,
    "cycles": 2,
    "batch": 5,
    "hyperparameters": {"mu": [0.5], "learning_rate": [0.02, 0.05, 0.1]},
}


def learned(suite: Suite | None = None, **changes: Any) -> System:
    return pp.learn("mu2net", tiny_features(3) if suite is None else suite, **{**RUN, **TINY, **changes})


def private(suite: Suite, **groups: str) -> Suite:
    """The suite with some tasks private to groups."""
    made = [replace(d, task=d.task.changed(private_to=groups.get(d.name))) for d in suite]
    return replace(suite, tasks=tuple(made))


def net(system: System) -> Layered:
    assert isinstance(system.network, Layered)
    return system.network


# ---- one child ----------------------------------------------------------------------------------------------------


def shared_of(root: dict[str, Any] = MLP, **changes: Any) -> Shared:
    """The first task of tiny_features and a root with values, as sources `fc1.0`, `fc2.1` and a head `head.2`."""
    data = tiny_features(1).tasks[0]
    plain = described_root(root)
    sources = {}
    for slot, name in (("fc1", "fc1.0"), ("fc2", "fc2.1"), ("head", "head.2")):
        outputs = 2 if slot == "head" else None
        shapes = layer_of(plain, data.task.inputs, slot, outputs).state_dict()
        stream = torch.Generator().manual_seed(len(sources))
        tensors = {key: torch.randn(value.shape, generator=stream) / 2 for key, value in shapes.items()}
        sources[name] = Source(slot, outputs, tensors)
    given = {"cycles": 1, "samples": 100, "batch": 4, "accumulator": "float32", **changes}
    assert data.val is not None
    return Shared(plain, data.task.inputs, data, torch.arange(len(data.val)), given.pop("sources", sources), **given)


def job(*actions: str, threshold: float | None = None, **settings: Any) -> Job:
    """fc1, fc2 and head shared, cloned or new."""
    names = {"fc1": "fc1.0", "fc2": "fc2.1", "head": "head.2"}
    genes = [
        Gene(slot, action, None if action == "new" else names[slot])  # type: ignore[arg-type]
        for slot, action in zip(names, actions, strict=True)
    ]
    hyper = {**defaults(merged({})), **settings}
    return Job(1, 5, tuple(genes), hyper, threshold)


def test_a_child_is_plain_sgd_with_clipping_schedule_and_inherited_momentum() -> None:
    """Written out with autograd: fc2 and head move, fc1 does not; the trace begins where the parent's ended."""
    given = shared_of()
    trace = {"weight": torch.full((2, 5), 0.3), "bias": torch.full((2,), -0.2)}
    sources = {**given.sources, "head.2": replace(given.sources["head.2"], momentum=trace)}
    given = replace(given, sources=sources)
    found = train_child(given, job("share", "clone", "clone", learning_rate=0.5, momentum=0.9, warmup=0.4))
    weights = {n: {k: v.clone() for k, v in s.tensors.items()} for n, s in given.sources.items()}
    moving = [*weights["fc2.1"].values(), *weights["head.2"].values()]
    traces = [torch.zeros_like(v) for v in weights["fc2.1"].values()] + [v.clone() for v in trace.values()]
    order = torch.randperm(10, generator=offspring.generator(5, "order", 0))
    steps = [order[0:4], order[4:8], order[8:10]]
    rates = [0.005, 0.5, 0.25]  # warm-up of int(0.4 * 3) = 1 step from a hundredth, then half a cosine over two steps
    for rows, rate in zip(steps, rates, strict=True):
        for value in moving:
            value.requires_grad_(True)
        x = given.data.train.inputs(rows)
        x = torch.relu(functional.linear(x, weights["fc1.0"]["0.weight"], weights["fc1.0"]["0.bias"]))
        x = torch.relu(functional.linear(x, weights["fc2.1"]["0.weight"], weights["fc2.1"]["0.bias"]))
        out = functional.linear(x, weights["head.2"]["weight"], weights["head.2"]["bias"])
        grads = torch.autograd.grad(functional.cross_entropy(out, given.data.train.targets[rows]), moving)
        size = float(torch.cat([g.flatten() for g in grads]).norm())
        with torch.no_grad():
            for value, grad, old in zip(moving, grads, traces, strict=True):
                old.mul_(0.9).add_(grad * min(1.0, 1.0 / size))
                value.sub_(rate * old)
        for value in moving:
            value.requires_grad_(False)
    assert set(found["tensors"]) == {"fc2", "head"} and found["steps"] == 3
    torch.testing.assert_close(found["tensors"]["fc2"]["0.weight"], weights["fc2.1"]["0.weight"])
    torch.testing.assert_close(found["tensors"]["head"]["bias"], weights["head.2"]["bias"])
    torch.testing.assert_close(found["momentum"]["head"]["weight"], traces[2])
    before = shared_of().sources
    for name, source in given.sources.items():
        assert all(torch.equal(value, before[name].tensors[key]) for key, value in source.tensors.items())


def test_nesterov_without_momentum_is_plain_sgd() -> None:
    """A search that lists both may draw them together."""
    kinds = [job("clone", "clone", "clone", momentum=0.0, nesterov=nesterov) for nesterov in (False, True)]
    plain, found = (train_child(shared_of(), kind)["tensors"] for kind in kinds)
    assert all(torch.equal(value, found[slot][key]) for slot, held in plain.items() for key, value in held.items())


def test_a_suite_s_augmentation_comes_before_the_settings_that_evolve() -> None:
    """One square of the mean colour over everything leaves nothing of an image; crop and flip act on what is left."""
    images = tiny_images(1, per_class=16)
    blank = replace(images, tasks=tuple(replace(d, augment=(Cutout(size=99),)) for d in images))
    scores = [learned(suite, cycles=6).network.model_of("task0").score for suite in (images, blank)]
    assert scores == [1.0, 0.5]
    varied = replace(images, tasks=tuple(replace(d, augment=(PadCrop(padding=2),)) for d in images))
    still = {"hyperparameters": {**TINY["hyperparameters"], "crop": [False], "flip": [False]}}
    plain, one, again = (learned(suite, **still).network.digests() for suite in (images, varied, varied))
    assert plain != one == again


def test_momentum_is_kept_in_bfloat16_as_the_authors_do() -> None:
    rounded = train_child(shared_of(accumulator="bfloat16"), job("share", "clone", "new"))
    plain = train_child(shared_of(), job("share", "clone", "new"))
    assert rounded["momentum"]["head"]["weight"].dtype == torch.bfloat16
    assert not torch.equal(rounded["tensors"]["fc2"]["0.weight"], plain["tensors"]["fc2"]["0.weight"])
    torch.testing.assert_close(
        rounded["tensors"]["fc2"]["0.weight"], plain["tensors"]["fc2"]["0.weight"], atol=1e-3, rtol=0
    )


def test_the_same_job_gives_the_same_answer_whatever_the_global_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_child(shared_of(), job("clone", "clone", "new"))
    with torch.random.fork_rng(devices=[]):
        torch.rand(7)
        again = train_child(shared_of(), job("clone", "clone", "new"))
    for slot, tensors in first["tensors"].items():
        assert all(torch.equal(value, again["tensors"][slot][key]) for key, value in tensors.items())
    assert {**first, "seconds": 0, "tensors": 0, "momentum": 0} == {**again, "seconds": 0, "tensors": 0, "momentum": 0}


def test_frozen_layers_keep_no_gradients_and_the_backward_pass_stops_at_the_lowest_trained() -> None:
    child = offspring.Offspring(shared_of(), job("share", "share", "clone"))
    (batch, *_) = child.feed(0)
    assert batch.inputs.shape == (4, 5) and not batch.inputs.requires_grad and batch.inputs.grad_fn is None
    held = [p for group in child.optimizer.param_groups for p in group["params"]]
    assert [p.shape for p in held] == [(2, 5), (2,)]
    assert not any(p.requires_grad for layer in child.layers[:2] for p in layer.parameters())
    through = offspring.Offspring(shared_of(), job("clone", "share", "clone"))
    (batch, *_) = through.feed(0)
    through.trained_outputs(batch.inputs).sum().backward()
    assert all(p.grad is not None for p in through.layers[0].parameters())  # gradients pass the frozen layer
    assert all(p.grad is None for p in through.layers[1].parameters())


def qualities(monkeypatch: pytest.MonkeyPatch, values: list[float], threshold: float | None) -> dict[str, Any]:
    """A child of four cycles whose validations are given."""
    left = iter(values)
    monkeypatch.setattr(offspring.Offspring, "quality", lambda self: next(left))
    return train_child(shared_of(cycles=4), job("share", "share", "new", threshold=threshold))


def test_the_best_state_is_kept_the_latest_of_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    found = qualities(monkeypatch, [0.2, 0.7, 0.7, 0.5], None)
    assert (found["score"], found["kept"], found["steps"], found["all_steps"]) == (0.7, 2, 9, 12)


def test_a_child_must_reach_its_parent_and_equal_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert qualities(monkeypatch, [0.2, 0.7, 0.6, 0.5], 0.7)["kept"] == 1
    below = qualities(monkeypatch, [0.2, 0.69, 0.6, 0.5], 0.7)
    assert below["score"] is None and below["tensors"] == {} and below["steps"] == 0


def test_outputs_that_are_not_finite_never_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = qualities(monkeypatch, [float("nan"), 0.1, float("nan"), float("nan")], None)
    assert found["kept"] == 1 and found["quality"] == [None, 0.1, None, None]
    json.dumps(found["quality"], allow_nan=False)


def test_a_head_of_another_number_of_classes_cannot_be_cloned() -> None:
    given = shared_of()
    sources = {**given.sources, "head.2": replace(given.sources["head.2"], outputs=7)}
    with pytest.raises(InvalidInput, match="has 2 outputs, but the head 'head.2' was made for 7"):
        train_child(replace(given, sources=sources), job("share", "share", "clone"))


def test_new_heads_begin_at_zero_or_are_drawn() -> None:
    zero = offspring.Offspring(shared_of(), job("share", "share", "new")).layers[-1]
    drawn = offspring.Offspring(shared_of(random_head=True), job("share", "share", "new")).layers[-1]
    assert isinstance(zero, nn.Linear) and not zero.weight.any() and not zero.bias.any()
    assert isinstance(drawn, nn.Linear) and drawn.weight.any()


def test_the_schedule_warms_up_from_a_hundredth_and_falls_to_nothing() -> None:
    plan = Schedule({"learning_rate": 1.0, "warmup": 0.2}, 10)
    assert [plan.rate(step) for step in range(4)] == pytest.approx([0.01, 0.505, 1.0, 0.5 * (1 + 0.9238795325)])
    assert plan.rate(10) == pytest.approx(0)
    assert Schedule({"learning_rate": 1.0, "warmup": 0.01}, 10).rate(0) == 1.0


def test_cycles_are_one_pass_or_less() -> None:
    assert [steps_of(10, 100, 4), steps_of(10, 6, 4), steps_of(9, 100, 4)] == [3, 2, 2]  # a last one of one joins
    assert validation_rows(4, 9).tolist() == [0, 1, 2, 3]
    assert len(set(validation_rows(100, 9, 1).tolist())) == 9


# ---- systems ------------------------------------------------------------------------------------------------------


def test_iterations_never_lower_a_score_and_never_touch_other_tasks() -> None:
    system = learned(tiny_features(2), iterations=2)
    found = [(event.stage, event.tasks) for event in system.history]
    assert found == [(0, ("task0",)), (1, ("task1",)), (2, ("task0",)), (3, ("task1",))]
    shorter = learned(tiny_features(2))
    for task in system.tasks:
        again, before = net(system).model_of(task).score, net(shorter).model_of(task).score
        assert again is not None and before is not None and again >= before
    assert all(score.drift in (None, 0) for score in system.verify().tasks.values())


def test_growing_leaves_every_retained_layer_as_it_is() -> None:
    system = learned(tiny_features(2))
    before = system.network.digests()
    paths = system.network.paths()
    system.learn(tiny_features(3).tasks[2], **RUN)
    after = system.network.digests()
    assert all(after[name] == sha for name, sha in before.items())
    assert all(system.network.path(task) == path for task, path in paths.items())
    model = net(system).model_of("task2")
    assert model.parent in net(system).models and model.facts["trained"]["task2"] > 0


def test_no_retained_layer_moves_in_any_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of everything that a stage holds before and after each generation of all stages."""
    right, seen = mu2net.Search.generation, []

    def watched(self: mu2net.Search, *, log: bool) -> None:
        before = self.network.digests(self.network.built())
        right(self, log=log)
        assert self.network.digests(before) == before
        seen.append(len(self.network.components()))

    monkeypatch.setattr(mu2net.Search, "generation", watched)
    system = learned(tiny_features(2), iterations=2)
    assert len(seen) == 2 * 2 * 2 and seen[-1] > seen[0]
    assert system.result.timing.samples == sum((10 + k) * 2 * 3 * 2 for k in (0, 1)) * 2


def test_selections_and_ids_survive_saving(tmp_path: Path) -> None:
    system = learned(tiny_features(2))
    system.save(tmp_path / "s")
    again = pp.load(tmp_path / "s")
    assert net(again).models == net(system).models
    assert net(again).selected("task0")[ROOT] >= 1
    for task in system.tasks:
        assert net(again).selected(task) == net(system).selected(task)


def test_what_is_private_reaches_nobody_outside_also_after_a_reload(tmp_path: Path) -> None:
    """task0 is private to a clinic, task1 is public, task2 is the clinic's again; then another public one comes."""
    suite = private(tiny_features(4), task0="clinic", task2="clinic")
    system = learned(suite.only(["task0", "task1", "task2"]), iterations=2, generations=3)
    system.save(tmp_path / "s")
    again = pp.load(tmp_path / "s")
    again.learn(suite.tasks[3], **RUN)
    network = net(again)
    for task in ("task1", "task3"):
        found = lineage(network, task)
        assert set(found.shares) <= {"task1", "task3"}
        assert again.access(task) == frozenset()
        assert network.model_of(task).groups == ()
        assert all(network.models[number].task in (None, "task1", "task3") for number in found.ancestors)
    assert network.model_of("task0").groups == network.model_of("task2").groups == ("clinic",)
    assert all(held.keys() <= {"task0", "task1", "task2", "task3"} for held in again.sources.values())


def test_a_task_that_others_build_on_goes_only_with_them() -> None:
    # Parents are drawn: the first seed whose search kept something of task0 for task1.
    tried = (learned(tiny_features(2), seed=seed, clone=0.2, hyperparameters={"mu": [0.2]}) for seed in range(12))
    system = next(system for system in tried if "task0" in lineage(net(system), "task1").shares)
    with pytest.raises(InvalidInput, match=r"'task0' cannot be removed: \['task1'\] build on it"):
        system.remove("task0")
    removal = system.remove("task0", cascade=True)
    assert removal.removed == ("task0", "task1") and removal.residue == ()
    assert all(record.root for record in net(system).records.values())


def test_without_validation_examples_nothing_can_be_selected() -> None:
    bare = [replace(data, val=None) for data in tiny_features(1)]
    with pytest.raises(InvalidInput, match="no validation split, but evolution selects by validation"):
        learned(Suite("bare", tuple(bare)))


def test_a_search_whose_children_all_diverge_says_so() -> None:
    suite = tiny_features(1)
    data = suite.tasks[0]
    values = torch.full((len(data.train), 8), 3e38)
    broken = replace(data, train=replace(data.train, source=replace(data.train.source, values=values)))
    with pytest.raises(InvalidInput, match="every child became NaN or infinite.*NaN in the inputs"):
        learned(Suite("broken", (broken,)), hyperparameters={"learning_rate": [0.5]}, clip=0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hyperparameters": {"mu": [0.1, 1.5]}}, r"mu: probabilities in \[0, 1\]"),
        ({"hyperparameters": {"learning_rate": []}}, "at least one is required"),
        ({"hyperparameters": {"momentum": [0.9, 0.5]}}, "ascending"),
        ({"hyperparameters": {"num_layers": [0, 1]}, "root": MLP}, "blocks can be inserted into a root of kind 'vit'"),
        ({"root": {"kind": "timm", "name": "resnet18"}}, "layers cannot be enumerated"),
        ({"clone": 1.5}, "method.clone"),
        ({"score": {"latency": {"base": 0.9}}}, "score.latency: unit is required"),
    ],
)
def test_settings_that_cannot_be_searched_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Mu2Net(**settings)


@pytest.mark.parametrize("passes", [1, 3, 7, 33, 200, 1000])
def test_a_budget_of_passes_is_kept_and_mostly_used(passes: int) -> None:
    found = Mu2Net().paced(passes, 3)
    spent = found["cycles"] * found["children"] * found["iterations"] * found["generations"]
    assert passes / 2 < spent <= passes and found["cycles"] == min(4, passes)


def test_the_configuration_survives_its_json() -> None:
    config = Mu2NetConfig.of({"hyperparameters": {"num_layers": [0, 1]}, "score": {"parameters": {"base": 0.9}}})
    assert Mu2NetConfig.of(json.loads(json.dumps(config.model_dump(mode="json")))) == config


VIT: dict[str, Any] = {
    "kind": "vit",
    "name": "vit_tiny_patch16_224",
    "depth": 0,
    "options": {"patch_size": 4, "embed_dim": 8, "num_heads": 2},
}


def test_models_without_blocks_win_where_operations_count() -> None:
    """Each block costs more than any accuracy can bring; the first child of the root has none."""
    settings = {"root": VIT, "hyperparameters": {"mu": [0.9], "num_layers": [0, 1]}, "generations": 1, "children": 6}
    lean = learned(tiny_images(1, size=8), **settings, score={"flops": {"base": 0.01}})
    assert [name.partition(".")[0] for name in lean.network.path("task0").components] == [
        "embedding",
        "cls",
        "posembed_input",
        "encoder_norm",
        "head",
    ]


def test_a_list_of_depths_that_would_cut_every_child_is_refused() -> None:
    suite, root = tiny_images(1, size=8), {**VIT, "depth": 2}
    short = {"root": root, "hyperparameters": {"mu": [0.0], "num_layers": [0, 1]}, "generations": 1}
    with pytest.raises(InvalidInput, match="the root has 2 blocks, .*ends with 1 would cut 1 off .*list 2, too"):
        learned(suite, **short)
    for listed in ([0, 2], [3]):
        found = learned(suite, **{**short, "hyperparameters": {"mu": [0.0], "num_layers": listed}})
        blocks = [name for name in found.network.path("task0").components if name.startswith("encoderblock_")]
        assert len(blocks) == listed[-1]


KILLED = """
import os, signal, sys
import polypath as pp
from polypath.methods import mu2net, offspring
from polypath.testing import tiny_features
count, right = 0, offspring.train_child
def dying(shared, job):
    global count
    count += 1
    if count > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return right(shared, job)
mu2net.train_child = dying
pp.learn("mu2net", tiny_features(2), out=sys.argv[1], resume=True, **eval(sys.argv[3]))
"""


def test_a_run_killed_in_the_middle_of_a_generation_ends_as_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the fifth child, the second of the second generation: four are on disk and not trained again."""
    settings = repr({**RUN, **TINY})
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run"), "4", settings], check=False)
    assert done.returncode == -signal.SIGKILL
    kept = {path.name for path in (tmp_path / "run" / "checkpoint").iterdir()}
    children = {f"stage-000-generation-{name}.safetensors" for name in ("0-0", "0-1", "0-2", "1-0")}
    assert kept == {*children, "stage-000-0.safetensors"}
    trained: list[int] = []
    right = mu2net.train_child

    def counted(shared: Shared, job: Job) -> dict[str, Any]:
        trained.append(job.number)
        return right(shared, job)

    monkeypatch.setattr(mu2net, "train_child", counted)
    resumed = pp.learn("mu2net", tiny_features(2), out=tmp_path / "run", resume=True, **RUN, **TINY)
    assert len(trained) == 2 + 6  # of the first stage and of the second
    whole = learned(tiny_features(2))
    assert resumed.network.plan() == whole.network.plan()
    assert resumed.network.digests() == whole.network.digests()
    assert not (tmp_path / "run" / "checkpoint").exists()
