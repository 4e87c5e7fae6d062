"""Nested levels of a network: which level every weight belongs to when the units of its layers are split in groups.

Level k uses the units of groups 1..k of every layer. A weight reaches from a unit to one of the same or a higher
group, so no unit of a lower group depends on a higher one; such a weight belongs to the level of the unit it feeds.
Weights from higher to lower groups are nobody's: zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from polypath.core.errors import InvalidInput
from polypath.nn.spaces import Space, Template, maskable
from polypath.ops.ownership import share_count

NOBODY = 255
NARROWED = frozenset({"mlp", "conv", "resnet18", "mobilenetv2"})
"""Kinds of backbone of which an extracted level is an ordinary narrow network: chains, and sums of units in place."""


@dataclass(frozen=True)
class Reads:
    """What one layer reads.

    Args:
        units: of the layers before, as many as its inputs or a divisor of them: flattening lays a channel out over
            several inputs. 0 for the network's own inputs, which every level reads whole.
        each: a depthwise convolution, whose unit reads only the unit of its own number.
    """

    units: int
    each: bool = False


class Nested:
    """Levels of every weight of a backbone.

    Args:
        template: the backbone's spaces.
        ratios: cumulative parts of the units of every layer, level by level, increasing, in (0, 1].

    Raises:
        InvalidInput: a layer with too few units for a group each (names it), or one whose units cannot be told apart
            by position (attention, grouped convolutions).
    """

    def __init__(self, template: Template, ratios: Sequence[float]) -> None:
        self.ratios = tuple(ratios)
        self._reads: dict[tuple[str, str], Reads] = {}
        before = 0
        for piece, space in template.spaces.items():
            for path, layer in space.module.named_modules():
                if "attention" in type(layer).__name__.lower():
                    raise InvalidInput(
                        f"layer {piece}.{path} is attention, whose heads do not follow the positions of units; levels "
                        "of channels are for linear and convolutional networks: use select='magnitude'"
                    )
                if maskable(layer):
                    self._reads[piece, f"{path}.weight".lstrip(".")] = _reads(f"{piece}.{path}", layer, before)
                    before = int(layer.weight.shape[0])
                    self.groups(before, f"{piece}.{path}")
        self._last = before

    def groups(self, units: int, layer: str = "") -> torch.Tensor:
        """(units,) uint8: the group of every unit, 0 for the first; NOBODY beyond the last ratio.

        Raises:
            InvalidInput: a group would have no unit; names the layer.
        """
        ends = [share_count(ratio, units) for ratio in self.ratios]
        found = torch.full((units,), NOBODY, dtype=torch.uint8)
        begin = 0
        for number, end in enumerate(ends):
            if end <= begin:
                raise InvalidInput(
                    f"layer {layer} has {units} units, of which none is left for level {number + 1} of ratios "
                    f"{[round(ratio, 4) for ratio in self.ratios]}; use a wider layer or fewer levels"
                )
            found[begin:end] = number
            begin = end
        return found

    def levels(self, space: Space, entry: str) -> torch.Tensor:
        """(size,) uint8: the level that owns each weight of a masked entry of the backbone, NOBODY for none."""
        reads, shape = self._reads[space.name, entry], space.masked[entry]
        out = self.groups(shape[0], f"{space.name}.{entry}")
        if reads.each:
            inside = out[:, None]
        else:
            inside = self._inputs(reads.units, shape[1])[None, :]
        allowed = inside <= out[:, None]
        level = torch.where(allowed, out[:, None], torch.full_like(out[:, None], NOBODY))
        return level.view(*level.shape, *([1] * (len(shape) - 2))).expand(shape).reshape(-1)

    def widths(self, space: Space, entry: str) -> torch.Tensor:
        """(size,) uint8: the first level whose units are wide enough for both ends of each weight of a masked entry."""
        piece = space.name.partition("@")[0]  # of its own for a task with other inputs: the same units
        reads, shape = self._reads[piece, entry], space.masked[entry]
        ends = self.groups(shape[0], f"{space.name}.{entry}")[:, None]
        inside = ends if reads.each else self._inputs(reads.units, shape[1])[None, :]
        level = torch.maximum(ends, inside)
        return level.view(*level.shape, *([1] * (len(shape) - 2))).expand(shape).reshape(-1)

    def head(self, space: Space, level: int) -> torch.Tensor:
        """(size,) bool: weights of a level's head, which read the units of its groups."""
        outputs, features = space.masked["weight"]
        return (self._inputs(self._last, features) <= level).expand(outputs, features).reshape(-1)

    @torch.no_grad()
    def narrow(self, space: Space, module: nn.Module, level: int) -> None:
        """Leave the units of higher groups out of a composed piece or head, in place.

        Groups are stretches from the first unit on, so what is left are the first units of every layer; no unit of
        these reads one that goes.
        """
        with torch.device("cpu"):
            for path, layer in list(module.named_modules()):
                if space.name.startswith("head"):
                    assert isinstance(layer, nn.Linear)
                    _shrink(layer, layer.out_features, self._below(self._inputs(self._last, layer.in_features), level))
                elif maskable(layer):
                    piece = space.name.partition("@")[0]  # of its own for a task with other inputs: the same units
                    reads = self._reads[piece, f"{path}.weight".lstrip(".")]
                    out, count = (int(size) for size in layer.weight.shape[:2])
                    inside = 1 if reads.each else self._below(self._inputs(reads.units, count), level)
                    _shrink(layer, self._below(self.groups(out), level), inside)
                elif isinstance(layer, _BatchNorm):
                    _shrink(layer, self._below(self.groups(layer.num_features), level), 0)

    def _below(self, groups: torch.Tensor, level: int) -> int:
        return int((groups <= level).sum())

    def _inputs(self, units: int, count: int) -> torch.Tensor:
        """(count,) group of every input of a layer that reads `units` units."""
        if not units:
            return torch.zeros(count, dtype=torch.uint8)
        if count % units:
            return self.groups(count)
        return self.groups(units).repeat_interleave(count // units)


def _shrink(layer: nn.Module, out: int, inside: int) -> None:
    """Keep the first `out` units of a layer and the first `inside` of its inputs."""
    for key, value in list(layer._parameters.items()):
        if value is not None:
            kept = value[:out, :inside] if value.ndim > 1 else value[:out]
            layer._parameters[key] = nn.Parameter(kept.clone())
    for key, buffer in list(layer._buffers.items()):
        if buffer is not None and buffer.ndim:
            layer._buffers[key] = buffer[:out].clone()
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = out, inside
    elif isinstance(layer, _BatchNorm):
        layer.num_features = out
    else:
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        each = layer.groups > 1
        layer.groups = out if each else 1
        layer.out_channels, layer.in_channels = out, out if each else inside


def _reads(name: str, layer: nn.Module, before: int) -> Reads:
    """What a layer reads, when the one before it has so many units (0: it is the first)."""
    assert isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    count = int(layer.weight.shape[1]) * groups
    if groups > 1:
        if groups == count and layer.weight.shape[0] == count:
            return Reads(count, each=True)
        raise InvalidInput(
            f"layer {name} is a convolution in {groups} groups; levels of channels are for plain and depthwise "
            "convolutions: use select='magnitude'"
        )
    if not before:
        return Reads(0)
    flattened = isinstance(layer, nn.Linear) and count != before and count % before == 0
    return Reads(before if flattened else count)
