"""The small convolutional networks of the DF-CNN paper (appendix B.3), with the initial values of its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import nn

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.task import Image, InputSpec
from polypath.nn.backbones import Backbone

# Layout -> (kernel, channels, side of the max-pooling after it or 0) of every convolution, widths of the dense layers.
LAYOUTS: dict[str, tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]] = {
    "cifar": (((3, 32, 0), (3, 32, 2), (3, 64, 0), (3, 64, 2)), (64,)),
    "mnist": (((5, 32, 2), (5, 64, 2)), (32,)),
    "office_home": (((11, 64, 3), (5, 256, 3), (3, 256, 2), (3, 256, 2)), (256, 64)),
}
WEIGHT_DEVIATION, BIAS = 0.05, 0.2


class SmallCnnOptions(Config):
    """A paper's network, with its widths or others.

    Args:
        layout: `cifar` (four 3x3 convolutions, 32 pixels), `mnist` (two 5x5), `office_home` (11x11, 5x5, 3x3, 3x3, 128
            pixels).
        channels: of the convolutions; None: the layout's. The paper's large networks: (48, 48, 96, 96) and
            (128, 256, 512, 512), its reduced one (24, 24, 48, 48).
        hidden: widths of the dense layers; None: the layout's. Large: (128,) and (1024, 128), reduced: (32,).
        dropout: before the first dense layer.
        initial: `paper` (normal with deviation 0.05 cut at twice that, biases 0.2) or `torch`.
        share_dense: dense layers belong to a shared trunk; otherwise every task has its own, as in the paper.
    """

    layout: Literal["cifar", "mnist", "office_home"] = "cifar"
    channels: tuple[int, ...] | None = None
    hidden: tuple[int, ...] | None = None
    dropout: float = Field(0.5, ge=0, lt=1)
    initial: Literal["paper", "torch"] = "paper"
    share_dense: bool = False

    @field_validator("channels", "hidden")
    @classmethod
    def _widths(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 1):
            raise ValueError(f"at least one width, each above 0, is required; received {list(value)}")
        return value


class SmallCnn(Backbone):
    """`conv1`, `conv2`, ..., then `dense1`, ...: convolutions with ReLU and max-pooling, all with SAME padding."""

    Options = SmallCnnOptions

    def __init__(self, inputs: InputSpec, options: SmallCnnOptions) -> None:
        if not isinstance(inputs, Image):
            raise InvalidInput(f"backbone 'dfcnn' takes images, received {inputs!r}; use 'mlp' or another kind")
        layers, hidden = LAYOUTS[options.layout]
        hidden = options.hidden or hidden
        wanted = options.channels or tuple(channels for _, channels, _ in layers)
        if len(wanted) != len(layers):
            raise InvalidInput(
                f"backbone 'dfcnn': channels: one number for each of {len(layers)} convolutions of "
                f"{options.layout!r} is required, received {list(wanted)}"
            )
        channels, height, width = inputs.shape
        pieces: dict[str, nn.Module] = {}
        for number, ((kernel, _, pool), out) in enumerate(zip(layers, wanted, strict=True), start=1):
            modules: list[nn.Module] = [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()]
            if pool:
                modules.append(SamePool(pool, (height, width)))
                height, width = -(-height // pool), -(-width // pool)
            pieces[f"conv{number}"] = nn.Sequential(*modules)
            channels = out
        size = channels * height * width
        for number, wide in enumerate(hidden, start=1):
            first = [nn.Flatten(), nn.Dropout(options.dropout)] if number == 1 else []
            pieces[f"dense{number}"] = nn.Sequential(*first, nn.Linear(size, wide), nn.ReLU())
            size = wide
        super().__init__(pieces, size)
        if options.initial == "paper":
            self.apply(paper_values_)

    @staticmethod
    def head(features: int, outputs: int) -> nn.Module:
        """A linear layer with the paper's initial values."""
        layer = nn.Linear(features, outputs)
        paper_values_(layer)
        return layer

    @staticmethod
    def task_pieces(config: Mapping[str, Any]) -> frozenset[str]:
        """The dense layers: the paper shares convolutions only."""
        options = SmallCnnOptions.of({key: value for key, value in config.items() if key != "kind"}, "backbone")
        hidden = options.hidden or LAYOUTS[options.layout][1]
        return frozenset() if options.share_dense else frozenset(f"dense{n}" for n in range(1, len(hidden) + 1))


class SamePool(nn.Module):
    """Max-pooling with stride = side and TensorFlow's SAME padding: ceil(size / side) cells, borders never win.

    Args:
        side: of the window.
        size: height and width that it is given.
    """

    def __init__(self, side: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.side = side
        missing = [-size_of % side for size_of in (size[1], size[0])]
        self.padding = [part for gap in missing for part in (gap // 2, gap - gap // 2)]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The largest value of every window."""
        if any(self.padding):
            inputs = F.pad(inputs, self.padding, value=float("-inf"))
        return F.max_pool2d(inputs, self.side)


def paper_values_(module: nn.Module) -> None:
    """Truncated normal weights (deviation 0.05, cut at two deviations) and biases of 0.2, as in the authors' code."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        cut = 2 * WEIGHT_DEVIATION
        nn.init.trunc_normal_(module.weight, std=WEIGHT_DEVIATION, a=-cut, b=cut)
        if module.bias is not None:
            nn.init.constant_(module.bias, BIAS)
