"""BatchNorm folded into the convolution before it."""

from __future__ import annotations

import torch
from torch import nn


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of one convolution that equals `norm(conv(x))` in eval mode.

    Computed in float64 and rounded once, so that the difference stays within 1e-5 relative in float32.

    Returns:
        weight (out, in / groups, kh, kw) and bias (out,), new tensors.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("BatchNorm without running statistics cannot be folded")
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = conv.bias.double() if conv.bias is not None else torch.zeros_like(gain)
    weight = conv.weight.double() * gain.view(-1, 1, 1, 1)
    return weight.float().detach(), ((bias - norm.running_mean.double()) * gain + norm.bias.double()).float().detach()


def plain_conv(weight: torch.Tensor, bias: torch.Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with the given values and the stride, padding and dilation of another (groups = 1)."""
    conv = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        like.kernel_size,  # type: ignore[arg-type]
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        device="meta",
    )
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv
