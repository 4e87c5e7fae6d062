"""Linear layers of an extracted path as CSR matrices: faster where nearly all weights are zero, slower elsewhere.

Where it wins is measured by benchmarks/bench_sparse.py and recorded in docs/results.md: layers of at least `SMALLEST`
weights of which at most `DENSEST` are not zero, at every batch size measured. Everything else stays as it is.
"""

from __future__ import annotations

import logging
import warnings

import torch
from torch import nn

from polypath.core.errors import InvalidInput

log = logging.getLogger(__name__)

DENSEST = 0.1
"""Largest share of weights that are not zero at which CSR was faster at batch 1, 32 and 512."""

SMALLEST = 500_000
"""Fewest weights of a layer for that: a smaller one stays in the cache, where a dense product at batch 1 is as fast."""


class SparseLinear(nn.Module):
    """`nn.Linear` with its weight in CSR, for inference: (..., in) to (..., out), equal but for the order of sums.

    Memory: 4 bytes a value, 4 a column index and 4 a row; float32 on any device that multiplies CSR matrices.

    Args:
        linear: the layer; its values are copied.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", csr(linear.weight.detach()))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs (..., out)."""
        flat = inputs.reshape(-1, self.in_features)
        # CSR times dense is the product that the libraries make fast; dense times CSR takes ten times as long.
        out = (self.weight @ flat.t()).t()
        if self.bias is not None:
            out = out + self.bias
        return out.reshape(*inputs.shape[:-1], self.out_features)

    def __deepcopy__(self, memo: dict[int, object]) -> SparseLinear:
        """A copy; torch cannot copy CSR tensors by itself."""
        made = SparseLinear.__new__(SparseLinear)
        memo[id(self)] = made
        nn.Module.__init__(made)
        made.in_features, made.out_features = self.in_features, self.out_features
        made.register_buffer("weight", self.weight.clone())
        made.register_buffer("bias", None if self.bias is None else self.bias.clone())
        return made.train(self.training)

    def extra_repr(self) -> str:
        """Sizes, and how many weights are stored."""
        stored = self.weight.values().numel()
        return f"in_features={self.in_features}, out_features={self.out_features}, stored={stored}"


def csr(weight: torch.Tensor) -> torch.Tensor:
    """A (rows, columns) matrix in CSR with int32 indices."""
    with warnings.catch_warnings():
        # torch says once that CSR tensors are beta; what is used of them here is tested against dense layers.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        made = weight.to_sparse_csr()
        return torch.sparse_csr_tensor(
            made.crow_indices().int(),
            made.col_indices().int(),
            made.values(),
            tuple(made.shape),
            check_invariants=False,
        )


def density(weight: torch.Tensor) -> float:
    """Share of values that are not zero, 0..1."""
    return int(torch.count_nonzero(weight)) / weight.numel()


def worthwhile(layer: nn.Module) -> bool:
    """Whether a layer is a plain linear one for which CSR was measured to be faster."""
    return (
        type(layer) is nn.Linear
        and layer.weight.dtype == torch.float32
        and layer.weight.numel() >= SMALLEST
        and density(layer.weight) <= DENSEST
    )


def sparsified(module: nn.Module, *, fused: bool = True) -> nn.Module:
    """An extracted path with its linear layers in CSR where that is faster; changes the module and returns it.

    Only layers that run one after the other (in nested `nn.Sequential`s) are looked at: other modules may read the
    weights of the layers in them directly, as `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` do. Where no
    layer qualifies, the module stays as it is and a warning is logged.

    Args:
        module: what `extract` made.
        fused: whether it was made fused.

    Raises:
        InvalidInput: it was not fused: that form composes its weights anew in every call, bit-identical and dense.
    """
    if not fused:
        raise InvalidInput("extract: sparse=True needs fused=True; received fused=False, which stays bit-identical")
    if torch.backends.mkl.is_available() and _replaced(module):
        return module
    log.warning(
        "extract: sparse=True changes nothing, the path stays dense: no linear layer in its chain has at least %d "
        "weights of which at most %g %% are not zero (or torch was built without MKL)",
        SMALLEST,
        100 * DENSEST,
    )
    return module


def _replaced(module: nn.Module) -> int:
    if type(module) is not nn.Sequential:
        return 0
    count = 0
    for name, child in list(module.named_children()):
        if worthwhile(child):
            assert isinstance(child, nn.Linear)
            module[int(name)] = SparseLinear(child)
            count += 1
        else:
            count += _replaced(child)
    return count
