"""PaRT's training loop, its three modes and what adding a task later does (specification, sections 1.4 and 1.5)."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.examples import Batch, Examples, Sealed, Suite, TaskData
from polypath.core.method import Stage
from polypath.methods.part import PaRT, PaRTConfig
from polypath.nn.grid import Grid, drawn_rows
from polypath.recipes import experiment
from polypath.recipes.experiment import Variant
from polypath.system import System
from polypath.testing import tiny_features, tiny_images
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

RUN = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
TINY: dict[str, Any] = {"modules": 3, "selected": 2, "width": 2, "epochs": 1, "batch": 4, "batch_set": 2}


class Recorder(Engine):
    """An engine that writes down every batch that is handed out and every step that is taken."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed, config=RunConfig(device="cpu", precision="32-true", threads=1), progress=False)
        self.handed: list[tuple[str, int, torch.Tensor]] = []
        self.steps: list[tuple[torch.optim.Optimizer, float]] = []

    def batches(self, data: TaskData, size: int, *key: object, **options: Any) -> Iterator[Batch]:
        for batch in super().batches(data, size, *key, **options):
            self.handed.append((data.name, self.epoch, batch.inputs[:, 0, 0, 0]))
            yield batch

    def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        super().step(loss, optimizer)
        self.steps.append((optimizer, optimizer.param_groups[0]["lr"]))


def numbered(counts: Sequence[int], size: int = 8) -> Suite:
    """One task a count, whose images carry their number in the first pixel."""
    plain = tiny_images(len(counts), size=size)
    items = []
    for data, count in zip(plain, counts, strict=True):
        pixels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(count))
        pixels[:, 0, 0, 0] = torch.arange(count)
        items.append(TaskData(data.task, Examples.of(pixels.to(torch.uint8), torch.arange(count) % 2)))
    return Suite("numbered", tuple(items))


def trained(suite: Suite, **settings: Any) -> tuple[Recorder, Grid]:
    method, run = PaRT(**{**TINY, **settings}), Recorder()
    tasks = [data.task for data in suite]
    network = method.build(tasks, run)
    for task in tasks:
        network.add_task(task)
    method.learn(network, list(suite), run)
    return run, network


def numbers(first: torch.Tensor) -> list[int]:
    """The numbers in the first pixels: undoes (x / 255 - 0.5) / 0.25."""
    return ((first * 0.25 + 0.5) * 255).round().int().tolist()


def test_every_sample_comes_once_an_epoch_and_small_tasks_are_oversampled_to_the_largest() -> None:
    run, _ = trained(numbered([11, 4, 11]), epochs=2)
    for epoch in range(2):
        seen = {
            f"task{t}": Counter(
                n for name, at, first in run.handed if (name, at) == (f"task{t}", epoch) for n in numbers(first)
            )
            for t in range(3)
        }
        assert seen["task0"] == seen["task2"] == Counter(range(11))
        # 11 = 2 * 4 + 3: two full passes and three samples a third time.
        assert sorted(seen["task1"].values()) == [2, 3, 3, 3]
    orders = [
        [numbers(first) for name, at, first in run.handed if (name, at) == ("task0", epoch)] for epoch in range(2)
    ]
    assert orders[0] != orders[1]


def test_batch_sets_come_in_whole_rounds_of_random_order() -> None:
    # 11 samples in batches of 2: 5 batches and one of 1, which joins the one before; sets of 2 make 3 rounds.
    run, _ = trained(numbered([11, 11, 11]), batch=2, batch_set=2, epochs=4)
    orders = []
    for epoch in range(4):
        order: list[str] = []
        batches: dict[str, list[int]] = {}
        for name, at, first in run.handed:
            if at == epoch:
                order.append(name)
                batches.setdefault(name, []).append(len(first))
        sizes = next(iter(batches.values()))
        assert sum(sizes) == 11 and all(found == sizes for found in batches.values())
        position = 0
        for start in range(0, len(sizes), 2):  # a round: every task once, each with its consecutive batches
            length = min(2, len(sizes) - start)
            visited = []
            for _ in range(3):
                turn = order[position : position + length]
                assert len(set(turn)) == 1
                visited.append(turn[0])
                position += length
            assert sorted(visited) == ["task0", "task1", "task2"]
            orders.append(tuple(visited))
        assert position == len(order)
    assert len(set(orders)) > 1


def test_the_learning_rate_is_halved_at_the_start_of_the_named_epochs() -> None:
    run, _ = trained(numbered([4, 4]), epochs=6, halve_at=(1, 3, 4), learning_rate=0.8)
    rates = [rate for _, rate in run.steps]
    assert rates == [0.8] * 2 + [0.4] * 4 + [0.2] * 2 + [0.1] * 4


def test_the_paper_s_schedule_is_the_default() -> None:
    config = PaRTConfig()
    assert (config.modules, config.selected, config.epochs, config.batch, config.batch_set) == (12, 4, 60, 16, 10)
    assert (config.learning_rate, config.halve_at, config.weight_decay) == (1e-3, (20, 30, 40), 0.0)


def test_every_task_has_one_adam_over_its_path_and_its_own_outputs() -> None:
    run, network = trained(numbered([4, 4]))
    optimizers = list(dict.fromkeys(optimizer for optimizer, _ in run.steps))
    assert len(optimizers) == 2 and {type(found) for found in optimizers} == {torch.optim.Adam}
    wanted = []
    for name in ("task0", "task1"):
        wanted.append({id(p) for p in network.trainable(network.path(name).components)})
    held = [{id(p) for group in found.param_groups for p in group["params"]} for found in optimizers]
    assert sorted(map(len, held)) == sorted(map(len, wanted)) and all(ids in wanted for ids in held)
    group = optimizers[0].param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)


def test_a_step_of_one_task_moves_nothing_off_its_path_whatever_momentum_others_left() -> None:
    moved: dict[str, set[str]] = {}

    class Watching(Recorder):
        def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
            task = self.handed[-1][0]
            before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
            super().step(loss, optimizer)
            found = {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}
            moved.setdefault(task, set()).update(found)

    suite, method, run = numbered([8, 8]), PaRT(**{**TINY, "weight_decay": 0.1, "epochs": 2}), Watching()
    network = method.build([data.task for data in suite], run)
    for data in suite:
        network.add_task(data.task)
    method.learn(network, list(suite), run)
    parts = network.components()
    for task, keys in moved.items():
        mine = {key for name in network.path(task).components for key in parts[name].tensors.values()}
        assert keys and keys <= mine
    shared = set(network.path("task0").components) & set(network.path("task1").components)
    assert shared, "the trap needs modules of both tasks"


def test_sequential_freezes_used_modules_with_their_norms_and_statistics() -> None:
    # Both tasks use module 0 everywhere; the first leaves 1, the second 2.
    paths = {"task0": [[0, 1]] * 9, "task1": [[0, 2]] * 9}
    suite = numbered([8, 8])
    one = pp.learn("part", suite.only(["task0"]), mode="sequential", paths=paths, **TINY, **RUN)
    both = copy.deepcopy(one)
    both.learn(suite["task1"], **RUN)
    before, after = one.network.state_dict(), both.network.state_dict()
    statistics = [key for key in before if "module00.norms" in key]
    assert {key.rpartition(".")[2] for key in statistics} == {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    for key, tensor in before.items():
        used = "module00" in key or "module01" in key or key.startswith("heads.t0")
        assert torch.equal(tensor, after[key]) is used, key
    assert both.isolation == "exact"


def test_what_was_frozen_learns_again_afterwards() -> None:
    system = pp.learn("part", numbered([4, 4]), mode="sequential", **TINY, **RUN)
    assert not system.network.frozen and all(parameter.requires_grad for parameter in system.network.parameters())


def test_the_expected_unfrozen_fraction_of_a_path() -> None:
    # (1 - N/M)^(t-1) for 12/4: 1, .667, .444, ...; mean over seeds within 4 standard errors of what a module costs.
    depth, modules, selected, tasks, seeds = 9, 12, 4, 10, 40
    sums = [0.0] * tasks
    for seed in range(seeds):
        used: set[tuple[int, int]] = set()
        for t in range(tasks):
            path = {(layer, j) for layer, row in enumerate(drawn_rows(seed, t, depth, modules, selected)) for j in row}
            sums[t] += len(path - used) / len(path)
            used |= path
    for t, total in enumerate(sums):
        expected = (1 - selected / modules) ** t
        # Modules of a row are drawn without replacement, which only lowers the binomial variance used here.
        error = (expected * (1 - expected) / (depth * selected * seeds)) ** 0.5
        assert abs(total / seeds - expected) <= 4 * error + 1e-12


def test_single_tasks_start_from_the_values_and_paths_of_the_shared_pool() -> None:
    suite, run = numbered([4, 4]), Recorder(seed=5)
    built = {}
    for mode in ("parallel", "sequential", "single"):
        network = PaRT(**TINY, mode=mode).build([data.task for data in suite], run)
        for data in suite:
            network.add_task(data.task)
        built[mode] = network
    for name in suite.names:
        rows = built["parallel"].rows(name)
        assert built["sequential"].rows(name) == built["single"].rows(name) == rows
        values = [
            [sha for _, sha in network.digests(network.path(name).components).items()] for network in built.values()
        ]
        assert values[0] == values[1] == values[2]


MODES: list[dict[str, Any]] = [
    {"mode": "parallel"},
    {"mode": "single"},
    {"mode": "sequential"},
    {"mode": "sequential", "order": "random"},
]


def test_paths_and_initial_heads_do_not_depend_on_mode_and_order() -> None:
    suite, run = numbered([4] * 5), Recorder(seed=3)
    tasks = {data.name: data.task for data in suite}
    orders, paths, heads = [], [], []
    for mode in MODES:
        method = PaRT(**TINY, **mode)
        network = method.build(list(tasks.values()), run)
        method.expect(network, list(tasks))
        orders.append([name for stage in method.stages(list(tasks), [], run) for name in stage.tasks])
        for name in orders[-1]:  # as stages admit them, a system saved in between
            method.admit(network, tasks[name])
            again = Grid.restore(network.plan())
            again.assign(network.tensors(network.components()))
            network = again
        paths.append({name: network.rows(name) for name in tasks})
        heads.append({name: network.digests(network.path(name).steps[-1]) for name in tasks})
        network.add_task(tasks["task0"].renamed("late"))
        assert network.path("late").steps[-1] == ("head.t5",)  # tasks added later go on counting
    assert orders[3] != orders[2] == list(tasks)
    assert all(found == paths[0] for found in paths) and all(found == heads[0] for found in heads)
    assert paths[0] == {name: drawn_rows(3, place, 9, 3, 2) for place, name in enumerate(tasks)}


def test_a_random_order_trains_the_paths_that_a_dry_run_plans() -> None:
    suite = numbered([4] * 4)
    rows = [
        {name: system.network.rows(name) for name in suite.names}
        for system in (pp.learn("part", suite, seed=3, **TINY, **mode, **RUN) for mode in MODES)
    ]
    assert all(found == rows[0] for found in rows)
    variant = Variant(method="part", config={**TINY, **MODES[3]})
    planned = experiment._empty(variant, suite, Recorder(seed=3))
    assert isinstance(planned, Grid) and {name: planned.rows(name) for name in suite.names} == rows[0]


def test_one_task_is_plain_training(tmp_path: Any) -> None:
    """The same loop by hand: batches, one Adam, cross entropy, on the extracted module of an untrained grid."""
    suite = tiny_images(1)
    system = pp.learn("part", suite, seed=3, **{**TINY, "epochs": 3}, halve_at=(1,), **RUN)
    run = Recorder(seed=3)
    network = PaRT(**TINY).build([suite.tasks[0].task], run)
    network.add_task(suite.tasks[0].task)
    module = network.extract("task0", fused=False).train()
    module.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 1e-3 if epoch < 1 else 5e-4
        for batch in run.batches(suite.tasks[0], 4, "task0", "epoch", epoch, equal_to=len(suite.tasks[0].train)):
            loss = torch.nn.functional.cross_entropy(module(batch.inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    learned = system.network.extract("task0", fused=False).state_dict()
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, learned[key]), key


@pytest.mark.parametrize("mode", ["parallel", "sequential", "single"])
def test_easy_tasks_are_learned(mode: str) -> None:
    suite = tiny_images(2, per_class=16)
    system = pp.learn(
        "part", suite, mode=mode, modules=3, selected=2, width=8, epochs=8, batch=8, batch_set=2, learning_rate=0.003,
        evaluate_every=0, **RUN,
    )  # fmt: skip
    assert {name: scores["accuracy"] > 0.9 for name, scores in system.evaluate().items()} == {
        "task0": True,
        "task1": True,
    }


# ---- adding a task later ------------------------------------------------------------------------------------------


def test_tasks_that_are_added_in_a_random_order_have_the_paths_of_the_given_one() -> None:
    suite, found = numbered([4] * 6), []
    for order in ("given", "random"):
        system = pp.learn("part", suite.only(suite.names[:2]), seed=3, mode="sequential", order=order, **TINY, **RUN)
        system.learn(suite.only(suite.names[2:]), **RUN)
        assert isinstance(system.network, Grid) and "reserved" not in system.network.plan()
        found.append({name: (system.network.rows(name), system.network.path(name)) for name in suite.names})
    assert list(system.tasks)[2:] != list(suite.names)[2:] and found[0] == found[1]


@pytest.fixture(scope="module")
def parallel() -> System:
    return pp.learn("part", tiny_images(2), **TINY, **RUN)


def test_adding_jointly_needs_all_data_and_moves_the_shared_modules(parallel: System) -> None:
    suite, system = tiny_images(3), copy.deepcopy(parallel)
    with pytest.raises(InvalidInput, match=r"needs the data of \['task0', 'task1'\]"):
        system.learn(suite["task2"], **RUN)
    before = system.network.digests()
    system.learn(suite, **RUN)
    after = system.network.digests()
    used = {name for task in suite.names for name in system.network.path(task).components}
    assert all(before.get(name) != after[name] for name in used)
    assert list(system.tasks) == list(suite.names) and system.isolation == "joint"


def test_adding_sequentially_to_a_parallel_system_is_exact(parallel: System) -> None:
    suite, system = tiny_images(3), copy.deepcopy(parallel)
    held = {name for task in system.tasks for name in system.network.path(task).components}
    before = system.network.digests(held)
    answers = {task: system.predict(task, suite[task].train.inputs()).probabilities for task in system.tasks}
    system.learn(suite["task2"], mode="sequential", **RUN)
    assert system.network.digests(held) == before and system.isolation == "exact"
    for task, expected in answers.items():
        found = system.predict(task, suite[task].train.inputs()).probabilities
        assert found is not None and expected is not None and torch.equal(found, expected)


# ---- settings and stages ------------------------------------------------------------------------------------------


def test_stages_of_the_modes() -> None:
    run = Recorder()
    assert PaRT(**TINY).stages(["c"], ["a", "b"], run) == [Stage(("a", "b", "c"))]
    for mode in ("sequential", "single"):
        assert PaRT(**TINY, mode=mode).stages(["b", "c"], ["a"], run) == [Stage(("b",)), Stage(("c",))]
    names = [f"t{i}" for i in range(10)]
    drawn = [
        tuple(
            stage.tasks[0] for stage in PaRT(**TINY, mode="sequential", order="random").stages(names, [], Recorder(s))
        )
        for s in (0, 0, 1)
    ]
    assert sorted(drawn[0]) == names and drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modules": 3, "selected": 4}, r"selected \(N = 4\) must not exceed modules \(M = 3\)"),
        ({"mode": "parallell"}, "method.mode: input should be 'parallel', 'sequential' or 'single'"),
        ({"batch": 1}, "method.batch: input should be greater than 1"),
        ({"epochs": 0, "width": -1}, "2 problems"),
        ({"paths": {"a": [[0]]}, "paths_file": "p.json"}, "give paths or paths_file, not both"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        PaRT(**settings)


def test_an_unknown_setting_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown key of method 'modul'. Did you mean 'modules'"):
        PaRT(modul=3)


def test_a_malformed_path_is_refused_before_anything_is_learned() -> None:
    with pytest.raises(InvalidInput, match=r"path of 'task0': 9 rows required \(one a layer\), received 2"):
        pp.learn("part", tiny_images(2), paths={"task0": [[0, 1]] * 2}, **TINY, **RUN)


def test_paths_of_unknown_tasks_are_refused_or_told_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    tasks, rows = [data.task for data in tiny_images(2)], [[0, 1]] * 9
    file = tmp_path / "paths.json"
    file.write_text(json.dumps({"tsk1": rows}))
    for given in ({"paths": {"tsk1": rows}}, {"paths_file": str(file)}):
        with pytest.raises(UnknownName, match="task in paths 'tsk1'. Did you mean 'task1'"):
            PaRT(**TINY, **given).build(tasks, Recorder())
    told = "'tsk1' is none of the tasks ['task0', 'task1'] and counts only if one of that name is added later"
    system = pp.learn("part", tiny_images(2), paths={"task1": rows, "tsk1": rows}, **TINY, **RUN)
    assert [record.message for record in caplog.records] == [f"paths: {told}; did you mean 'task1'?"]
    assert isinstance(system.network, Grid) and system.network.rows("task1") == rows
    system.learn(tiny_images(3)["task2"], mode="sequential", paths={"tusk2": rows}, **RUN)
    assert "paths: 'tusk2' is none of the tasks" in caplog.text and "did you mean 'task2'" in caplog.text


def test_a_path_follows_a_task_that_is_renamed() -> None:
    rows = [[0, 1]] * 9
    system = pp.learn("part", tiny_images(2), seed=3, mode="sequential", paths={"task1": rows}, **TINY, **RUN)
    system.rename("task1", "second")
    assert isinstance(system.network, Grid)
    assert system.config["paths"] == system.network.config.paths == {"second": rows}
    system.learn(tiny_images(2)["task1"], **RUN)  # another task1
    assert isinstance(system.network, Grid) and system.network.rows("task1") == drawn_rows(3, 2, 9, 3, 2) != rows


def test_rows_are_no_images() -> None:
    with pytest.raises(InvalidInput, match="part needs image tasks with one channel count"):
        pp.learn("part", tiny_features(2), **TINY, **RUN)


def test_images_of_two_channel_counts_are_refused() -> None:
    grey = tiny_images(1, channels=1).tasks[0]
    renamed = TaskData(grey.task.renamed("grey"), grey.train, test=Sealed(grey.train))
    with pytest.raises(InvalidInput, match="one channel count"):
        pp.learn("part", [tiny_images(1).tasks[0], renamed], **TINY, **RUN)


def late_task() -> TaskData:
    data = tiny_images(1, seed=9).tasks[0]
    return replace(data, task=data.task.renamed("late"))


def test_growing_says_when_a_setting_cannot_be_changed() -> None:
    """The network is there already: another width or number of modules would be ignored, so it is refused."""
    system = pp.learn("part", tiny_images(2), **TINY, **RUN)
    before = system.network.digests()
    with pytest.raises(InvalidInput, match=r"modules=9.*cannot be changed"):
        system.learn(late_task(), mode="sequential", modules=9, **RUN)
    with pytest.raises(InvalidInput, match="mode='sequential'"):
        system.learn(late_task(), mode="single", **RUN)
    assert system.network.digests() == before and list(system.tasks) == ["task0", "task1"]


def test_a_late_task_takes_the_path_it_is_given() -> None:
    system = pp.learn("part", tiny_images(2), **TINY, **RUN)
    rows = [[0, 2]] * 9
    with pytest.raises(InvalidInput, match="9 rows required"):
        system.learn(late_task(), mode="sequential", paths={"late": rows[:4]}, **RUN)
    system.learn(late_task(), mode="sequential", paths={"late": rows}, **RUN)
    assert isinstance(system.network, Grid) and system.network.rows("late") == rows
