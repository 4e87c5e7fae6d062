"""Convolution filters made from a small shared tensor: transposed convolution, then tensor contraction.

Source: Lee, Stokes and Eaton 2019 (DF-CNN), section 2.2, equations 1 and 2; the two ablations, appendix A; biases and
initial values as in the authors' code, which the paper does not mention.
Shape suffixes: k basis channels, c channels of the base, o outputs, i inputs, d maps, h w filter, p q transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F


def kernel_size_of(base: int, stride: int = 2) -> int:
    """Side of the filters that a base of side `base` grows to: (base - 1) * stride + 1."""
    return (base - 1) * stride + 1


def base_size_of(kernel: int, stride: int = 2) -> int:
    """Side of the base whose transposed convolution has side `kernel`.

    Raises:
        ValueError: the size rule h = (base - 1) * stride + 1 never gives `kernel`; names the nearest that it gives.
    """
    if kernel < 1 or stride < 1:
        raise ValueError(f"kernel and stride must be at least 1, received {kernel} and {stride}")
    steps, rest = divmod(kernel - 1, stride)
    if rest:
        below, above = kernel_size_of(steps + 1, stride), kernel_size_of(steps + 2, stride)
        raise ValueError(
            f"a kernel of side {kernel} cannot be generated: stride {stride} reaches (base - 1) * {stride} + 1, the "
            f"nearest are {below} and {above}; choose one of these kernels, or a stride that divides {kernel - 1}"
        )
    return steps + 1


def deconvolved(
    base_dchw: torch.Tensor, transform_ckpq: torch.Tensor, bias_k: torch.Tensor | None, stride: int = 2
) -> torch.Tensor:
    """Basis (d, k, h, w) of filters: transposed convolution with SAME padding, no non-linearity after it.

    Args:
        base_dchw: d maps of c channels.
        transform_ckpq: of odd side.
        bias_k: one number a basis channel, or None.
        stride: growth, see `kernel_size_of`.

    Raises:
        ValueError: channels that do not match, an even transform.
    """
    if base_dchw.shape[1] != transform_ckpq.shape[0]:
        raise ValueError(
            f"the base has {base_dchw.shape[1]} channels, but the transform takes {transform_ckpq.shape[0]}; "
            f"received {tuple(base_dchw.shape)} and {tuple(transform_ckpq.shape)}"
        )
    side = transform_ckpq.shape[2]
    if side % 2 == 0:
        raise ValueError(f"the transform needs an odd side (its SAME padding is symmetric), received {side}")
    return F.conv_transpose2d(base_dchw, transform_ckpq, bias_k, stride=stride, padding=side // 2)


def contracted(basis_khw: torch.Tensor, mixing_oik: torch.Tensor) -> torch.Tensor:
    """Filters (o, i, h, w) = sum over k of basis[k, h, w] * mixing[o, i, k] (equation 2).

    The mixing tensor keeps k last: one matrix product gives the filters in the order that convolutions read.
    """
    k, h, w = basis_khw.shape
    o, i, mixed = mixing_oik.shape
    if mixed != k:
        raise ValueError(f"the basis has {k} channels, but the contraction takes {mixed}")
    return (mixing_oik.reshape(o * i, k) @ basis_khw.reshape(k, h * w)).reshape(o, i, h, w)


def contracted_twice(basis_dkhw: torch.Tensor, inputs_id: torch.Tensor, outputs_ok: torch.Tensor) -> torch.Tensor:
    """Filters (o, i, h, w) = sum over d and k of basis[d, k, h, w] * inputs[i, d] * outputs[o, k] (DF-CNN.tc2)."""
    d, k, h, w = basis_dkhw.shape
    if inputs_id.shape[1] != d or outputs_ok.shape[1] != k:
        raise ValueError(
            f"the basis has {d} maps of {k} channels, but the contractions take {inputs_id.shape[1]} and "
            f"{outputs_ok.shape[1]}"
        )
    by_output = torch.einsum("dkn,ok->odn", basis_dkhw.reshape(d, k, h * w), outputs_ok)
    return torch.einsum("odn,id->oin", by_output, inputs_id).reshape(len(outputs_ok), len(inputs_id), h, w)


def direct(basis_nhw: torch.Tensor, outputs: int) -> torch.Tensor:
    """Filters (o, i, h, w) that the transposed convolution made itself: n = o * i (DF-CNN.direct)."""
    n, h, w = basis_nhw.shape
    if n % outputs:
        raise ValueError(f"{n} basis channels cannot be dealt out to {outputs} outputs")
    return basis_nhw.reshape(outputs, n // outputs, h, w)


def glorot_limit(shape: Sequence[int]) -> float:
    """Half width of Glorot's uniform distribution by TensorFlow's reading of a shape.

    The last two axes are inputs and outputs, all axes before them the receptive field; a vector counts as (1, n).
    """
    if len(shape) == 1:
        fan_in, fan_out = 1, shape[0]
    else:
        field = math.prod(shape[:-2])
        fan_in, fan_out = field * shape[-2], field * shape[-1]
    return math.sqrt(6.0 / (fan_in + fan_out))
