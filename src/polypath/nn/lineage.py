"""Whose data trained a model, and how much: read from the layers' records."""

from __future__ import annotations

from dataclasses import dataclass

from polypath.nn.layered import Layered


@dataclass(frozen=True)
class LayerLineage:
    """Where one layer of a model comes from.

    Args:
        slot: which layer of the architecture.
        component: its name.
        ancestors: components it was copied from that still exist, nearest first.
        steps: task -> optimizer steps on its data, in this layer and its ancestors.
        last: task that trained it last; None for a layer of the root.
    """

    slot: str
    component: str
    ancestors: tuple[str, ...]
    steps: dict[str, int]
    last: str | None


@dataclass(frozen=True)
class Lineage:
    """Whose data trained a task's model.

    Args:
        task: whose model.
        layers: from the input to the head.
        shares: task -> its part of all layers' training steps (0..1, in all 1); empty for an untrained model. What
            trained the root before it came here is not counted.
        ancestors: numbers of the models it descends from that still exist, nearest first.
    """

    task: str
    layers: tuple[LayerLineage, ...]
    shares: dict[str, float]
    ancestors: tuple[int, ...]


def lineage(network: Layered, task: str) -> Lineage:
    """Where a task's model comes from (the paper's knowledge-transfer analysis).

    Raises:
        UnknownName: no such task.
    """
    model = network.model_of(task)
    layers = []
    for slot, name in model.layers:
        record = network.records[name]
        ancestors = []
        parent = record.parent
        while parent is not None:
            ancestors.append(parent)
            parent = network.records[parent].parent
        layers.append(LayerLineage(slot, name, tuple(ancestors), dict(record.steps), record.last))
    sums: dict[str, int] = {}
    for layer in layers:
        for other, count in layer.steps.items():
            sums[other] = sums.get(other, 0) + count
    total = sum(sums.values())
    shares = {other: count / total for other, count in sums.items()} if total else {}
    models = []
    number = model.parent
    while number is not None:
        models.append(number)
        number = network.models[number].parent
    return Lineage(task, tuple(layers), shares, tuple(models))
