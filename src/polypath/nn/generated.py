"""A convolution whose filters are generated from a knowledge base that tasks share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from polypath.ops.filters import contracted, contracted_twice, deconvolved, direct, glorot_limit

Variant = Literal["contraction", "tc2", "direct"]


class KnowledgeBase(nn.Module):
    """The shared tensor of one layer: (maps, channels, height, width).

    Args:
        maps: 1, or the paper's d for tc2.
        channels: c-hat.
        size: h-hat and w-hat.
    """

    def __init__(self, maps: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.empty(maps, channels, *size))
        glorot_(self.values, (maps, *size, channels))


class SharedConv2d(nn.Module, ABC):
    """A convolution whose filters are made from a shared base and the task's own parameters.

    In eval mode, without gradients, the filters are made once and kept until one of the tensors they come from is
    changed or replaced. Subclasses write `generated`.

    Args:
        like: the ordinary convolution to stand in for (shape, stride, padding, dilation); its values are not used.
        base: what is shared, held without owning it.
    """

    def __init__(self, like: nn.Conv2d, base: nn.Module) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = like.stride, like.padding, like.dilation
        self.bias = nn.Parameter(torch.empty(like.out_channels)) if like.bias is not None else None
        self._base = (base,)  # in a tuple: not registered here, its owner is the network
        self._kept: tuple[tuple[object, ...], torch.Tensor] | None = None

    @abstractmethod
    def generated(self) -> torch.Tensor:
        """Filters (outputs, inputs, height, width), made now."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The convolution with the task's filters."""
        return F.conv2d(inputs, self.filters(), self.bias, self.stride, self.padding, self.dilation)

    def filters(self) -> torch.Tensor:
        """Filters (outputs, inputs, height, width), generated or kept."""
        if self.training or torch.is_grad_enabled() or next(self.parameters()).is_meta:
            self._kept = None
            return self.generated()
        sources = [*self._base[0].parameters(), *(p for name, p in self.named_parameters() if name != "bias")]
        if any(tensor.is_inference() for tensor in sources):  # they do not count their changes
            return self.generated()
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in sources)
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, self.generated())
        return self._kept[1]

    def plain(self) -> nn.Conv2d:
        """An ordinary convolution with today's filters."""
        weight = self.generated().detach().clone(memory_format=torch.contiguous_format)
        outputs, inputs, height, width = weight.shape
        conv = nn.Conv2d(
            inputs,
            outputs,
            (height, width),
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.dilation,  # type: ignore[arg-type]
            bias=self.bias is not None,
            device="meta",
        )
        conv.weight = nn.Parameter(weight)
        if self.bias is not None:
            conv.bias = nn.Parameter(self.bias.detach().clone())
        return conv


class GeneratedConv2d(SharedConv2d):
    """DF-CNN's convolution: the task's own transforms of a knowledge base.

    Args:
        like: the ordinary convolution to stand in for (shape, stride, padding, dilation); its values are not used.
        base: the layer's knowledge base, held without owning it.
        variant: `contraction` (the paper's), `tc2` or `direct`.
        basis: channels of the basis (c); not used by `direct`.
        stride: of the transposed convolution.
        side: of its transform (p).
    """

    def __init__(
        self, like: nn.Conv2d, base: KnowledgeBase, *, variant: Variant, basis: int, stride: int, side: int
    ) -> None:
        super().__init__(like, base)
        maps, channels = base.values.shape[:2]
        self.variant, self.growth, self.outputs = variant, stride, like.out_channels
        inputs, outputs = like.in_channels, like.out_channels
        wide = inputs * outputs if variant == "direct" else basis
        self.transform = nn.Parameter(torch.empty(channels, wide, side, side))
        glorot_(self.transform, (side, side, wide, channels))
        self.transform_bias = nn.Parameter(torch.empty(wide))
        glorot_(self.transform_bias, (wide,))
        if variant == "contraction":
            self.mixing = nn.Parameter(torch.empty(outputs, inputs, basis))
            glorot_(self.mixing, (basis, inputs, outputs))
        elif variant == "tc2":
            self.mixing_inputs = nn.Parameter(torch.empty(inputs, maps))
            glorot_(self.mixing_inputs, (maps, inputs))
            self.mixing_outputs = nn.Parameter(torch.empty(outputs, basis))
            glorot_(self.mixing_outputs, (basis, outputs))
        if self.bias is not None:
            glorot_(self.bias, (outputs,))

    def generated(self) -> torch.Tensor:
        """Filters (outputs, inputs, height, width), made now."""
        base = self._base[0]
        assert isinstance(base, KnowledgeBase)
        basis = deconvolved(base.values, self.transform, self.transform_bias, self.growth)
        if self.variant == "contraction":
            return contracted(basis[0], self.mixing)
        if self.variant == "tc2":
            return contracted_twice(basis, self.mixing_inputs, self.mixing_outputs)
        return direct(basis[0], self.outputs)


def glorot_(tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Fill with Glorot's uniform distribution of a TensorFlow shape (`polypath.ops.filters.glorot_limit`)."""
    limit = glorot_limit(shape)
    nn.init.uniform_(tensor, -limit, limit)


def convolutions(module: nn.Module) -> dict[str, nn.Conv2d]:
    """Name -> convolution whose filters can be generated, in order: plain ones, not grouped, that pad with zeros.

    Classes derived from `nn.Conv2d` do more than convolve (timm's standardise their weights or pad as TensorFlow does).
    """
    return {
        name: m
        for name, m in module.named_modules()
        if type(m) is nn.Conv2d and m.groups == 1 and m.padding_mode == "zeros"
    }


def replaced(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """The module with its submodule `name` replaced; `new` itself where the name is empty."""
    if not name:
        return new
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, new)
    return module


def default_basis(conv: nn.Conv2d, variant: Variant) -> int:
    """Basis channels where the paper gives none: as many as filters, for `tc2` and the paper's shape three quarters."""
    return math.ceil(conv.out_channels * 0.75) if variant == "tc2" else conv.out_channels
