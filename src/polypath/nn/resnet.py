"""ResNet-18 in pieces that may be cut, also inside residual blocks.

Inside a block there are two values: what the first convolution made, which a head may read, and the block's input,
which the shortcut still needs. Between the two halves of a block they travel as the pair (inside, shortcut's input).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.task import Image, InputSpec
from polypath.nn.backbones import Backbone

STAGES = (64, 128, 256, 512)


class ResNet18Options(Config):
    """Shape of a ResNet-18.

    Args:
        stem: `cifar` (3x3 convolution, stride 1, no pooling: 0.555 G multiply-accumulates at 32x32) or `paper` (3x3,
            stride 2, then 3x3 max-pooling of stride 2: the Multi-Path paper's 35.05 M; stage 4 then has 1x1 maps, of
            whose 3x3 kernels only the centre sees an image).
        width: multiplies the channels 64, 128, 256, 512; rounded down.
    """

    stem: Literal["cifar", "paper"] = "cifar"
    width: float = Field(1.0, gt=0)


class FirstHalf(nn.Module):
    """conv3x3-BN-ReLU of a basic block; (B, C, H, W) to (inside, the block's input)."""

    def __init__(self, channels: int, wanted: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, wanted, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(wanted)

    def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pair that the second half takes."""
        return torch.relu(self.norm(self.conv(value))), value


class SecondHalf(nn.Module):
    """conv3x3-BN, plus the shortcut (1x1 convolution and BN where the shape changes), ReLU."""

    def __init__(self, channels: int, wanted: int, stride: int, last: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(wanted, wanted, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(wanted)
        plain = stride == 1 and channels == wanted
        self.shortcut = (
            nn.Identity()
            if plain
            else nn.Sequential(nn.Conv2d(channels, wanted, 1, stride, bias=False), nn.BatchNorm2d(wanted))
        )
        self.end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if last else nn.Identity()

    def forward(self, value: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """The block's output."""
        out: torch.Tensor = self.end(torch.relu(self.norm(self.conv(value[0])) + self.shortcut(value[1])))
        return out


class ResNet18(Backbone):
    """Pieces `stem`, then for block j of stage i `layeri_j_conv1` (its first half) and `layeri_j` (the rest).

    Convolutions have no bias and start from He's normal distribution (fan out), as torchvision's do.
    """

    Options = ResNet18Options
    cuts = ("layer3_1", "layer4_0_conv1", "layer4_0", "layer4_1_conv1", "layer4_1")
    """The paper's five branches (specification, section 3.2)."""

    def __init__(self, inputs: InputSpec, options: ResNet18Options) -> None:
        if not isinstance(inputs, Image):
            raise InvalidInput(f"backbone 'resnet18' takes images, received {inputs!r}; use 'mlp' or another kind")
        sizes = [max(1, int(channels * options.width)) for channels in STAGES]
        stride = 2 if options.stem == "paper" else 1
        stem: list[nn.Module] = [nn.Conv2d(inputs.channels, sizes[0], 3, stride, 1, bias=False)]
        stem += [nn.BatchNorm2d(sizes[0]), nn.ReLU()]
        stem += [nn.MaxPool2d(3, 2, 1)] if options.stem == "paper" else []
        pieces: dict[str, nn.Module] = {"stem": nn.Sequential(*stem)}
        before = sizes[0]
        for stage, wanted in enumerate(sizes, start=1):
            for block in range(2):
                step = 2 if stage > 1 and block == 0 else 1
                pieces[f"layer{stage}_{block}_conv1"] = FirstHalf(before, wanted, step)
                pieces[f"layer{stage}_{block}"] = SecondHalf(before, wanted, step, last=stage == 4 and block == 1)
                before = wanted
        super().__init__(pieces, before)
        he_normal(self)


def he_normal(module: nn.Module) -> None:
    """Draw every convolution from N(0, 2 / fan out); nothing is drawn on the meta device."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and not part.weight.is_meta:
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
