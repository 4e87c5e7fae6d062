"""The two module grids of PaRT: what one module of a layer is, what follows the sum, how a path is merged.

Sizes: B batch, C channels, H and W pixels, N modules a task uses in a layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from polypath.nn.fold import folded, plain_conv


class GridModule(nn.Module, ABC):
    """One module of a grid: convolutions of its own, BatchNorms handed in (its own or a task's)."""

    @abstractmethod
    def norm_sizes(self) -> dict[str, int]:
        """Name of each BatchNorm it needs -> channels."""

    @abstractmethod
    def run(self, x: torch.Tensor, norms: nn.ModuleDict) -> torch.Tensor:
        """Output (B, C_out, H', W') before the sum over modules."""


class Layout(ABC):
    """What tells one grid from another.

    Args:
        width: channels of the first stage (64 in the paper).
        channels: channels of the input.
    """

    depth: int
    smallest: int = 1
    """Pixels that a side of the images needs."""

    def __init__(self, width: int, channels: int) -> None:
        self.width, self.channels = width, channels

    @property
    @abstractmethod
    def features(self) -> int:
        """Length of the vector the heads read."""

    @abstractmethod
    def make(self, layer: int) -> GridModule:
        """A new module of a layer (1..depth), initialised from the global generator."""

    @abstractmethod
    def tail(self, layer: int, total: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """What follows the sum over a layer's modules; `before` is what the modules received."""

    @abstractmethod
    def merge(self, layer: int, parts: Sequence[tuple[GridModule, nn.ModuleDict]]) -> nn.Module:
        """An ordinary module equal in eval mode to the layer over these modules, tail included."""


# ---- ResNet-18 grid for 32x32 images (PaRT, CIFAR experiments) ------------------------------------------------


class ConvPair(GridModule):
    """conv-BN-ReLU, or conv-BN-ReLU-conv-BN; 3x3, stride 1, with bias."""

    def __init__(self, channels_in: int, channels_out: int, *, single: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = None if single else nn.Conv2d(channels_out, channels_out, 3, padding=1)

    def norm_sizes(self) -> dict[str, int]:
        """One BatchNorm a convolution."""
        names = ["norm1"] if self.conv2 is None else ["norm1", "norm2"]
        return dict.fromkeys(names, self.conv1.out_channels)

    def run(self, x: torch.Tensor, norms: nn.ModuleDict) -> torch.Tensor:
        """Output (B, C_out, H, W)."""
        x = F.relu(norms["norm1"](self.conv1(x)))
        if self.conv2 is None:
            return x
        out: torch.Tensor = norms["norm2"](self.conv2(x))
        return out


@dataclass(frozen=True)
class _Row:
    grow: int  # channels out, in widths
    skip: bool
    pool: bool


class CifarLayout(Layout):
    """Nine layers; widths double at layers 4, 6 and 8 without projection, max-pool after layers 5 and 7.

    The skip is added once a layer, after the sum, never at layers 1, 4, 6, 8. Source: methods as published for the
    CIFAR experiments of the paper (section 4.1 and figure 2); counts a module at width 64: 1,920, 74,112, 74,112,
    221,952, 295,680, 886,272, 1,181,184, 3,542,016, 4,721,664.
    """

    depth = 9
    smallest = 4  # halved twice
    _rows = (
        _Row(1, False, False),
        _Row(1, True, False),
        _Row(1, True, False),
        _Row(2, False, False),
        _Row(2, True, True),
        _Row(4, False, False),
        _Row(4, True, True),
        _Row(8, False, False),
        _Row(8, True, False),
    )

    @property
    def features(self) -> int:
        """8 widths."""
        return 8 * self.width

    def make(self, layer: int) -> ConvPair:
        """A convolution pair with PyTorch's default initialisation."""
        before = self.channels if layer == 1 else self._rows[layer - 2].grow * self.width
        return ConvPair(before, self._rows[layer - 1].grow * self.width, single=layer == 1)

    def tail(self, layer: int, total: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Skip, ReLU, pooling; the last layer ends in global average pooling, (B, features)."""
        row = self._rows[layer - 1]
        out = F.relu(total + before if row.skip else total)
        if row.pool:
            out = F.max_pool2d(out, 2)
        return out.mean((2, 3)) if layer == self.depth else out

    def merge(self, layer: int, parts: Sequence[tuple[GridModule, nn.ModuleDict]]) -> nn.Module:
        """One wide convolution, ReLU, one wide convolution: the sum over modules is a sum over input channels."""
        row = self._rows[layer - 1]
        first, second, bias = [], [], None
        for module, norms in parts:
            assert isinstance(module, ConvPair)
            first.append(folded(module.conv1, norms["norm1"]))  # type: ignore[arg-type]
            if module.conv2 is not None:
                weight, shift = folded(module.conv2, norms["norm2"])  # type: ignore[arg-type]
                second.append(weight)
                bias = shift if bias is None else bias + shift
        like = parts[0][0].conv1
        assert isinstance(like, nn.Conv2d)
        wide = plain_conv(torch.cat([w for w, _ in first]), torch.cat([b for _, b in first]), like)
        if bias is None:
            return WideConvSum(wide, len(parts))
        return WideConvPair(wide, plain_conv(torch.cat(second, 1), bias, like), row.skip, row.pool, layer == self.depth)


class WideConvSum(nn.Module):
    """conv-ReLU over N * C channels, summed over the N groups (the merged first layer)."""

    def __init__(self, conv: nn.Conv2d, groups: int) -> None:
        super().__init__()
        self.conv, self.groups = conv, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W)."""
        parts = F.relu(self.conv(x), inplace=True).chunk(self.groups, 1)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class WideConvPair(nn.Module):
    """conv-ReLU-conv over N * C inner channels, then skip, ReLU and pooling (a merged layer of the CIFAR grid)."""

    def __init__(self, conv1: nn.Conv2d, conv2: nn.Conv2d, skip: bool, pool: bool, average: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv1, conv2
        self.skip, self.pool, self.average = skip, pool, average

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H', W'), or (B, C_out) where it ends in the average."""
        out = self.conv2(F.relu(self.conv1(x), inplace=True))
        out = F.relu(out.add_(x) if self.skip else out, inplace=True)
        if self.pool:
            out = F.max_pool2d(out, 2)
        return out.mean((2, 3)) if self.average else out


# ---- ResNet-50 grid (PaRT, FiveTasks and the representation study) -------------------------------------------


class Stem(GridModule):
    """conv7x7/2 - BN - ReLU - maxpool3/2."""

    def __init__(self, channels_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 7, stride=2, padding=3, bias=False)
        nn.init.normal_(self.conv1.weight, std=0.001)

    def norm_sizes(self) -> dict[str, int]:
        """One BatchNorm."""
        return {"bn1": self.conv1.out_channels}

    def run(self, x: torch.Tensor, norms: nn.ModuleDict) -> torch.Tensor:
        """Output (B, width, H / 4, W / 4)."""
        return F.max_pool2d(F.relu(norms["bn1"](self.conv1(x))), 3, stride=2, padding=1)


class BottleneckStage(GridModule):
    """A whole ResNet-50 stage: bottlenecks (stride in the 3x3, as torchvision), projection in the first."""

    def __init__(self, channels_in: int, inner: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.blocks, self.inner = blocks, inner
        outer = 4 * inner
        self.convs = nn.ModuleDict()
        for block in range(blocks):
            source, step = (channels_in, stride) if block == 0 else (outer, 1)
            self.convs[f"{block}_conv1"] = nn.Conv2d(source, inner, 1, bias=False)
            self.convs[f"{block}_conv2"] = nn.Conv2d(inner, inner, 3, stride=step, padding=1, bias=False)
            self.convs[f"{block}_conv3"] = nn.Conv2d(inner, outer, 1, bias=False)
            if block == 0:
                self.convs["0_downsample"] = nn.Conv2d(source, outer, 1, stride=step, bias=False)
        for conv in self.convs.values():
            nn.init.normal_(conv.weight, std=0.001)  # type: ignore[arg-type]

    def norm_sizes(self) -> dict[str, int]:
        """One BatchNorm a convolution, projections included."""
        return {self.norm_of(name): conv.out_channels for name, conv in self.convs.items()}  # type: ignore[misc]

    @staticmethod
    def norm_of(conv: str) -> str:
        """Name of the BatchNorm that follows a convolution."""
        return conv.replace("conv", "bn") if "conv" in conv else f"{conv}_bn"

    def run(self, x: torch.Tensor, norms: nn.ModuleDict) -> torch.Tensor:
        """Output (B, 4 * inner, H / stride, W / stride), after its last ReLU."""
        for block in range(self.blocks):
            inner = x
            for part in ("conv1", "conv2", "conv3"):
                inner = norms[f"{block}_bn{part[-1]}"](self.convs[f"{block}_{part}"](inner))
                if part != "conv3":
                    inner = F.relu(inner)
            short = norms["0_downsample_bn"](self.convs["0_downsample"](x)) if block == 0 else x
            x = F.relu(inner + short)
        return x


class ResNet50Layout(Layout):
    """Five layers: the stem and the four ResNet-50 stages; the outputs of a layer's modules are summed, nothing else.

    Source: paper section 4.2.2, appendix A. No convolution bias; convolutions start from N(0, 0.001) unless
    ImageNet values are copied in.
    """

    depth = 5
    _stages = ((1, 3, 1), (2, 4, 2), (4, 6, 2), (8, 3, 2))  # inner widths, blocks, stride

    @property
    def features(self) -> int:
        """32 widths (2048)."""
        return 32 * self.width

    def make(self, layer: int) -> GridModule:
        """The stem or a stage."""
        if layer == 1:
            return Stem(self.channels, self.width)
        inner, blocks, stride = self._stages[layer - 2]
        before = self.width if layer == 2 else 4 * self._stages[layer - 3][0] * self.width
        return BottleneckStage(before, inner * self.width, blocks, stride)

    def tail(self, layer: int, total: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Nothing, but for global average pooling after the last layer, (B, features)."""
        return total.mean((2, 3)) if layer == self.depth else total

    def merge(self, layer: int, parts: Sequence[tuple[GridModule, nn.ModuleDict]]) -> nn.Module:
        """The modules side by side with BatchNorm folded; stages with inner ReLUs cannot become one convolution."""
        return FoldedSum([_fold_stage(module, norms) for module, norms in parts], average=layer == self.depth)


def _fold_stage(module: GridModule, norms: nn.ModuleDict) -> nn.Module:
    if isinstance(module, Stem):
        conv = plain_conv(*folded(module.conv1, norms["bn1"]), module.conv1)  # type: ignore[arg-type]
        return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
    assert isinstance(module, BottleneckStage)
    done = {
        name: plain_conv(*folded(conv, norms[module.norm_of(name)]), conv)  # type: ignore[arg-type]
        for name, conv in module.convs.items()
    }
    blocks = []
    for block in range(module.blocks):
        inner = nn.Sequential(
            done[f"{block}_conv1"], nn.ReLU(), done[f"{block}_conv2"], nn.ReLU(), done[f"{block}_conv3"]
        )
        blocks.append(FoldedBottleneck(inner, done["0_downsample"] if block == 0 else nn.Identity()))
    return nn.Sequential(*blocks)


class FoldedBottleneck(nn.Module):
    """ReLU(inner(x) + short(x))."""

    def __init__(self, inner: nn.Module, short: nn.Module) -> None:
        super().__init__()
        self.inner, self.short = inner, short

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H', W')."""
        return F.relu(self.inner(x) + self.short(x))


class FoldedSum(nn.Module):
    """Sum of several modules' outputs, with or without global average pooling."""

    def __init__(self, parts: Sequence[nn.Module], average: bool) -> None:
        super().__init__()
        self.parts, self.average = nn.ModuleList(parts), average

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C_in, H, W) to (B, C_out, H', W') or (B, C_out)."""
        total = self.parts[0](x)
        for part in self.parts[1:]:
            total = total + part(x)
        return total.mean((2, 3)) if self.average else total


LAYOUTS: dict[str, type[Layout]] = {"cifar": CifarLayout, "resnet50": ResNet50Layout}
