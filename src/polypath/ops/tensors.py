"""Tensor decompositions of the filters of several tasks, stacked along a last axis.

A stack (o, i, h, w, t) becomes shared factors and one vector for each task, so that a task's filters are linear in its
vector. Forms: Tucker (core and a factor an axis), tensor train, and last-axis flattening (a matrix product). Factors
have three axes at most: a core is kept as a matrix (all ranks but the tasks', tasks' rank). Source: Yang and Hospedales
2017 (DMTRL), section 3; higher-order SVD and TT-SVD as usual.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

Form = Literal["tucker", "tt", "laf"]
Factors = dict[str, torch.Tensor]
AXES = ("outputs", "inputs", "height", "width")


def factor_shapes(form: Form, shape: Sequence[int], rank: float = 1.0) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes of the shared factors of a stack, and the length of a task's vector.

    Args:
        form: of the decomposition.
        shape: (o, i, h, w, t).
        rank: share of the full rank of every unfolding, in (0, 1]; 1 represents any stack exactly.
    """
    *axes, tasks = shape
    if form == "laf":
        k = _share(min(math.prod(axes), tasks), rank)
        return {"basis": (math.prod(axes), k)}, k
    if form == "tucker":
        ranks = [_share(min(n, math.prod(shape) // n), rank) for n in shape]
        shapes: dict[str, tuple[int, ...]] = {name: (n, r) for name, n, r in zip(AXES, axes, ranks, strict=False)}
        return {**shapes, "core": (math.prod(ranks[:-1]), ranks[-1])}, ranks[-1]
    bonds = [_share(min(math.prod(shape[: p + 1]), math.prod(shape[p + 1 :])), rank) for p in range(4)]
    left = (1, *bonds)
    return {name: (left[p], axes[p], bonds[p]) for p, name in enumerate(AXES)}, bonds[-1]


def _share(full: int, rank: float) -> int:
    return max(1, min(full, math.ceil(full * rank)))


def decomposed(form: Form, stack: torch.Tensor, rank: float = 1.0) -> tuple[Factors, torch.Tensor]:
    """Shared factors and task vectors (t, k) of a stack (o, i, h, w, t), by truncated singular value decompositions.

    Computed in float64; exact to rounding with `rank` 1.
    """
    shapes, length = factor_shapes(form, stack.shape, rank)
    values = stack.double()
    if form == "laf":
        u, s, v = torch.linalg.svd(values.reshape(-1, stack.shape[-1]), full_matrices=False)
        basis = u[:, :length] * s[:length]
        return {"basis": basis.to(stack.dtype)}, v[:length].T.to(stack.dtype).contiguous()
    if form == "tucker":
        return _tucker(values, shapes, length, stack.dtype)
    return _train(values, shapes, stack.dtype)


def _tucker(
    values: torch.Tensor, shapes: Mapping[str, tuple[int, ...]], length: int, dtype: torch.dtype
) -> tuple[Factors, torch.Tensor]:
    factors: Factors = {}
    core = values
    vectors = values
    for axis, width in enumerate((*(shapes[name][1] for name in AXES), length)):
        unfolded = values.movedim(axis, 0).reshape(values.shape[axis], -1)
        u = torch.linalg.svd(unfolded, full_matrices=False)[0][:, :width]
        core = torch.tensordot(core, u, dims=([0], [0]))  # the axis goes to the end: after five rounds all are back
        if axis < 4:
            factors[AXES[axis]] = u.to(dtype).contiguous()
        else:
            vectors = u.to(dtype).contiguous()
    factors["core"] = core.reshape(-1, length).to(dtype).contiguous()
    return factors, vectors


def _train(
    values: torch.Tensor, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype
) -> tuple[Factors, torch.Tensor]:
    factors: Factors = {}
    rest = values.reshape(1, -1)
    for name in AXES:
        left, size, bond = shapes[name]
        u, s, v = torch.linalg.svd(rest.reshape(left * size, -1), full_matrices=False)
        factors[name] = u[:, :bond].reshape(left, size, bond).to(dtype).contiguous()
        rest = s[:bond, None] * v[:bond]
    return factors, rest.T.to(dtype).contiguous()


def recomposed(
    form: Form, factors: Mapping[str, torch.Tensor], vector: torch.Tensor, shape: Sequence[int]
) -> torch.Tensor:
    """Filters of the task whose vector (k,) is given, of the shape (o, i, h, w)."""
    if form == "laf":
        return (factors["basis"] @ vector).reshape(*shape)
    if form == "tucker":
        value = (factors["core"] @ vector).reshape([factors[name].shape[1] for name in AXES])
        for name in AXES:
            value = _contracted(value, factors[name], ([0], [1]))
        return value
    value = factors["outputs"][0]
    for name in AXES[1:]:
        value = _contracted(value, factors[name], 1)
    return value @ vector


def _contracted(value: torch.Tensor, factor: torch.Tensor, dims: int | tuple[list[int], list[int]]) -> torch.Tensor:
    # Under autocast a product may come out in another type than it went in, and tensordot wants both alike.
    found: torch.Tensor = torch.tensordot(value.to(factor.dtype), factor, dims=dims)
    return found
