"""How long a search's winners were trained, so that a control can be trained as long."""

from __future__ import annotations

import math
from typing import Any

from polypath.core.errors import InvalidInput
from polypath.core.result import Result
from polypath.methods.jobs import steps_of
from polypath.methods.mu2net import Mu2NetConfig


def winner_passes(result: Result) -> dict[str, Any]:
    """`cycles_of`: passes over each task's training examples with as many steps as its winner's ancestry had.

    Counted are all optimizer steps up to the state that was kept, of the winner and of every model it descends from,
    whichever task's examples they saw; part of a pass counts as a whole one.

    Args:
        result: record of the search.

    Raises:
        InvalidInput: no record of a search, or one written before steps were recorded.
    """
    config = Mu2NetConfig.of(result.config.get("config", {}), "config")
    models = {model["task"]: model for model in result.analysis.get("evolution", {}).get("models", [])}
    passes: dict[str, int] = {}
    for task in result.tasks:
        steps = models.get(task.name, {}).get("steps")
        if not steps:
            raise InvalidInput(
                f"analysis.evolution.models: the training steps of the model of task {task.name!r} are required; "
                "run the search again"
            )
        passes[task.name] = math.ceil(
            sum(steps.values()) / steps_of(task.examples["train"], config.samples, config.batch)
        )
    return {"cycles_of": passes}
