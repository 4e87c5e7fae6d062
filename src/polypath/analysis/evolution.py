"""What a report draws of an evolved system: its components, its models, how they came about and how it grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
        from, components, hyper-parameters, the optimizer steps of it and its ancestors on every task's data (up to the
        states that were kept), and the share of every task in its layers' training steps; `growth`: a row for every
        active task iteration of this run, in parameters; `generations`: the children of each; `checks`: what must be
        empty, see `score_falls` and `leaks`.
    """
    if not isinstance(network, Layered):
        return {}
    sizes = network.parameter_counts()
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
                "steps": {name: int(count) for name, count in model.facts.get("trained", {}).items()},
                "shares": lineage(network, task).shares,
            }
        )
    growth = [_without(line, ("kind", "stage", "epoch")) for line in lines if "retained" in line]
    checks = {"score_falls": score_falls(growth), "leaks": leaks(network)}
    generations = _generations(lines)
    return {"components": components, "models": models, "growth": growth, "generations": generations, "checks": checks}


def score_falls(growth: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Active iterations after which a task's best score was lower than before: none in a search that works.

    Args:
        growth: rows of `retained` (a task), `activation` and `score`, in order.
    """
    best: dict[str, float] = {}
    falls = []
    for row in growth:
        task, before = row["retained"], best.get(row["retained"])
        if before is not None and row["score"] < before:
            found = {"task": task, "activation": row["activation"], "before": before, "after": row["score"]}
            falls.append(found)
        best[task] = row["score"]
    return falls


def leaks(network: Layered) -> list[dict[str, str]]:
    """Models that a private task's data reached outside its group: none where access works.

    Looked at are the steps of every layer, ancestors included, and the models that a model descends from.
    """
    groups = {task: network.model_of(task).groups for task in network.tasks}
    found = []
    for task in network.tasks:
        line = lineage(network, task)
        seen = {name for layer in line.layers for name in layer.steps}
        seen |= {owner for number in line.ancestors if (owner := network.models[number].task) is not None}
        # A model carries the group of every private task in its ancestry: one that does not carry it must not know it.
        for source in sorted(seen - {task}):
            if not set(groups.get(source, ())) <= set(groups[task]):
                found.append({"task": task, "data": source})
    return found


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
