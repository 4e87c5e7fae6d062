"""What methods on a network of owners (RSN2, PackNet, NestedNet, CPG) have in common: making it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from polypath.core.task import Task
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import SubnetConfig


def empty_network(
    values: Mapping[str, Any], tasks: Sequence[Task], admit: Callable[[Subnetworks, Task], None]
) -> Subnetworks:
    """The network without an owner, once all tasks were added to a copy without values.

    Whatever does not fit is refused here, before the first task is learned, and not when its turn comes.

    Args:
        values: of `SubnetConfig`.
        tasks: that will be added.
        admit: adds one, as the method does.

    Raises:
        InvalidInput: shares that sum above 1 in a layer (names it), layers too small, patterns without a match.
    """
    config = SubnetConfig.of(values, "method")
    with torch.device("meta"):
        planned = Subnetworks(config)
        for task in tasks:
            admit(planned, task)
    return Subnetworks(config)
