"""Budgets, early stopping and several tasks at once: which exit answers, what it costs, what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Suite
from polypath.prediction import Budget, ExitCost, affordable, answer, cascaded, lowest_threshold
from polypath.system import System
from polypath.testing import tiny_images

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
CONV = {"kind": "conv", "blocks": [[4, 4], [4]], "dense": [6], "norm": "batch"}
SETTINGS: dict[str, Any] = {
    "backbone": CONV, "cuts": ["conv1", "conv3", "fc1"], "epochs": 6, "batch": 16, "learning_rate": 0.05,
    "decay_at": [], "distill": False, "exits": "all",
}  # fmt: skip


@pytest.fixture(scope="module")
def suite() -> Suite:
    return tiny_images(3, per_class=16)


@pytest.fixture(scope="module")
def learned(suite: Suite) -> System:
    return pp.learn("multipath", suite, **SETTINGS, **RUN)


@pytest.fixture
def system(learned: System) -> System:
    return copy.deepcopy(learned)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_refused_with_their_rows(suite: Suite, value: float) -> None:
    outputs = torch.zeros(4, 2)
    outputs[2, 1] = value
    with pytest.raises(InvalidInput, match=r"task 'task2' has no finite answer in row\(s\) \[2\]"):
        answer(suite["task2"].task, outputs)


def test_the_deepest_exit_within_the_budget_answers(system: System, suite: Suite) -> None:
    costs = system.exit_costs("task2")
    assert [cost.exit for cost in costs] == ["branch1", "branch2", "branch3"]
    # conv1: 3x3 on 8x8 maps, 3 to 4 channels (BatchNorm folded), then a head of 4 -> 2.
    assert costs[0].flops == 2 * (9 * 3 * 4 * 64 + 4 * 2)
    assert costs[0].parameters == 9 * 3 * 4 + 2 * 4 + 4 * 2 + 2
    assert costs[-1].flops == system.cost("task2").flops and costs[-1].parameters == system.cost("task2").parameters
    raw = suite["task2"].train.inputs(slice(0, 3))
    for place, cost in enumerate(costs):
        for budget in ({"flops": cost.flops}, {"parameters": cost.parameters}, Budget(flops=cost.flops + 1)):
            said = system.predict("task2", raw, budget=budget)
            assert said.exits == [cost.exit] * 3 or (place == 2 and said.exits is None)
            module = system.extract("task2", exit=cost.exit)
            with torch.no_grad():
                expected = module(suite["task2"].task.preprocess.encode(raw)).softmax(1)
            assert said.probabilities is not None
            torch.testing.assert_close(said.probabilities, expected)


def test_all_limits_of_a_budget_must_hold() -> None:
    costs = [ExitCost("branch1", 10, 100, 1.0), ExitCost("branch2", 20, 200, 3.0), ExitCost("branch3", 30, 300, 4.0)]
    assert affordable("t", costs, Budget(flops=250, ms=2.0)).exit == "branch1"
    assert affordable("t", costs, Budget(flops=250, parameters=40)).exit == "branch2"
    with pytest.raises(
        InvalidInput, match=r"flops=99: .*cheapest exit is 'branch1' with 100 FLOPs, 10 parameters, 1 ms"
    ):
        affordable("t", costs, Budget(flops=99))


def test_budgets_that_cannot_be_met_or_read_are_refused(system: System, suite: Suite) -> None:
    raw = suite["task1"].train.inputs(slice(0, 1))
    with pytest.raises(
        InvalidInput, match=r"budget flops=1: task 'task1' .*cheapest exit is 'branch1' with 13,840 FLOPs"
    ):
        system.predict("task1", raw, budget={"flops": 1})
    with pytest.raises(InvalidInput, match="at least one of flops, parameters and ms"):
        system.predict("task1", raw, budget={})
    with pytest.raises(UnknownName, match="flops"):
        system.predict("task1", raw, budget={"flop": 1})
    with pytest.raises(InvalidInput, match="received 5"):
        system.predict("task1", raw, budget=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="not timed on this machine with .*; call system.calibrate_latency"):
        system.predict("task1", raw, budget={"ms": 5.0})


def test_milliseconds_need_a_calibration_that_is_kept_with_the_system(
    system: System, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = system.calibrate_latency(repeats=3)
    assert set(table["task2"]) == {"branch1", "branch2", "branch3"} and min(table["task2"].values()) > 0
    system.save(tmp_path)
    again = pp.load(tmp_path)
    raw = suite["task2"].train.inputs(slice(0, 2))
    assert again.exit_costs("task2") == system.exit_costs("task2")
    slowest = max(table["task2"].values())
    assert again.predict("task2", raw, budget={"ms": slowest}).exits in (None, ["branch3"] * 2)
    with pytest.raises(InvalidInput, match="budget ms=1e-06: .*cheapest exit is 'branch1'"):
        again.predict("task2", raw, budget={"ms": 1e-6})
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 7)  # other threads, other times
        with pytest.raises(InvalidInput, match=r"not timed on this machine with 7 thread\(s\)"):
            again.predict("task2", raw, budget={"ms": slowest})
    monkeypatch.setattr("polypath.answering.machine", lambda: "another")
    with pytest.raises(InvalidInput, match="not timed on this machine"):
        again.predict("task2", raw, budget={"ms": slowest})


def test_counts_below_one_are_refused(system: System, suite: Suite) -> None:
    raw = suite["task0"].train.inputs(slice(0, 2))
    for call in (
        lambda: system.predict("task0", raw, batch=0),
        lambda: system.predict_many(["task0"], raw, batch=0),
        lambda: system.predict_many([], raw),
        lambda: system.calibrate_latency(batch=0),
        lambda: system.calibrate_latency(repeats=0),
    ):
        with pytest.raises(InvalidInput, match="at least 1 is required, received 0"):
            call()


def test_a_budget_works_for_tasks_with_one_exit_too(suite: Suite) -> None:
    system = pp.learn("single", suite.only(["task0"]), backbone={"kind": "mlp", "hidden": [4]}, epochs=1, **RUN)
    raw = suite["task0"].train.inputs(slice(0, 2))
    flops = system.cost("task0").flops
    plain = system.predict("task0", raw)
    assert system.predict("task0", raw, budget={"flops": flops}).labels == plain.labels
    with pytest.raises(InvalidInput, match="cheapest exit is 'only'"):
        system.predict("task0", raw, budget={"flops": flops - 1})


# ---- stopping early -----------------------------------------------------------------------------------------------


def test_the_threshold_is_the_lowest_that_keeps_the_accuracy() -> None:
    """Four examples by hand: the first exit is .9 .8 .7 .6 sure and errs on the last two, the end errs on none."""
    first = torch.log(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]))
    last = torch.log(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]))
    targets = torch.tensor([0, 0, 1, 1])
    strict = lowest_threshold([first, last], targets, drop=0.0)
    assert strict.threshold == pytest.approx(0.8) and (strict.full, strict.kept) == (1.0, 1.0)
    assert strict.share == (0.5, 0.5)
    lenient = lowest_threshold([first, last], targets, drop=0.25)
    assert lenient.threshold == pytest.approx(0.7) and lenient.kept == 0.75 and lenient.share == (0.75, 0.25)
    none = lowest_threshold([first.flip(1), last], targets, drop=0.0)  # confident and wrong: nothing may stop
    assert none.threshold > 1 and none.share == (0.0, 1.0)


def test_confident_examples_stop_and_the_others_go_on_as_if_alone(system: System, suite: Suite) -> None:
    found = system.calibrate_confidence(suite, drop=0.1)
    assert set(found) == {"task1", "task2"}  # task0 has one exit
    kept = found["task2"]
    assert kept.kept >= kept.full - 0.1 and kept.examples == len(suite["task2"].val)  # type: ignore[arg-type]
    raw = suite["task2"].val.inputs()  # type: ignore[union-attr]
    said = system.predict("task2", raw, early=True, batch=7)
    assert said.exits is not None and len(said.exits) == len(raw)
    for row in range(len(raw)):
        expected = "branch3"
        for exit in ("branch1", "branch2"):
            with torch.no_grad():
                module = system.extract("task2", exit=exit)
                sure = module(suite["task2"].task.preprocess.encode(raw[row : row + 1])).softmax(1).max()
            if abs(float(sure) - kept.threshold) < 1e-5:
                break
            if float(sure) >= kept.threshold:
                expected = exit
                break
        else:
            assert said.exits[row] == expected
            continue
        assert abs(float(sure) - kept.threshold) < 1e-5 or said.exits[row] == expected
    limited = system.predict("task2", raw, early=True, budget={"flops": system.exit_costs("task2")[0].flops})
    assert limited.exits == ["branch1"] * len(raw)


def test_rows_inside_a_residual_block_go_on_with_their_shortcut() -> None:
    from polypath.nn.multipath import MultiPathNet, MultiPathNetConfig

    inputs = tiny_images(1, size=16).tasks[0].task
    backbone = {"kind": "resnet18", "stem": "paper", "width": 1 / 8}
    config = MultiPathNetConfig(
        backbone=backbone, inputs=inputs.inputs, cuts=("layer1_0_conv1", "layer2_0_conv1", "layer4_1"), exits="all"
    )
    network = MultiPathNet(config)
    network.add_task(inputs)
    network.eval()
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    paths = [network.path("task0", exit) for exit in network.exits("task0")]
    with torch.no_grad():
        merged = network.fuse_many(paths).eval()
        each = torch.stack([out.softmax(1) for out in merged(x)])
        threshold = float(each[0].amax(1).median())
        outputs, taken = cascaded(merged, x, threshold)
    for row in range(6):
        confident = [place for place in range(2) if float(each[place, row].max()) >= threshold]
        place = confident[0] if confident else 2
        assert int(taken[row]) == place
        torch.testing.assert_close(outputs[row].softmax(0), each[place, row])
    assert len(set(taken.tolist())) > 1


def test_early_stopping_needs_a_calibration_and_several_exits(system: System, suite: Suite) -> None:
    raw = suite["task1"].train.inputs(slice(0, 1))
    with pytest.raises(InvalidInput, match="'task1' has no confidence threshold; call system.calibrate_confidence"):
        system.predict("task1", raw, early=True)
    with pytest.raises(InvalidInput, match="drop: a share of accuracy from 0 to 1"):
        system.calibrate_confidence(suite, drop=2)
    with pytest.raises(InvalidInput, match='no classification task here has several exits.*exits="all"'):
        system.calibrate_confidence(suite.only(["task0"]))


def test_what_was_calibrated_does_not_outlive_learning(system: System, suite: Suite) -> None:
    system.calibrate_confidence(suite)
    system.calibrate_latency(repeats=1)
    more = tiny_images(4, per_class=16)
    system.learn([*suite, more["task3"]], epochs=1, **RUN)
    assert system.entries["task2"].confidence is None and system.entries["task2"].latency is None


# ---- several tasks at once ----------------------------------------------------------------------------------------


def test_several_tasks_answer_the_same_inputs_at_once(system: System, suite: Suite) -> None:
    raw = suite["task0"].train.inputs(slice(0, 5))
    together = system.predict_many(["task2", "task0"], raw, batch=2)
    assert list(together) == ["task2", "task0"]
    for name, said in together.items():
        alone = system.predict(name, raw)
        assert said.labels == alone.labels
        assert said.probabilities is not None and alone.probabilities is not None
        torch.testing.assert_close(said.probabilities, alone.probabilities)
    with pytest.raises(UnknownName, match="task0"):
        system.predict_many(["task0", "tusk1"], raw)


def test_test_metrics_of_every_exit_are_recorded(learned: System, suite: Suite) -> None:
    (record,) = [task for task in learned.result.tasks if task.name == "task2"]
    assert [exit.name for exit in record.exits] == ["branch1", "branch2", "branch3"]
    assert record.exits[-1].test == record.test and record.exits[-1].flops == record.flops
    assert learned.entries["task2"].exits["branch1"] == record.exits[0].test
    assert learned.entries["task2"].metrics == record.test
    assert [task.exits for task in learned.result.tasks if task.name == "task0"] == [[]]


def test_inspect_prints_the_accuracy_cost_table_of_every_task(system: System, tmp_path: Path) -> None:
    import json

    from typer.testing import CliRunner

    from polypath.cli import app

    system.calibrate_latency(repeats=1)
    system.save(tmp_path / "system")

    def shown(*options: str) -> str:
        done = CliRunner().invoke(app, ["inspect", str(tmp_path / "system"), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "Exits of task2" in shown() and "Exits of task0" not in shown()
    tasks = {task["name"]: task for task in json.loads(shown("--json"))["tasks"]}
    assert "exits" not in tasks["task0"]
    assert [exit["name"] for exit in tasks["task2"]["exits"]] == ["branch1", "branch2", "branch3"]
    first, costs = tasks["task2"]["exits"][0], system.exit_costs("task2")[0]
    assert (first["flops"], first["parameters"], first["ms"]) == (costs.flops, costs.parameters, costs.ms)
    assert first["metrics"] == system.entries["task2"].exits["branch1"]


def test_a_system_says_what_it_is(system: System) -> None:
    assert repr(system) == "<System of 3 task(s), multipath: task0, task1, task2>"
    assert str(system.verify()).startswith("all component hashes hold")
