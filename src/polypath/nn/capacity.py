"""How full a network of subnetworks is, and how many more tasks of a size fit."""

from __future__ import annotations

from dataclasses import dataclass

from polypath.core.errors import InvalidInput
from polypath.core.network import Network
from polypath.nn.subnet import Subnetworks
from polypath.nn.subnet_config import share_of
from polypath.ops.ownership import share_count


@dataclass(frozen=True)
class LayerCapacity:
    """One shared layer.

    Args:
        size: weights in all.
        free: weights that nobody owns.
        fits: how many more tasks of the asked share fit into this layer.
    """

    size: int
    free: int
    fits: int

    @property
    def free_share(self) -> float:
        """Free weights / all weights, 0..1."""
        return self.free / self.size


@dataclass(frozen=True)
class Capacity:
    """A whole network.

    Args:
        share: size of the tasks that were asked about, as a part of every layer.
        fits: how many more of them fit; the fullest layer decides.
        layers: layer (`fc1.0.weight`) -> how full it is; layers that only one task can use are left out.
    """

    share: float
    fits: int
    layers: dict[str, LayerCapacity]


def capacity_of(network: Network, share: float | None = None) -> Capacity:
    """How full every shared layer is; counted from shapes, so nothing needs to be loaded.

    Args:
        network: of subnetworks (RSN2, PackNet, CPG).
        share: size of further tasks, in (0, 1]; None takes the network's own where it is one number.

    Raises:
        InvalidInput: the tasks of this network do not own parts of layers, or are levels of channels; no share given
            and none that counts for all tasks; a share out of range.
    """
    if not isinstance(network, Subnetworks):
        raise InvalidInput(
            f"capacity: the tasks of a {type(network).__name__} own no parts of layers; only networks of subnetworks "
            "(methods rsn2, packnet, cpg) fill up"
        )
    if network.config.levels:
        raise InvalidInput(
            f"capacity: this network's levels of channels were set when it was built ({len(network.config.levels)}, of "
            f"which {len(network.tasks)} have a task); weights between levels that nobody owns can never be used"
        )
    wanted = network.config.share if share is None else share
    each = share_of(wanted, "a further task")
    layers = {}
    for name, space in network.spaces.items():
        if "@" in name:  # one task's own
            continue
        for entry in space.masked:
            size = space.size(entry)
            held = sum(network.part(f"{name}.{owner}").counts()[entry] for owner in network.owners(name))
            count = share_count(each, size)
            fits = (size - held) // count if count else 0
            # Heads are a layer for each number of outputs; they fill up like any other.
            layers[f"{name}.{entry}"] = LayerCapacity(size, size - held, fits)
    if not layers:
        return Capacity(each, int(1 / each + 1e-9), {})
    return Capacity(each, min(layer.fits for layer in layers.values()), layers)
