"""DEN: selection by reachability, growth that earlier tasks do not see, splitting, sparsity."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.methods.den import alive, incoming_norm, selection, split
from polypath.nn.expanding import Expanding, ExpandingConfig
from polypath.system import System
from polypath.testing import tiny_features, tiny_images

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
MLP: dict[str, Any] = {"kind": "mlp", "hidden": [3, 2]}
SUITE = tiny_features(3)


def network(backbone: dict[str, Any] = MLP, suite: Any = SUITE) -> Expanding:
    made = Expanding(ExpandingConfig.of({"backbone": backbone, "inputs": suite.tasks[0].task.inputs}))
    made.add_task(suite.tasks[0].task)
    return made


def learned(**settings: Any) -> System:
    values = {
        "backbone": {"kind": "mlp", "hidden": [6, 5]},
        "epochs": 10,
        "batch": 4,
        "learning_rate": 0.05,
        "units": 2,
    }
    return pp.learn("den", SUITE.only(SUITE.names[:2]), **RUN, **{**values, **settings})


def test_units_are_selected_from_the_head_down_over_weights_that_are_not_zero() -> None:
    """Head reads unit 1 of the last layer, which reads units 0 and 2 of the first: 1 of 2 and 2 of 3 are trained."""
    made = network()
    with torch.no_grad():
        made.head_of("task0").weight.copy_(torch.tensor([[0.0, 1.0], [0.0, -2.0]]))
        made.blocks["fc2-g0-from0"].copy_(torch.tensor([[1.0, 1.0, 1.0], [0.5, 0.0, -0.5]]))
    masks = selection(made, "task0")
    assert masks["fc2-g0-bias"].tolist() == [False, True]
    assert masks["fc2-g0-from0"].tolist() == [[False] * 3, [True, False, True]]
    assert masks["fc1-g0-bias"].tolist() == [True, False, True]
    assert masks["fc1-g0-from0"].all(1).tolist() == [True, False, True]


@pytest.mark.parametrize("backbone", [MLP, {"kind": "dfcnn", "channels": [2, 2, 2, 2], "hidden": [3]}])
def test_growing_changes_nothing_for_tasks_that_were_there(backbone: dict[str, Any]) -> None:
    suite = SUITE if backbone is MLP else tiny_images(2, size=8)
    made = network(backbone, suite).eval()
    data = suite.tasks[0]
    inputs = data.task.preprocess.encode(data.train.inputs(slice(0, 3)))
    with torch.no_grad():
        before, path = made(inputs, data.name), made.path(data.name)
        made.grow([2] * len(made.layers))
        assert torch.equal(made(inputs, data.name), before) and made.path(data.name) == path
        made.add_task(suite.tasks[1].task)
        assert made(inputs, suite.tasks[1].name).shape == (3, 2)
        assert set(path.components) - {path.components[-1]} < set(made.path(suite.tasks[1].name).components)


def test_emptied_units_are_deleted_with_their_columns() -> None:
    made = network()
    group = made.grow([2, 2])
    made.stamp("task0")
    with torch.no_grad():
        for key in [k for k in made.blocks if k.startswith(f"fc1-g{group}-from")]:
            made.blocks[key][0] = 0
    made.shrink(group, alive(made, group))
    assert made.groups == [[3, 2], [1, 2]]
    assert made.blocks["fc1-g1-from0"].shape == (1, 8)
    assert made.blocks["fc2-g1-from1"].shape == (2, 1) and made.blocks["fc2-g0-from1"].shape == (2, 1)
    assert made.head_of("task0").in_features == 4


def test_split_units_go_back_and_copies_stay_moved() -> None:
    made = network()
    before = {key: block.detach().clone() for key, block in made.blocks.items()}
    with torch.no_grad():
        made.blocks["fc1-g0-from0"][1] += 1.0  # one unit of three moves far
        moved = made.blocks["fc1-g0-from0"][1].clone()
    outgoing = made.blocks["fc2-g0-from0"][:, 1].detach().clone()
    assert split(made, "task0", before, above=0.05)
    assert made.groups == [[3, 2], [1, 0]]
    assert torch.equal(made.blocks["fc1-g0-from0"], before["fc1-g0-from0"])
    assert torch.equal(made.blocks["fc1-g1-from0"][0], moved)
    assert torch.equal(made.blocks["fc2-g0-from1"][:, 0], outgoing)
    assert not split(made, "task0", {k: b.detach().clone() for k, b in made.blocks.items()}, above=0.05)


def test_at_most_so_many_units_of_a_layer_are_split_and_they_moved_furthest(caplog: pytest.LogCaptureFixture) -> None:
    """Uncapped, units that all moved double the trunk at every task, and that is told."""
    for most, expected in ((None, [3, 2]), (2, [2, 2]), (1, [1, 1]), (9, [3, 2])):
        caplog.clear()
        made = network()
        before = {key: block.detach().clone() for key, block in made.blocks.items()}
        with torch.no_grad():
            made.blocks["fc1-g0-from0"] += torch.tensor([[0.2], [0.9], [0.5]])
            made.blocks["fc2-g0-from0"] += torch.tensor([[0.2], [0.3]])
        furthest = made.blocks["fc1-g0-from0"][1].detach().clone()
        assert split(made, "task0", before, above=0.05, most=most)
        assert made.groups == [[3, 2], expected]
        copies = made.blocks["fc1-g1-from0"]
        assert any(torch.equal(copy, furthest) for copy in copies)
        assert ("split_most" in caplog.text) == (expected == [3, 2])


def test_a_head_reads_a_copy_as_it_read_the_original() -> None:
    made = network()
    before = {key: block.detach().clone() for key, block in made.blocks.items()}
    with torch.no_grad():
        made.blocks["fc2-g0-from0"][1] += 1.0
    read = made.head_of("task0").weight[:, 1].detach().clone()
    assert split(made, "task0", before, above=0.05)
    assert torch.equal(made.head_of("task0").weight[:, 2], read)


def test_later_tasks_grow_the_trunk_where_the_loss_asks_for_it() -> None:
    grown = learned(loss_above=0.0, drift_above=1e9).network
    assert isinstance(grown, Expanding)
    assert grown.groups[0] == [6, 5] and len(grown.groups) == 2
    assert grown._stamps == {"task0": 0, "task1": 1}
    same = learned(loss_above=1e9, drift_above=1e9).network
    assert isinstance(same, Expanding) and len(same.groups) == 1
    cut = learned(loss_above=0.0, drift_above=1e9, group_lasso=1e4).network
    assert isinstance(cut, Expanding) and cut.groups[1] == [0, 0]  # the lasso empties every added unit
    halved = learned(loss_above=1e9, drift_above=0.0).network
    assert isinstance(halved, Expanding) and len(halved.groups) == 2 and sum(halved.groups[1]) > 0


def test_l1_leaves_exact_zeros() -> None:
    system = learned(l1=0.5, loss_above=1e9, drift_above=1e9)
    assert any((block == 0).any() for block in system.network.blocks.values())  # type: ignore[union-attr]


def test_norms_run_over_all_blocks_of_a_unit() -> None:
    found = incoming_norm([torch.tensor([[3.0], [0.0]]), torch.tensor([[0.0, 4.0], [1.0, 0.0]])])
    assert found.tolist() == [5.0, 1.0]


def test_pieces_with_batchnorm_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'conv1' is not.*norm='none'"):
        network({"kind": "conv", "blocks": [[3]], "dense": [3], "norm": "batch"}, tiny_images(1, size=8))


def test_removing_the_newest_task_takes_its_units_away() -> None:
    system = learned(loss_above=0.0, drift_above=1e9)
    removal = system.remove("task1")
    assert {"unit.fc1.g1", "unit.fc2.g1", "late.fc2.g0.from1"} <= set(removal.freed)
    assert system.network.groups == [[6, 5]]  # type: ignore[union-attr]


def test_weights_that_are_not_selected_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither weight decay nor the thresholds of l1 may move them; nothing selected, the whole trunk stays."""

    def none_of(network: Expanding, task: str, zero: float) -> dict[str, torch.Tensor]:
        return {key: torch.zeros_like(mask) for key, mask in selection(network, task, zero).items()}

    first = learned(loss_above=1e9, drift_above=1e9)
    before = {key: block.detach().clone() for key, block in first.network.blocks.items()}  # type: ignore[union-attr]
    monkeypatch.setattr("polypath.methods.den.selection", none_of)
    first.learn(tiny_features(3).tasks[2], weight_decay=0.1, l1=0.1, **RUN)
    for key, block in first.network.blocks.items():  # type: ignore[union-attr]
        assert torch.equal(block, before[key]), key


def test_thresholds_are_the_released_codes_unless_scaled_by_the_learning_rate() -> None:
    """A step of l1 = 0.01 empties weights that one scaled by a rate of 0.05 leaves."""
    zeros = []
    for scaled in (False, True):
        system = learned(l1=0.01, loss_above=1e9, drift_above=1e9, scaled_thresholds=scaled)
        made = system.network
        assert isinstance(made, Expanding)
        zeros.append(sum(int((block == 0).sum()) for block in made.blocks.values()))
        chosen = selection(made, "task1")
        assert all(bool(mask.all()) for mask in chosen.values()) == scaled
    assert zeros[0] > zeros[1] == 0
    assert not any(mask.any() for mask in selection(made, "task1", zero=1e9).values())


def test_an_emptied_system_begins_again_with_a_first_task(monkeypatch: pytest.MonkeyPatch) -> None:
    from polypath.methods.den import DEN

    phases: list[str] = []
    phase = DEN._phase

    def noted(self: DEN, *args: Any, **kwargs: Any) -> None:
        phases.append(args[5])
        phase(self, *args, **kwargs)

    monkeypatch.setattr(DEN, "_phase", noted)
    system = learned()
    for name in list(system.tasks):
        system.remove(name)
    phases.clear()
    system.learn(SUITE.tasks[0], **RUN)
    assert phases == ["first"] and system.network.epochs == 10  # type: ignore[union-attr]
