"""AdaShare: paths of chosen blocks, the search that chooses them, the choice among draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.methods.adashare import AdaShare
from polypath.nn.policy import PolicyNetwork
from polypath.nn.residual import ResidualConfig
from polypath.testing import tiny_images

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
THIN = {"kind": "resnet18", "stem": "paper", "width": 1 / 8}
TINY: dict[str, Any] = {
    "backbone": THIN, "epochs": 1, "batch": 8, "decay_at": [], "search_epochs": 2, "warmup_epochs": 1, "draws": 1,
}  # fmt: skip


def network(tasks: int = 2) -> PolicyNetwork:
    suite = tiny_images(tasks, size=32)
    made = PolicyNetwork(ResidualConfig(backbone=THIN, inputs=suite.tasks[0].task.inputs))
    for item in suite:
        made.add_task(item.task)
    return made.eval()


def test_a_path_holds_the_chosen_blocks_and_every_projection() -> None:
    made = network()
    made.set_policy("task0", [True, False, False, True, False, True, True, False])
    assert made.path("task0").steps == (
        ("stem",), ("block1",), ("shortcut3",), ("block4",), ("shortcut5",), ("block6",), ("block7", "shortcut7"),
        ("head.t0",),
    )  # fmt: skip
    with pytest.raises(InvalidInput, match=r"one entry a block \(8\) is required, received 2"):
        made.set_policy("task0", [True, False])


def test_mixing_with_hard_weights_is_the_path_of_that_policy() -> None:
    made = network()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    policy = [True, False, True, False, False, True, False, True]
    made.set_policy("task1", policy)
    weights = torch.tensor([[1.0, 0.0] if run else [0.0, 1.0] for run in policy])
    with torch.no_grad():
        torch.testing.assert_close(made.mixed(x, "task1", weights), made(x, "task1"))
        half = made.mixed(x, "task1", torch.full((8, 2), 0.5))
    assert not torch.allclose(half, made(x, "task1"))


def test_what_a_task_skips_costs_it_nothing() -> None:
    made = network()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made.set_policy("task0", [False] * 8)
    with torch.no_grad():
        before = made(x, "task0")
        for number in range(1, 9):
            for value in made.part(f"block{number}").parameters():
                value.fill_(float("nan"))
        assert torch.equal(made(x, "task0"), before)


def test_policies_survive_saving_and_the_search_leaves_nothing_else(tmp_path: Any) -> None:
    system = pp.learn("adashare", tiny_images(2), **TINY, **RUN)
    system.save(tmp_path)
    again = pp.load(tmp_path).network
    assert isinstance(again, PolicyNetwork) and isinstance(system.network, PolicyNetwork)
    assert again.policies == system.network.policies
    assert set(again.probabilities) == {"task0", "task1"} and len(again.probabilities["task0"]) == 8
    assert {name.partition(".")[0] for name in again.components()} == {
        "stem", "head", *(f"block{n}" for n in range(1, 9)), "shortcut3", "shortcut5", "shortcut7"
    }  # fmt: skip


def test_blocks_that_the_curriculum_never_opened_always_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the warm-up one epoch opens block 8 alone: it may be skipped, the other seven were not learned about."""
    monkeypatch.setattr("polypath.methods.adashare.drawn_policy", lambda table, stream: [False] * len(table))
    system = pp.learn("adashare", tiny_images(2), **TINY, **RUN)
    assert isinstance(system.network, PolicyNetwork)
    for name, probabilities in system.network.probabilities.items():
        assert system.network.policies[name] == [True] * 7 + [False]
        assert probabilities[:-1] == [1.0] * 7 and probabilities[-1] != 0.5


def test_a_search_that_is_all_warm_up_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"warmup_epochs must be less than search_epochs.*received 10 of 8"):
        AdaShare(search_epochs=8)
    assert AdaShare(search_epochs=11).config.opened(10) == 1


def test_draws_are_not_measured_on_the_way() -> None:
    """Until now the setting was accepted and nothing was measured."""
    with pytest.raises(InvalidInput, match="evaluate_every must be 0.*received 1"):
        AdaShare(evaluate_every=1)


@pytest.mark.parametrize(
    ("passes", "search", "warmup", "every", "draws", "epochs"),
    [
        (4, 1, 0, 1, 1, 3),
        (20, 5, 1, 1, 1, 15),  # never eight draws of one epoch; four epochs open four blocks
        (40, 10, 2, 1, 3, 10),
        (200, 50, 10, 3, 8, 18),  # the authors' search: a block every three epochs
        (400, 100, 20, 6, 8, 37),
    ],
)
def test_a_paced_search_opens_all_blocks_where_it_can(
    passes: int, search: int, warmup: int, every: int, draws: int, epochs: int
) -> None:
    method = AdaShare()
    paced = method.paced(passes, 2)
    wanted = {"search_epochs": search, "warmup_epochs": warmup, "curriculum_every": every, "draws": draws}
    assert {key: paced[key] for key in wanted} == wanted and paced["epochs"] == epochs
    config = method.config.changed(**paced)
    assert config.opened(search - 1) == min(8, search - warmup)


def test_a_search_that_was_given_keeps_its_length() -> None:
    paced = AdaShare(search_epochs=2, warmup_epochs=1).paced(200, 2)
    assert (paced["search_epochs"], paced["warmup_epochs"], paced["curriculum_every"]) == (2, 1, 1)


@pytest.mark.parametrize("passes", [1, 8, 40])
def test_a_warm_up_that_was_given_fits_into_a_paced_search(passes: int) -> None:
    """A timed comparison begins with one pass."""
    method = AdaShare(warmup_epochs=10)
    config = method.config.changed(**method.paced(passes, 2))
    assert (config.search_epochs, config.warmup_epochs) == (11, 10)


def test_several_draws_are_told_apart_on_validation_examples_only() -> None:
    suite = tiny_images(2)
    without = Suite("without", tuple(replace(item, val=None) for item in suite))
    with pytest.raises(InvalidInput, match=r"3 drawn policies by validation loss, but \['task0', 'task1'\]"):
        pp.learn("adashare", without, **{**TINY, "draws": 3}, **RUN)
    assert pp.learn("adashare", without, **TINY, **RUN).tasks
