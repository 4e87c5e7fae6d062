"""What a report draws of an evolved system: its components, its models, how they came about and how it grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polypath.core import accounting
from polypath.core.network import Network
from polypath.nn.layered import Layered
from polypath.nn.lineage import lineage


def evolution_record(network: Network, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """JSON for the record of a run; {} for a network that is not evolved.

    Args:
        network: as it is at the end of the run.
        lines: the run's journal.

    Returns:
        `components`: name -> slot, `last` (task that trained it last, None: the root's), parameters, parent, in the
        order in which they came; `models`: one for every learned task, with score, the task whose model it descends
        from, components, hyper-parameters, and the share of every task in its training steps; `growth`: a row for every
        active task iteration of this run, in parameters; `generations`: the children of each.
    """
    if not isinstance(network, Layered):
        return {}
    sizes = accounting.parameter_counts(network)
    components = {
        name: {"slot": record.slot, "last": record.last, "parameters": sizes[name], "parent": record.parent}
        for name, record in network.records.items()
    }
    models = []
    for task in network.tasks:
        model = network.model_of(task)
        if model.score is None:
            continue
        parent = network.models[model.parent] if model.parent is not None else None
        models.append(
            {
                "task": task,
                "score": model.score,
                "parent": None if parent is None else parent.task,
                "groups": list(model.groups),
                "components": [name for _, name in model.layers],
                "hyperparameters": dict(model.hyperparameters),
                "shares": lineage(network, task).shares,
            }
        )
    growth = [_without(line, ("kind", "stage", "epoch")) for line in lines if "retained" in line]
    return {"components": components, "models": models, "growth": growth, "generations": _generations(lines)}


def _generations(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keep = ("number", "parent", "score", "kept")
    return [
        {
            "task": line["search"],
            "activation": line["activation"],
            "generation": line["generation"],
            "parents": line["parents"],
            "best": None if line["best"] is None else line["best"]["number"],
            "children": [{key: child[key] for key in keep} for child in line["children"]],
        }
        for line in lines
        if "search" in line
    ]


def _without(line: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in keys}
