"""Values of owned weights: initial ones, dense ones composed for a step, and those of an extracted path."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from polypath.core.seeds import generator, seeded
from polypath.core.task import InputSpec
from polypath.nn.backbones import backbone
from polypath.nn.compact import compacted
from polypath.nn.fold import folded_copy
from polypath.nn.ownership import Part, version_of
from polypath.nn.spaces import Space, maskable, tied
from polypath.ops.ownership import Buffers, binarised, compose, limited

if TYPE_CHECKING:
    from polypath.nn.subnet_config import SubnetConfig

STD = 0.05  # of the authors' initial weights (Keras' random_normal)


def composed(
    space: Space,
    parts: Sequence[Part],
    entry: str,
    base: torch.Tensor | None = None,
    buffers: Buffers | None = None,
) -> torch.Tensor:
    """The dense weight of a masked entry, from its owners."""
    positions, values = [part.positions(entry) for part in parts], [part.values(entry) for part in parts]
    return compose(space.size(entry), positions, values, base, buffers).view(space.masked[entry])


@dataclass(frozen=True, eq=False)
class Base:
    """The composed weight of owners that are not learning, and what it was composed of."""

    values: list[nn.Parameter]
    versions: list[int]
    weight: torch.Tensor

    def of(self, held: Sequence[nn.Parameter]) -> bool:
        """Whether these are the same tensors, unchanged."""
        return len(held) == len(self.values) and all(
            now is then and version_of(now) == version
            for now, then, version in zip(held, self.values, self.versions, strict=True)
        )


class Values:
    """What a network computes from its parts and may keep: never state."""

    def __init__(self) -> None:
        self._bases: dict[str, Base] = {}
        self._soft: weakref.WeakKeyDictionary[Part, dict[str, tuple[nn.Parameter, float]]]
        self._soft = weakref.WeakKeyDictionary()
        self._limits: weakref.WeakKeyDictionary[Part, dict[str, torch.Tensor]] = weakref.WeakKeyDictionary()
        self._built: tuple[tuple[object, ...], dict[str, nn.Module]] | None = None
        self._buffers = Buffers()

    def forget(self) -> None:
        """Drop everything kept."""
        self._bases.clear()
        self._built = None
        self._buffers.clear()

    def __deepcopy__(self, memo: object) -> Values:
        """An empty one: what is kept belongs to the tensors of one network."""
        return Values()

    def soften(self, part: Part, entry: str, real: nn.Parameter | None, threshold: float) -> None:
        """Choose among older weights by a real mask while learning; None ends it."""
        masks = self._soft.setdefault(part, {})
        if real is None:
            masks.pop(entry, None)
        else:
            masks[entry] = (real, threshold)

    def limit(self, part: Part, entry: str, keep: torch.Tensor | None) -> None:
        """Let what is composed for this part be zero outside `keep` while learning; None ends it."""
        masks = self._limits.setdefault(part, {})
        if keep is None:
            masks.pop(entry, None)
        else:
            masks[entry] = keep

    # ---- initial values ---------------------------------------------------------------------------------------

    def initial(
        self, space: Space, owner: str, config: SubnetConfig, inputs: InputSpec
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """(masked entry -> whole tensor, dense entry -> tensor) that an owner starts from."""
        module = self._module(space, owner, config, inputs)
        state = {key: value.detach().clone() for key, value in module.state_dict().items()}
        if config.init == "normal":
            for entry, shape in space.masked.items():
                if entry.rpartition(".")[2] != "bias":
                    stream = generator(config.seed, "initial", space.name, owner, entry)
                    state[entry] = torch.randn(shape, generator=stream) * STD
            for path, layer in module.named_modules():
                bias = f"{path}.bias".lstrip(".")
                if bias in state and maskable(layer):
                    state[bias].zero_()
        return {key: state[key] for key in space.masked}, {key: state[key] for key in (*space.dense, *space.buffers)}

    def _module(self, space: Space, owner: str, config: SubnetConfig, inputs: InputSpec) -> nn.Module:
        """The piece with the backbone's own initial values for this owner."""
        if space.name.startswith("head"):
            outputs, features = space.masked["weight"]
            with torch.device("cpu"), seeded(config.seed, "head", owner):
                return nn.Linear(features, outputs)
        key = (owner, config.seed, str(inputs))
        if self._built is None or self._built[0] != key:
            with torch.device("cpu"), seeded(config.seed, "backbone", owner):
                self._built = (key, dict(backbone(config.backbone, inputs).pieces.items()))
        return self._built[1][space.name.partition("@")[0]]

    # ---- one step ---------------------------------------------------------------------------------------------

    def state(self, space: Space, parts: Sequence[Part]) -> tuple[dict[str, torch.Tensor], bool]:
        """Everything a piece needs to run, by entry, and whether its statistics are held still."""
        self._built = None  # a network that runs has its initial values; a dense backbone is not kept beside it
        if not torch.is_grad_enabled():
            self._buffers.clear()  # scoring, answering: memory of training steps is not held meanwhile
        dense = next(part for part in reversed(parts) if part.dense)
        state = dense.dense_state(space)
        for entry in space.masked:
            state[entry] = self._weight(space, parts, entry)
        return state, not dense.stats.training

    def _weight(self, space: Space, parts: Sequence[Part], entry: str) -> torch.Tensor:
        mine = parts[-1]
        if mine.values(entry).is_meta:  # planned: a shape is all there is
            return torch.empty(space.masked[entry], device="meta")
        weight = self._composed(space, mine, parts[:-1], entry)
        keep = self._limits.get(mine, {}).get(entry)
        return weight if keep is None else limited(weight, keep.view(weight.shape))

    def _composed(self, space: Space, mine: Part, older: Sequence[Part], entry: str) -> torch.Tensor:
        if mine.pick._buffers:
            return self._with_choice(space, mine, older, entry)
        if not older:
            return composed(space, [mine], entry, buffers=self._buffers)
        if any(part.values(entry).requires_grad for part in older):  # all learn together (nested subnetworks)
            return composed(space, [*older, mine], entry, buffers=self._buffers)
        return composed(space, [mine], entry, self._base(space, older, entry))

    def _with_choice(self, space: Space, mine: Part, older: Sequence[Part], entry: str) -> torch.Tensor:
        """Own weights, and those of older owners that were chosen; these are constants whoever asks for gradients."""
        soft = self._soft.get(mine, {}).get(entry)
        if not older or (soft is None and not len(mine.picked(entry))):
            return composed(space, [mine], entry, buffers=self._buffers)
        at = mine.picked(entry) if soft is None else torch.cat([part.positions(entry) for part in older])
        values = self._base(space, older, entry).index_select(0, at)
        if soft is not None:
            values = values * binarised(soft[0], soft[1])
        own = mine.values(entry)
        return compose(space.size(entry), [mine.positions(entry), at], [own, values]).view(space.masked[entry])

    def _base(self, space: Space, older: Sequence[Part], entry: str) -> torch.Tensor:
        """The older owners' weights, flat; they do not change while somebody else learns, so they are composed once.

        One a layer is kept, whoever reads it, so that memory does not grow with the number of tasks.
        """
        held = [part.values(entry) for part in older]
        key = f"{space.name}.{entry}"
        found = self._bases.get(key)
        if found is None or not found.of(held) or found.weight.device != held[0].device:
            with torch.no_grad():
                weight = composed(space, older, entry).reshape(-1).detach()
            self._bases[key] = found = Base(held, [version_of(value) for value in held], weight)
        return found.weight


def fused(
    steps: Sequence[tuple[Space, Sequence[Part]]], narrow: Callable[[Space, nn.Module], None] | None = None
) -> nn.Module:
    """A plain network for a path: composed weights, BatchNorm folded, units that nothing reads left out.

    Args:
        steps: piece, and the owners that it is composed of, in order.
        narrow: takes units off a composed piece, in place, where it is known which ones are left out.
    """
    values = Values()
    pieces = []
    for space, parts in steps:
        module = copy.deepcopy(space.module).eval()
        state = values.state(space, parts)[0]
        copies = {
            key: tensor.detach().float().clone() if tensor.is_floating_point() else tensor.detach().clone()
            for key, tensor in state.items()
        }
        for names in tied(module):
            copies |= {name: copies[names[0]] for name in names}
        module.load_state_dict(copies, strict=False, assign=True)
        if narrow is not None:
            narrow(space, module)
        pieces.append(folded_copy(module))
        for part in parts:
            part.forget()  # a network that only answers needs its positions once
    return compacted(nn.Sequential(*pieces))
