"""What methods on a network of owners (RSN2, PackNet, NestedNet, CPG) have in common: making it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polypath.core.method import Method
from polypath.core.task import Task
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import SubnetConfig, common_shape


def empty_network(
    method: Method[Any], tasks: Sequence[Task], seed: int, same: Sequence[str], **values: Any
) -> Subnetworks:
    """The network without an owner, once all tasks were added to a copy without values.

    Whatever does not fit is refused here, before the first task is learned, and not when its turn comes.

    Args:
        method: whose backbone it is, and whose `admit` adds tasks.
        tasks: that will be added; the shared pieces take the inputs that most of them have.
        seed: of initial values.
        same: settings that the method and the network call alike.
        values: further ones of `SubnetConfig`.

    Raises:
        InvalidInput: shares that sum above 1 in a layer (names it), layers too small, patterns without a match.
    """
    own = {key: getattr(method.config, key) for key in ("backbone", *same)}
    config = SubnetConfig.of({**own, "inputs": common_shape(tasks).model_dump(), "seed": seed, **values}, "method")
    with torch.device("meta"):
        planned = Subnetworks(config)
        for task in tasks:
            method.admit(planned, task)
    return Subnetworks(config)
