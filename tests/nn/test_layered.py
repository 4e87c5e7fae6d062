"""A network of immutable layers: what is shared, what goes, what a model descends from, who may build on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from polypath.core import accounting
from polypath.core.errors import InvalidInput
from polypath.core.task import Task
from polypath.nn.evolved import ROOT, Candidate, NewLayer
from polypath.nn.layered import Layered, LayeredConfig
from polypath.nn.lineage import lineage
from polypath.testing import tiny_features


def tasks() -> list[Task]:
    return [data.task for data in tiny_features(3, columns=3)]


def network(*, private: str | None = None) -> Layered:
    """Three inputs, layers fc1 and fc2 of four; tasks task0, task1 and task2, of which `private` is."""
    root = {"kind": "mlp", "hidden": [4, 4], "embedding": 2}
    made = Layered(LayeredConfig.of({"root": root, "inputs": tasks()[0].inputs, "seed": 0}))
    for task in tasks():
        made.add_task(task.changed(private_to="clinic") if task.name == private else task)
    return made


def new(slot: str, size: tuple[int, int], fill: float, **more: Any) -> NewLayer:
    key = "" if slot == "head" else "0."
    tensors = {f"{key}weight": torch.full(size, fill), f"{key}bias": torch.full(size[:1], fill)}
    return NewLayer(slot, tensors, **more)


def head(fill: float, outputs: int = 2, **more: Any) -> NewLayer:
    return new("head", (outputs, 4), fill, outputs=outputs, **more)


def candidate(task: str, *layers: str | NewLayer, parent: int = ROOT, score: float = 0.5) -> Candidate:
    return Candidate(task, layers, {"mu": 0.2}, score, parent)


def test_a_task_begins_with_the_roots_layers_and_a_head_of_zeros() -> None:
    made = network()
    assert made.path("task0").steps == (("fc1.0",), ("fc2.1",), ("head.2",))
    assert not made(torch.ones(2, 3), "task0").any()


def test_retained_models_share_layers_by_reference() -> None:
    made = network()
    before = made.digests()
    made.retain(candidate("task0", "fc1.0", new("fc2", (4, 4), 1.0, parent="fc2.1", steps={"task0": 5}), head(1.0)))
    made.retain(candidate("task1", "fc1.0", "fc2.5", head(2.0), parent=made.model_of("task0").number))
    assert made.path("task0").steps == (("fc1.0",), ("fc2.5",), ("head.6",))
    assert made.path("task1").steps == (("fc1.0",), ("fc2.5",), ("head.7",))
    assert made.components()["fc2.5"].parent == "fc2.1"
    assert made.components()["fc1.0"].capacity and not made.components()["fc2.5"].capacity
    after = made.digests()
    assert after["fc1.0"] == before["fc1.0"] and after["fc2.1"] == before["fc2.1"]
    assert "head.2" not in after and "head.3" not in after  # the heads of zeros are gone, task2's is not
    assert accounting.check_partition(made) == []


def test_learning_again_replaces_the_model_and_descendants_find_the_nearest_ancestor() -> None:
    made = network()
    first = made.retain(
        candidate("task0", new("fc1", (4, 3), 1.0, parent="fc1.0", steps={"task0": 3}), "fc2.1", head(1.0))
    )
    other = made.retain(
        candidate(
            "task1",
            new("fc1", (4, 3), 2.0, parent="fc1.5", steps={"task0": 3, "task1": 4}),
            "fc2.1",
            head(2.0, steps={"task1": 4}),
            parent=first.number,
        )
    )
    made.retain(candidate("task0", "fc1.0", "fc2.1", head(3.0)))
    assert "fc1.5" not in made.components()
    assert made.components()["fc1.7"].parent == "fc1.0"
    assert made.models[other.number].parent == ROOT
    assert made.components()["fc1.7"].builds_on == ("task0", "task1")  # what is gone is not forgotten
    with pytest.raises(InvalidInput, match=r"\['task1'\] build on it"):
        accounting.tasks_to_remove(made, "task0", cascade=False)
    assert accounting.tasks_to_remove(made, "task0", cascade=True) == ("task0", "task1")


def test_lineage_gives_the_share_of_every_data_set() -> None:
    """fc1 3 steps of task0 and 4 of task1, head 4 of task1: 3/11 and 8/11."""
    made = network()
    made.retain(candidate("task0", new("fc1", (4, 3), 1.0, parent="fc1.0", steps={"task0": 3}), "fc2.1", head(1.0)))
    parent = made.model_of("task0").number
    layer = new("fc1", (4, 3), 2.0, parent="fc1.5", steps={"task0": 3, "task1": 4})
    made.retain(candidate("task1", layer, "fc2.1", head(2.0, steps={"task1": 4}), parent=parent))
    found = lineage(made, "task1")
    assert found.shares == pytest.approx({"task0": 3 / 11, "task1": 8 / 11})
    assert found.ancestors == (parent, ROOT)
    assert [(one.slot, one.ancestors, one.last) for one in found.layers] == [
        ("fc1", ("fc1.5", "fc1.0"), "task1"),
        ("fc2", (), None),
        ("head", (), "task1"),
    ]


def test_removing_a_task_deletes_its_own_layers_and_keeps_the_root() -> None:
    made = network()
    made.retain(candidate("task0", new("fc1", (4, 3), 1.0, steps={"task0": 3}), "fc2.1", head(1.0)))
    made.count_selections("task0", {ROOT: 7, 99: 3})
    made.count_selections("task1", {ROOT: 2})
    made.count_selections("task2", {ROOT: 0})  # a zero for every model and task would make the manifest quadratic
    assert made.plan()["selections"] == {"task0": [[ROOT, 7]], "task1": [[ROOT, 2]]}
    freed, reset = made.release("task0")
    assert sorted(freed) == ["fc1.5", "head.6"] and reset == []
    assert made.plan()["selections"] == {"task1": [[ROOT, 2]]} and made.selected("task1") == {ROOT: 2}
    for task in ("task1", "task2"):
        made.release(task)
    assert sorted(made.components()) == ["fc1.0", "fc2.1"]


def test_what_has_not_learned_is_nobodys_parent() -> None:
    """So what replaces it need not look for models and layers that descend from it."""
    made = network()
    with pytest.raises(InvalidInput, match="the parent, a model of 'task0', has not learned yet"):
        made.retain(candidate("task1", "fc1.0", "fc2.1", head(2.0), parent=made.model_of("task0").number))


def test_momentum_lies_beside_the_components_and_is_not_counted() -> None:
    made = network()
    size = accounting.total_parameters(made)
    trace = {"weight": torch.ones(2, 4, dtype=torch.bfloat16)}
    made.retain(candidate("task0", "fc1.0", "fc2.1", head(1.0, momentum=trace)))
    part = made.components()["head.5"]
    assert list(part.auxiliary) == ["weight"] and made.get_buffer(part.auxiliary["weight"]).dtype == torch.bfloat16
    assert accounting.total_parameters(made) == size
    again = Layered.restore(made.plan())
    assert again.components() == made.components()


def test_nobody_outside_the_group_builds_on_a_private_task() -> None:
    made = network(private="task1")
    inside, outside = made.task_named("task1"), made.task_named("task0")
    public = made.retain(candidate("task0", "fc1.0", "fc2.1", head(1.0)))
    private = made.retain(candidate("task1", "fc1.0", "fc2.1", head(2.0), parent=public.number))
    assert private.groups == ("clinic",)
    assert made.permitted(public, inside) and made.permitted(private, inside)
    assert not made.permitted(private, outside)
    assert made.permitted(private, outside.changed(private_to="clinic"))
    assert not made.permitted(private, outside.changed(private_to="bank"))
    # Nothing of the private model but its settings would be inherited; that is refused too.
    with pytest.raises(
        InvalidInput, match=r"task 'task0' \(private_to=None\) may not build on a model of \('clinic',\)"
    ):
        made.retain(candidate("task0", "fc1.0", "fc2.1", head(3.0), parent=private.number))
    again = Layered.restore(made.plan())
    assert not again.permitted(again.model_of("task1"), outside)


def test_models_that_do_not_fit_are_refused() -> None:
    made = network()
    with pytest.raises(InvalidInput, match="task 'task0' has 2 outputs, but the model's head was made for 3"):
        made.retain(candidate("task0", "fc1.0", "fc2.1", head(1.0, outputs=3)))
    with pytest.raises(InvalidInput, match=r"names \['fc2.9'\], which do not exist"):
        made.retain(candidate("task0", "fc1.0", "fc2.9", head(1.0)))
    with pytest.raises(InvalidInput, match="names parent 42"):
        made.retain(candidate("task0", "fc1.0", "fc2.1", head(1.0), parent=42))
    with pytest.raises(InvalidInput, match="bring its inputs to that shape"):
        made.add_task(tiny_features(1, columns=5).tasks[0].task.renamed("wide"))
