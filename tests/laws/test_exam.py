"""The laws find what they are for: every law is shown a method that breaks it, and says so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import polypath.nn.grid
import polypath.nn.layouts
from polypath import removal
from polypath.core import accounting
from polypath.core.accounting import Cost, Removal
from polypath.core.component import Component
from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.method import Stage
from polypath.core.network import Extracted, Network
from polypath.methods.packnet import PackNet
from polypath.methods.part import PaRT
from polypath.nn.grid import Grid
from polypath.store import Store
from polypath.system import System
from polypath.testing import LAWS, Candidate, LawBroken, examine, law_one_task_agrees, tiny_features, tiny_images
from polypath.trial import Trial

Patch = pytest.MonkeyPatch
TINY: dict[str, Any] = {"modules": 3, "selected": 2, "width": 2, "epochs": 2, "batch": 8, "batch_set": 1}


def exam(**settings: Any) -> Candidate:
    return Candidate(lambda: PaRT(**{**TINY, **settings}))


@cache
def sound(mode: str) -> System:
    return exam(mode=mode).learned


# ---- sabotage: one function a broken promise ----------------------------------------------------------------------


def forgets_a_component(patch: Patch) -> None:
    def components(self: Grid) -> dict[str, Component]:
        used = {name for path in self.paths().values() for name in path.components}
        free = next(name for name in whole(self) if name not in used)
        return {name: part for name, part in whole(self).items() if name != free}

    whole = Grid.components
    patch.setattr(Grid, "components", components)


def plans_with_a_tuple(patch: Patch) -> None:
    plain = Grid.plan
    patch.setattr(Grid, "plan", lambda self: {**plain(self), "added": (self._added,)})


def assigns_no_statistics(patch: Patch) -> None:
    assign = Network.assign

    def partly(self: Network, values: Any) -> None:
        kept = self.state_dict()
        assign(self, values)
        parts = self.components()
        for name, held in values.items():
            for local, tensor in held.items():
                if "running_mean" in local and kept[parts[name].tensors[local]].is_meta:
                    assign(self, {name: {local: torch.zeros_like(tensor)}})

    patch.setattr(Network, "assign", partly)


def extracts_with_an_error(patch: Patch) -> None:
    patch.setattr(Extracted, "forward", lambda self, x: self.network.walk(x, self.path) * (1 + 2**-23))


def folds_without_eps(patch: Patch) -> None:
    def folded(conv: Any, norm: Any) -> Any:
        norm = copy.deepcopy(norm)
        norm.eps = 0.01
        return fold(conv, norm)

    fold = polypath.nn.layouts.folded
    patch.setattr(polypath.nn.layouts, "folded", folded)


def shares_too_long_a_prefix(patch: Patch) -> None:
    def many(self: Network, inputs: torch.Tensor, tasks: Any) -> dict[str, torch.Tensor]:
        names = list(tasks)
        found = [self.walk(inputs, self.path(names[0]))] * len(names)
        return dict(zip(names, found, strict=True))

    patch.setattr(Network, "forward_many", many)


def multiplies_by_a_mask(patch: Patch) -> None:
    def outputs(self: Grid, value: torch.Tensor, names: Any) -> dict[str, torch.Tensor]:
        found = right(self, value, names)
        if names[0].startswith("head."):
            return found
        layer = names[0].split(".")[0]
        for key, module in self.pool.items():
            name = key.replace("-", ".")
            if name.startswith(f"{layer}.") and name not in found:
                found[name] = 0 * module.run(value, module.get_submodule("norms"))
        return found

    right = Grid.step_outputs
    patch.setattr(Grid, "step_outputs", outputs)


def trains_everything(patch: Patch) -> None:
    patch.setattr(Network, "trainable", lambda self, names: list(self.parameters()))


def counts_heads_twice(patch: Patch) -> None:
    right = accounting.cost

    def cost(network: Network, task: str) -> Cost:
        found = right(network, task)
        return Cost(found.parameters + 1, found.added_parameters, found.activated, found.flops, found.size_bytes)

    patch.setattr(accounting, "cost", cost)


def holds_gradients_but_not_statistics(patch: Patch) -> None:
    def apply(self: Network) -> None:
        for name in self._frozen & self.components().keys():
            for parameter in self.trainable([]) or self.tensors([name])[name].values():
                if isinstance(parameter, torch.nn.Parameter):
                    parameter.requires_grad_(False)

    patch.setattr(Network, "_apply_frozen", apply)
    patch.setattr(Trial, "moved", lambda self, tasks: [])


def shares_one_decaying_optimizer(patch: Patch) -> None:
    def optimizer(self: PaRT, network: Network, task: str) -> torch.optim.Optimizer:
        return torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=self.config.weight_decay)

    patch.setattr(PaRT, "_optimizer", optimizer)
    patch.setattr(Network, "freeze", lambda self, names: None)


def learns_new_tasks_only(patch: Patch) -> None:
    patch.setattr(PaRT, "stages", lambda self, new, known, run: [Stage(tuple(new))])


def draws_from_the_global_generator(patch: Patch) -> None:
    right = PaRT.build
    patch.setattr(PaRT, "build", lambda self, tasks, run: (torch.rand(1), right(self, tasks, run))[1])


def ignores_the_seed(patch: Patch) -> None:
    right = PaRT.build

    def build(self: PaRT, tasks: Any, run: Any) -> Grid:
        seed, run.seed = run.seed, 7
        try:
            return right(self, tasks, run)
        finally:
            run.seed = seed

    patch.setattr(PaRT, "build", build)
    patch.setattr(PaRT, "learn", lambda self, network, data, run: None)


def never_steps(patch: Patch) -> None:
    patch.setattr(PaRT, "learn", lambda self, network, data, run: None)


def draws_from_nowhere(patch: Patch) -> None:
    right = PaRT._optimizer

    def optimizer(self: PaRT, network: Network, task: str) -> torch.optim.Optimizer:
        with torch.no_grad():
            for parameter in network.trainable(network.path(task).components):
                parameter.add_(torch.rand(1, generator=nowhere).item() * 1e-3)
        return right(self, network, task)

    nowhere = torch.Generator().manual_seed(0)
    patch.setattr(PaRT, "_optimizer", optimizer)


def checkpoints_no_moments(patch: Patch) -> None:
    from polypath.train.engine import Engine

    right = Engine.epochs
    patch.setattr(
        Engine, "epochs", lambda self, n, *, steps, network, optimizers: right(self, n, steps=steps, network=network)
    )


def saves_no_history(patch: Patch) -> None:
    right = Store.write

    def write(self: Store, manifest: Any, blobs: Any, **options: Any) -> Any:
        return right(self, manifest.changed(history=[]), blobs, **options)

    patch.setattr(Store, "write", write)


def forgets_how_many_were_added(patch: Patch) -> None:
    right = Grid.restore.__func__  # type: ignore[attr-defined]

    def restore(cls: type[Grid], plan: Any, keep: Any = None) -> Grid:
        grid: Grid = right(cls, plan, keep)
        grid._rows = {name: rows[::-1][::-1] for name, rows in grid._rows.items()}
        grid.config = grid.config.model_copy(update={"seed": 1})
        return grid

    patch.setattr(Grid, "restore", classmethod(restore))


def writes_files_again(patch: Patch) -> None:
    def write(self: Store, manifest: Any, blobs: Any, **options: Any) -> Any:
        written = right(self, manifest, blobs, **options)
        for path in (self.folder / "components").glob("*/*"):
            path.write_bytes(path.read_bytes())
        return written

    right = Store.write
    patch.setattr(Store, "write", write)


def resets_nothing(patch: Patch) -> None:
    right = Grid.release

    def release(self: Grid, task: str) -> Any:
        held = copy.deepcopy(self.pool.state_dict())
        found = right(self, task)
        self.pool.load_state_dict(held)
        return found

    patch.setattr(Grid, "release", release)


def reports_no_residue(patch: Patch) -> None:
    right = System.remove

    def remove(self: System, task: str, *, cascade: bool = False) -> Any:
        found = right(self, task, cascade=cascade)
        return Removal(found.removed, found.freed, found.reset)

    patch.setattr(System, "remove", remove)


def damages_the_others(patch: Patch) -> None:
    right = Grid.release

    def release(self: Grid, task: str) -> Any:
        found = right(self, task)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(1.5)
        return found

    patch.setattr(Grid, "release", release)


def renames_in_the_list_alone(patch: Patch) -> None:
    right = Grid.plan_renamed.__func__  # type: ignore[attr-defined]

    def renamed(cls: type[Grid], plan: Any, old: str, new: str) -> Any:
        return {**right(cls, plan, old, new), "once": old}

    patch.setattr(Grid, "plan_renamed", classmethod(renamed))
    plan = Grid.plan
    patch.setattr(Grid, "plan", lambda self: {**plan(self), "once": "task0"})


def leaves_files_behind(patch: Patch) -> None:
    patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    patch.setattr("polypath.deletion.finish", lambda store: None)  # which looks whether they are gone


SABOTAGE: list[tuple[str, str, Callable[[Patch], None], str]] = [
    ("parallel", "components_partition_the_state", forgets_a_component, "belongs to no component"),
    ("parallel", "plan_is_json", plans_with_a_tuple, "it changes when it is written and read"),
    ("parallel", "restore_and_assign_reproduce", assigns_no_statistics, "components differ"),
    ("parallel", "extract_is_bit_identical", extracts_with_an_error, "outputs of 'task0' differ"),
    ("parallel", "fused_is_close", folds_without_eps, "outputs of 'task0' differ by"),
    ("parallel", "forward_many_equals_forward", shares_too_long_a_prefix, "outputs of 'task1' differ"),
    ("parallel", "off_path_cannot_influence", multiplies_by_a_mask, "outputs of 'task0' in evaluation"),
    ("parallel", "trainable_stays_on_the_path", trains_everything, "received"),
    ("parallel", "costs_are_counted", counts_heads_twice, "parameters said"),
    ("sequential", "isolation_as_declared", holds_gradients_but_not_statistics, "components differ"),
    ("sequential", "isolation_as_declared", shares_one_decaying_optimizer, "promised exact isolation"),
    ("parallel", "isolation_as_declared", learns_new_tasks_only, "was not refused"),
    ("parallel", "no_global_state_is_changed", draws_from_the_global_generator, "changed torch's generator"),
    ("parallel", "no_global_state_is_changed", never_steps, "call run.step"),
    ("parallel", "same_seed_same_system", ignores_the_seed, "with another seed"),
    ("parallel", "same_seed_same_system", draws_from_nowhere, "learned twice"),
    ("parallel", "killed_runs_resume", checkpoints_no_moments, "after 2 kills"),
    ("parallel", "killed_runs_resume", never_steps, "no epoch was seen"),
    ("parallel", "save_and_load", saves_no_history, "histories differ"),
    ("sequential", "loaded_continues_identically", forgets_how_many_were_added, "plans differ"),
    ("parallel", "store_never_overwrites", writes_files_again, "component file(s) again"),
    ("parallel", "removed_is_gone", resets_nothing, "reported as reset but is as it was"),
    ("parallel", "removed_is_gone", reports_no_residue, "residue does not name"),
    ("parallel", "removed_is_gone", damages_the_others, "path of 'task1'"),
    ("sequential", "removed_can_return", damages_the_others, "verify says"),
    ("parallel", "renamed_keeps_every_bit", renames_in_the_list_alone, "is still named in the plan"),
    ("parallel", "removed_is_in_no_file", leaves_files_behind, "values or addresses of"),
]


@pytest.mark.parametrize(
    ("mode", "law", "sabotage", "found"), SABOTAGE, ids=[f"{law}-{broken.__name__}" for _, law, broken, _ in SABOTAGE]
)
def test_a_broken_law_is_found(
    mode: str, law: str, sabotage: Callable[[Patch], None], found: str, monkeypatch: Patch
) -> None:
    candidate = exam(mode=mode)
    if law != "same_seed_same_system":  # the others need a sound system to begin with
        vars(candidate)["learned"] = copy.deepcopy(sound(mode))
    sabotage(monkeypatch)
    with torch.random.fork_rng(devices=[]), pytest.raises(LawBroken) as caught:
        LAWS[law](candidate)
    assert found in str(caught.value)


def test_every_law_is_shown_breaking() -> None:
    assert {law for _, law, _, _ in SABOTAGE} == set(LAWS)


def test_every_law_states_itself() -> None:
    assert all((law.__doc__ or "").strip() for law in LAWS.values())
    assert all(law.__name__ == f"law_{name}" for name, law in LAWS.items())


def test_modes_that_learn_differently_do_not_agree() -> None:
    makers = [lambda rate=rate: PaRT(**TINY, learning_rate=rate) for rate in (1e-3, 2e-3)]
    with pytest.raises(LawBroken, match="ends elsewhere"):
        law_one_task_agrees(makers, exam())


def test_examine_names_the_laws_that_hold() -> None:
    chosen = ["plan_is_json", "fused_is_close"]
    assert examine(lambda: PaRT(**{**TINY, "epochs": 1}), laws=chosen) == tuple(chosen)


def test_examine_collects_every_broken_law(monkeypatch: Patch) -> None:
    extracts_with_an_error(monkeypatch)
    shares_too_long_a_prefix(monkeypatch)
    with pytest.raises(LawBroken, match=r"(?s)2 of 3 laws broken:.*extract.*forward_many"):
        examine(
            lambda: PaRT(**{**TINY, "epochs": 1}),
            laws=["extract_is_bit_identical", "forward_many_equals_forward", "plan_is_json"],
        )


def test_an_unknown_law_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'plan_is_json'"):
        examine(lambda: PaRT(**TINY), laws=["plan_is_jsn"])


def test_a_suite_of_two_tasks_is_too_short() -> None:
    with pytest.raises(ValueError, match="three tasks or more, received 2"):
        Candidate(lambda: PaRT(**TINY), tiny_images(tasks=2))


def test_the_same_store_is_kept_apart(tmp_path: Path) -> None:
    # `twin` copies: what a law does to one system never reaches the next law.
    seen = exam(epochs=1)
    before = seen.network.digests()
    seen.twin().remove("task0")
    seen.grow(seen.twin()).save(tmp_path)
    assert list(seen.learned.tasks) == ["task0", "task1"] and seen.network.digests() == before
    assert seen.learned.store is None and Store.existing(tmp_path).manifest().tasks.keys() == set(seen.suite.names)


# ---- the suites ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny_images, tiny_features])
def test_tiny_suites_are_seeded_balanced_and_separable(make: Any) -> None:
    suite, again, other = make(classes=3), make(classes=3), make(classes=3, seed=1)
    for position, (one, two, three) in enumerate(zip(suite, again, other, strict=True)):
        assert torch.equal(one.train.inputs(), two.train.inputs()) and torch.equal(one.train.targets, two.train.targets)
        assert not torch.equal(one.train.inputs(), three.train.inputs())
        assert torch.bincount(one.train.targets).tolist() == [5 + position, 5, 5]
        assert one.val is not None and torch.bincount(one.val.targets).tolist() == [5, 5, 5]
        # Nearest training mean answers every test example: the classes lie apart.
        flat = one.train.inputs().flatten(1).double()
        means = torch.stack([flat[one.train.targets == c].mean(0) for c in range(3)])
        assert one.test is not None
        test = one.test.unseal()
        assert torch.equal(torch.cdist(test.inputs().flatten(1).double(), means).argmin(1), test.targets)


def test_component_is_exported_for_laws_of_ones_own() -> None:
    assert isinstance(next(iter(exam(epochs=1).network.components().values())), Component)


PACKED = {"backbone": {"kind": "mlp", "hidden": [6]}, "epochs": 1, "retrain_epochs": 0, "batch": 8}


def removes_what_others_need(network: Network, task: str, cascade: bool) -> tuple[str, ...]:
    return (task,)


def refuses_without_names(network: Network, task: str, cascade: bool) -> tuple[str, ...]:
    if task == "task0" and not cascade:
        raise InvalidInput("task0 is needed")
    return tuple(network.tasks)[list(network.tasks).index(task) :]


@pytest.mark.parametrize(
    ("sabotage", "laws", "found"),
    [
        (removes_what_others_need, ["removed_is_gone"], "'task0' was removed with"),
        (removes_what_others_need, ["removed_can_return"], "'task0' was removed although ['task1'] build on it"),
        (refuses_without_names, ["removed_is_gone"], "does not name ['task1']"),
    ],
)
def test_removing_what_others_build_on_is_found(
    sabotage: Callable[..., Any], laws: list[str], found: str, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(removal, "leaving", lambda system, task, cascade, keep: sabotage(system.network, task, cascade))
    with pytest.raises(LawBroken) as caught:
        examine(lambda: PackNet(**PACKED), laws=laws)
    assert found in str(caught.value)
