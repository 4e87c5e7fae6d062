"""MobileNetV2 in pieces, one an inverted residual block, in the two layouts of the Multi-Path paper."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.task import Image, InputSpec
from polypath.nn.backbones import Backbone
from polypath.nn.resnet import he_normal

# Expansion, channels, blocks, stride of the first (Sandler et al. 2018, table 2).
ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2Options(Config):
    """Shape of a MobileNetV2.

    Args:
        width: multiplies the channels; rounded to multiples of eight as in torchvision, which the paper's counts need.
        last: channels of the last convolution: `scaled` 1280 x width (the paper's "30/75/100 %") or `fixed` at least
            1280 (torchvision's rule, the paper's table 3).
        stem_stride: of the first convolution; 1 as the paper does on CIFAR.
    """

    width: float = Field(0.5, gt=0)
    last: Literal["scaled", "fixed"] = "scaled"
    stem_stride: Literal[1, 2] = 1


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection; the input is added where the shape stays."""

    def __init__(self, channels: int, wanted: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()]
        layers += [nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()]
        layers += [nn.Conv2d(inner, wanted, 1, bias=False), nn.BatchNorm2d(wanted)]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and channels == wanted

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, wanted, H / stride, W / stride)."""
        out: torch.Tensor = self.layers(value)
        return value + out if self.adds else out


class MobileNetV2(Backbone):
    """Pieces `stem`, `block1` to `block17`, `last`."""

    Options = MobileNetV2Options
    cuts = ("block14", "block17", "last")
    """After the first 80-channel block, the 160-channel block and the end: 30, 74 and 100 % with last="scaled"."""

    def __init__(self, inputs: InputSpec, options: MobileNetV2Options) -> None:
        if not isinstance(inputs, Image):
            raise InvalidInput(f"backbone 'mobilenetv2' takes images, received {inputs!r}; use 'mlp' or another kind")
        channels = _scaled(32, options.width)
        pieces: dict[str, nn.Module] = {
            "stem": nn.Sequential(
                nn.Conv2d(inputs.channels, channels, 3, options.stem_stride, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU6(),
            )
        }
        for expansion, plain, blocks, stride in ROWS:
            wanted = _scaled(plain, options.width)
            for number in range(blocks):
                block = InvertedResidual(channels, wanted, stride if number == 0 else 1, expansion)
                pieces[f"block{len(pieces)}"] = block
                channels = wanted
        last = _scaled(1280, options.width if options.last == "scaled" else max(1.0, options.width))
        pieces["last"] = nn.Sequential(
            nn.Conv2d(channels, last, 1, bias=False),
            nn.BatchNorm2d(last),
            nn.ReLU6(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        super().__init__(pieces, last)
        he_normal(self)


def _scaled(channels: int, width: float) -> int:
    """The nearest multiple of eight, at least 8 and never below 90 % of the product."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
