"""Multi-Path's loop: one step of all tasks, teachers, branches, inputs read once (specification, 3.3 and 3.4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import polypath as pp
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Batch, Examples, Sealed, Suite, TaskData
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification
from polypath.methods import teachers
from polypath.methods.assignment import spread
from polypath.methods.multipath import MultiPath, MultiPathConfig
from polypath.methods.together import apart, joined, share_inputs
from polypath.nn.multipath import MultiPathNet
from polypath.ops.distillation import softmax_divergence
from polypath.recipes.experiment import Experiment, Variant, planned
from polypath.testing import tiny_features, tiny_images
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
CONV = {"kind": "conv", "blocks": [[4, 4], [4]], "dense": [6], "norm": "batch"}
TINY: dict[str, Any] = {"backbone": CONV, "epochs": 1, "batch": 8, "learning_rate": 0.05, "decay_at": []}


def engine(seed: int = 0) -> Engine:
    return Engine(seed=seed, config=RunConfig(device="cpu", precision="32-true", threads=1), progress=False)


def built(suite: Suite, **settings: Any) -> tuple[MultiPath, MultiPathNet, Engine]:
    method, run = MultiPath(**{**TINY, **settings}), engine()
    network = method.build([item.task for item in suite], run)
    for item in suite:
        method.admit(network, item.task)
    return method, network, run


def labelled(counts: tuple[int, ...] = (2, 4, 8), per_class: int = 4) -> Suite:
    """Tasks that label the same images: the finest labels, and coarser and coarser groups of them."""
    (base,) = tiny_images(1, classes=max(counts), per_class=per_class)
    items = []
    for count in counts:
        target = Classification(labels=tuple(f"c{i}" for i in range(count)))
        task = base.task.changed(name=f"of{count}", target=target)

        def coarse(examples: Examples, count: int = count) -> Examples:
            return replace(examples, targets=examples.targets * count // max(counts))

        assert base.val is not None and base.test is not None
        test = Sealed(coarse(base.test.unseal()))
        items.append(TaskData(task, coarse(base.train), coarse(base.val), test, base.augment))
    return Suite("labelled", tuple(items))


# ---- settings -----------------------------------------------------------------------------------------------------


def test_the_papers_settings_are_the_defaults() -> None:
    config = MultiPathConfig()
    assert (config.optimizer, config.learning_rate, config.momentum, config.nesterov) == ("sgd", 0.1, 0.9, True)
    assert (config.batch, config.temperature, config.alpha, config.t2_scale) == (128, 2.0, 1.0, False)
    assert (config.combination, config.direction, config.distill) == ("additive", "teacher_student", True)
    assert isinstance(config.backbone, dict) and config.backbone["stem"] == "cifar"


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_outside_0_and_1_is_refused(alpha: float) -> None:
    with pytest.raises(InvalidInput, match=r"method\.alpha: .*(greater|less) than or equal to .*received"):
        MultiPath(alpha=alpha)


def test_cuts_and_branches_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no place 'conv9'.*conv1, conv2, conv3, fc1"):
        built(tiny_images(2), cuts=["conv1", "conv9"])
    with pytest.raises(InvalidInput, match="'task1': a branch from 1 to 2"):
        built(tiny_images(2), cuts=["conv1", "fc1"], branches={"task1": 3})


# ---- branches -----------------------------------------------------------------------------------------------------


def test_tasks_are_spread_over_branches_in_order() -> None:
    assert spread("abcde", 5) == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    assert spread("abc", 5) == {"a": 1, "b": 3, "c": 5}
    assert spread("abcdefgh", 3) == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2, "f": 2, "g": 3, "h": 3}
    assert spread("a", 3) == {"a": 3}


def branches(network: MultiPathNet) -> dict[str, int]:
    return {name: network.branch(name) for name in network.tasks}


def test_branches_follow_the_order_given_the_number_of_classes_or_a_random_order() -> None:
    suite = labelled((8, 2, 4))
    cuts = ["conv1", "conv3", "fc1"]
    assert branches(built(suite, cuts=cuts)[1]) == {"of8": 1, "of2": 2, "of4": 3}
    assert branches(built(suite, cuts=cuts, assign="classes")[1]) == {"of2": 1, "of4": 2, "of8": 3}
    assert branches(built(suite, cuts=cuts, assign="last")[1]) == {"of8": 3, "of2": 3, "of4": 3}
    orders = {tuple(branches(built(suite, cuts=cuts, assign="random", order_seed=n)[1]).values()) for n in range(20)}
    assert len(orders) == 6 and all(sorted(order) == [1, 2, 3] for order in orders)  # 3! = 6 orders in 20 draws
    assert branches(built(suite, cuts=cuts, branches={"of8": 3})[1]) == {"of8": 3, "of2": 2, "of4": 3}


def test_measured_difficulty_sends_the_hard_task_deep() -> None:
    """Labels drawn at random cannot be told from the images: that task's validation loss must be the highest."""
    suite = tiny_images(3, per_class=16)
    hard = suite["task0"]
    stream = torch.Generator().manual_seed(1)
    noisy = [
        replace(part, targets=torch.randint(0, 2, part.targets.shape, generator=stream))
        for part in (hard.train, hard.val)
    ]
    items = (TaskData(hard.task, noisy[0], noisy[1], hard.test), suite["task1"], suite["task2"])
    settings = {**TINY, "cuts": ["conv1", "conv3", "fc1"], "assign": "difficulty", "probe_epochs": 4, "distill": False}
    system = pp.learn("multipath", Suite("noisy", items), **settings, **RUN)
    network = system.network
    assert isinstance(network, MultiPathNet)
    assert branches(network)["task0"] == 3 and sorted(branches(network).values()) == [1, 2, 3]
    assert max(network.difficulty, key=lambda name: network.difficulty[name]) == "task0"
    without = tuple(replace(item, val=None) for item in items)
    with pytest.raises(InvalidInput, match="'task0' has no validation split.*difficulty"):
        pp.learn("multipath", Suite("noisy", without), **settings, **RUN)


# ---- inputs that tasks share --------------------------------------------------------------------------------------


def test_tasks_of_the_same_examples_are_read_once_and_keep_their_targets() -> None:
    suite = labelled()
    assert share_inputs(list(suite)) and not share_inputs(list(tiny_images(2)))
    data = joined(list(suite))
    assert len(data.train) == len(suite["of8"].train)
    parts = apart(list(suite), Batch(torch.zeros(5, 3, 8, 8), data.train.targets[:5]))
    for item in suite:
        assert torch.equal(parts[item.name].targets, item.train.targets[:5])
        assert parts[item.name].targets.dtype == torch.int64
        assert parts[item.name].inputs is parts["of2"].inputs


def test_one_forward_a_step_serves_all_tasks_that_share_inputs() -> None:
    suite = labelled()
    for share, wanted in ((None, 1), (False, 3)):
        method, network, run = built(suite, distill=False, share_inputs=share)
        calls: list[int] = []
        network.segments["segment1"].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        method.learn(network, list(suite), run)
        assert len(calls) == wanted * -(-len(suite["of8"].train) // 8)


def test_tasks_that_claim_to_share_inputs_but_differ_in_length_are_refused() -> None:
    suite = labelled()
    short = replace(suite["of4"], train=suite["of4"].train.select(torch.arange(20)))
    mixed = Suite("mixed", (suite["of2"], short))
    with pytest.raises(InvalidInput, match="'of2' has 32 training examples and 'of4' 20"):
        pp.learn("multipath", mixed, **TINY, share_inputs=True, **RUN)
    with pytest.raises(InvalidInput, match="other examples, another order"):
        pp.learn("multipath", tiny_images(2).only(["task0"]).tasks + (shifted(),), **TINY, share_inputs=True, **RUN)


def shifted() -> TaskData:
    """task0 under another name, its images in another order."""
    (item,) = tiny_images(1)
    back = torch.arange(len(item.train)).flip(0)
    return replace(item, task=item.task.changed(name="other"), train=item.train.select(back))


# ---- the loop and its losses --------------------------------------------------------------------------------------


def test_one_step_moves_by_the_sum_of_all_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equations 3 to 5 by hand: cross entropy at each branch plus alpha times KL(teacher || student) at T = 2."""
    suite = labelled((2, 4), per_class=2)
    seen: list[float] = []
    method, network, run = built(suite, cuts=["conv1", "fc1"], alpha=0.5, batch=64)
    answers = {
        item.name: torch.randn(16, item.task.target.outputs, generator=engine().rng(item.name)) for item in suite
    }

    class Teacher(torch.nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.task = name

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return answers[self.task][: len(inputs)]

    taught = {name: Teacher(name) for name in suite.names}
    monkeypatch.setattr(MultiPath, "_teachers", lambda *_: taught)
    monkeypatch.setattr(Engine, "step", lambda self, loss, optimizer: seen.append(float(loss.detach())))
    network.train()
    expected = 0.0
    for batch in run.batches(joined(list(suite)), 64, "shared", "train", 0):
        for item in suite:
            part = apart(list(suite), batch)[item.name]
            out = network(part.inputs, item.name)
            expected += float(functional.cross_entropy(out, part.targets).detach())
            expected += 0.5 * float(softmax_divergence(out.detach(), answers[item.name][: len(out)], 2.0))
    network = built(suite, cuts=["conv1", "fc1"])[1]
    method.learn(network, list(suite), run)
    assert len(seen) == 1 and seen[0] == pytest.approx(expected, rel=1e-5)


def test_eq5_with_alpha_1_is_learning_without_teachers() -> None:
    suite = labelled((2, 4), per_class=2)
    literal = pp.learn("multipath", suite, **TINY, combination="eq5", alpha=1.0, **RUN)
    plain = pp.learn("multipath", suite, **TINY, distill=False, **RUN)
    assert literal.network.digests() == plain.network.digests()
    additive = pp.learn("multipath", suite, **TINY, alpha=1.0, **RUN)
    assert additive.network.digests() != plain.network.digests()


def test_heads_all_at_the_end_are_hard_sharing() -> None:
    """The same loop, so the same values as `hard_sharing` on the same backbone from the same initial values."""
    suite = tiny_images(2)
    settings = {key: value for key, value in TINY.items() if key != "decay_at"} | {"optimizer": "sgd", "nesterov": True}
    last = pp.learn("multipath", suite, **settings, decay_at=(), assign="last", distill=False, weight_decay=0.0, **RUN)
    method, network, run = built(suite, assign="last", distill=False)
    losses = [curve.values for curve in last.result.curves if curve.split == "train"]
    assert len(losses) == 2 and all(values[0] > 0 for values in losses)
    assert {network.path(name).steps[:-1] for name in suite.names} == {network.path("task0").steps[:-1]}


def test_a_branch_for_a_task_that_may_come_later_is_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"backbone": {"kind": "mlp", "hidden": [4]}, "epochs": 1, "distill": False, "decay_at": ()}
    settings |= {"branches": {"task0": 1, "tsk1": 1}}
    variant, told = Variant(method="multipath", config=settings), "branches: 'tsk1' is none of the tasks"
    own = Experiment(recipe="own", title="", paper="", suite={}, variants={"main": variant}, main="main")
    planned(own, {"main": tiny_features(2)})
    assert caplog.text.count(told) == 1  # by a dry run too
    system = pp.learn("multipath", tiny_features(2), **settings, **RUN)
    assert caplog.text.count(f"{told} ['task0', 'task1']") == 2
    assert "did you mean 'task1'?" in caplog.text and "'task0' is none" not in caplog.text
    system.learn(tiny_features(3), batch={"default": 8, "tsk2": 4}, **RUN)
    assert "batch: 'tsk2' is none of the tasks ['task0', 'task1', 'task2']" in caplog.text


# ---- teachers -----------------------------------------------------------------------------------------------------


def test_teachers_are_full_depth_networks_of_one_task_and_are_never_saved(tmp_path: Path) -> None:
    suite = labelled((2, 4), per_class=2)
    out = tmp_path / "run"
    system = pp.learn("multipath", suite, **TINY, cuts=["conv1", "fc1"], out=out, **RUN)
    plain = pp.learn("multipath", suite, **TINY, cuts=["conv1", "fc1"], distill=False, **RUN)
    assert set(system.network.components()) == set(plain.network.components())
    assert not (out / "checkpoint").exists()  # where the run kept them
    parameters = sum(value.numel() for value in system.network.parameters())
    assert system.result.totals.parameters == parameters
    method, network, run = built(suite, cuts=["conv1", "fc1"])
    found = method._teachers(network, list(suite), run)
    for item in suite:
        depth = [name for name, _ in found[item.name].named_modules()]
        assert len(depth) > 1 and not any(p.requires_grad for p in found[item.name].parameters())
        assert not found[item.name].training
        x = torch.zeros(2, 3, 8, 8)
        assert found[item.name](x).shape == (2, item.task.target.outputs)


def test_the_rate_of_a_short_teacher_does_not_fall_before_it_learned_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student's rate falls at epoch 4 of 10; in one epoch that is 0.4, which rounds to the very beginning."""
    plans = []
    monkeypatch.setattr(teachers, "trained", lambda data, make, plan, run: plans.append(plan) or {})
    method, network, run = built(labelled((2,)), epochs=10, decay_at=[4], teacher_epochs=1)
    method._teachers(network, [], run)
    assert (plans[0].epochs, plans[0].decay_at) == (1, (1,))


def test_a_run_that_dies_after_a_teacher_takes_it_from_its_checkpoint(tmp_path: Path) -> None:
    suite = labelled((2, 4), per_class=2)
    whole = pp.learn("multipath", suite, **TINY, **RUN)
    out = tmp_path / "run"
    first = out / "checkpoint" / "stage-000-0.safetensors"
    with pytest.raises(pp.errors.Cancelled):
        pp.learn("multipath", suite, **TINY, out=out, on_progress=lambda now: first.exists(), **RUN)
    assert not (out / "checkpoint" / "stage-000-1.safetensors").exists()
    stamp = first.stat().st_mtime_ns
    changed: list[int] = []

    def watch(now: Any) -> bool:
        changed.append(first.stat().st_mtime_ns if first.exists() else stamp)
        return False

    resumed = pp.learn("multipath", suite, **TINY, out=out, resume=True, on_progress=watch, **RUN)
    assert set(changed) == {stamp}
    assert resumed.network.digests() == whole.network.digests()


def test_given_teachers_are_read_instead_of_trained(tmp_path: Path) -> None:
    suite = labelled((2, 4), per_class=2)
    for name in suite.names:
        pp.learn("single", suite.only([name]), backbone=CONV, epochs=1, batch=8, **RUN).save(tmp_path / name)
    given = {name: str(tmp_path / name) for name in suite.names}
    method, network, run = built(suite, teachers=given)
    found = method._teachers(network, list(suite), run)
    system = pp.load(tmp_path / "of4")
    x = suite["of4"].task.preprocess.encode(suite["of4"].train.inputs(slice(0, 4)))
    with torch.no_grad():
        assert torch.allclose(found["of4"](x), system.extract("of4")(x), atol=1e-6)
    assert run._loops == 0  # nothing was trained


def test_a_teacher_for_another_task_is_refused(tmp_path: Path) -> None:
    suite = labelled((2, 4), per_class=2)
    pp.learn("single", suite.only(["of2"]), backbone=CONV, epochs=1, batch=8, **RUN).save(tmp_path / "of2")
    folder = str(tmp_path / "of2")
    with pytest.raises(InvalidInput, match=r"teachers\.of4: .*was trained for \['of2'\], not for 'of4'"):
        pp.learn("multipath", suite, **TINY, teachers={"of4": folder}, **RUN)
    with pytest.raises(InvalidInput, match=r"teachers: \['of5'\] are none of the tasks"):
        pp.learn("multipath", suite, **TINY, teachers={"of5": folder}, **RUN)
    with pytest.raises(InvalidInput, match=r"teachers\.of2: .*holds no system"):
        pp.learn("multipath", suite, **TINY, teachers={"of2": str(tmp_path / "nothing")}, **RUN)
    renamed = Suite("x", tuple(replace(i, task=i.task.changed(name="of2")) for i in suite if i.name == "of4"))
    with pytest.raises(InvalidInput, match="another task of that name .2 labels.*4 labels"):
        pp.learn("multipath", renamed, **TINY, teachers={"of2": folder}, **RUN)
    with pytest.raises(InvalidInput, match="distill is off"):
        MultiPath(teachers={"of2": folder}, distill=False)


def test_a_teacher_that_saw_its_inputs_prepared_otherwise_is_refused(tmp_path: Path) -> None:
    """Its answers would be those of an untrained network: it is given what the student sees."""
    suite = labelled((2,), per_class=2)
    pp.learn("single", suite, backbone=CONV, epochs=1, batch=8, **RUN).save(tmp_path / "of2")
    mine = suite["of2"].task.preprocess
    assert isinstance(mine, ImagePreprocess)
    dark = suite["of2"].task.changed(preprocess=mine.changed(mean=(0.25,) * 3))
    other = Suite("dark", (replace(suite["of2"], task=dark),))
    message = r"teachers\.of2: .* required mean=\(0.25, 0.25, 0.25\), the system in .*of2 has mean=.*; train a teacher"
    with pytest.raises(InvalidInput, match=message):
        pp.learn("multipath", other, **TINY, teachers={"of2": str(tmp_path / "of2")}, **RUN)


# ---- what comes out -----------------------------------------------------------------------------------------------


def test_easy_tasks_are_learned_at_every_branch() -> None:
    suite = tiny_images(3, per_class=16)
    settings = {**TINY, "cuts": ["conv1", "conv3", "fc1"], "epochs": 12, "learning_rate": 0.1, "distill": False}
    system = pp.learn("multipath", suite, **settings, **RUN)
    assert all(scores["accuracy"] > 0.9 for scores in system.evaluate().values()), system.evaluate()


def test_removing_a_task_takes_all_its_heads_and_access_covers_them() -> None:
    suite = labelled((2, 4), per_class=2)
    private = Suite("private", (suite["of2"], replace(suite["of4"], task=suite["of4"].task.changed(private_to="g"))))
    system = pp.learn("multipath", private, **TINY, cuts=["conv1", "fc1"], exits="all", distill=False, **RUN)
    assert system.access("of2") == {"g"}  # its segment was shaped by the private task's data
    assert set(system.sources["head.t1.branch1"]) == {"of4"}
    with pytest.raises(InvalidInput, match="build on it or on what its data trained.*keep-residue"):
        system.remove("of4")  # private: nothing that its data trained may stay
    removal = system.remove("of4", keep_residue=True)
    assert set(removal.freed) == {"head.t1", "head.t1.branch1"} and removal.reset == ("segment2",)


def test_unknown_settings_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match="temperature"):
        pp.learn("multipath", tiny_images(1), temperatur=3.0, **RUN)
