from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn

import polypath as pp
from polypath.core.errors import InvalidInput, UnknownName
from polypath.nn import sparse
from polypath.nn.sparse import SparseLinear, density, sparsified, worthwhile
from polypath.testing import tiny_features

TINY = {"backbone": {"kind": "mlp", "hidden": [40, 40]}, "epochs": 1, "batch": 8, "threads": 1, "progress": False}


def linear(size: int, width: int, share: float, bias: bool = True, seed: int = 0) -> nn.Linear:
    stream = torch.Generator().manual_seed(seed)
    made = nn.Linear(size, width, bias=bias, device="meta")
    kept = torch.rand(width, size, generator=stream) < share
    made.weight = nn.Parameter(torch.where(kept, torch.randn(width, size, generator=stream), torch.zeros(())))
    if bias:
        made.bias = nn.Parameter(torch.randn(width, generator=stream))
    return made


@pytest.fixture
def small_layers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "SMALLEST", 1)
    monkeypatch.setattr(sparse, "DENSEST", 0.5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 30), (7, 30), (2, 3, 30), (0, 30)])
def test_it_computes_what_the_dense_layer_does(bias: bool, shape: tuple[int, ...]) -> None:
    layer = linear(30, 20, 0.1, bias)
    inputs = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    found = SparseLinear(layer)(inputs)
    assert found.shape == (*shape[:-1], 20)
    torch.testing.assert_close(found, layer(inputs), rtol=1e-5, atol=1e-5)


def test_a_layer_without_any_weight_gives_its_bias() -> None:
    layer = linear(4, 3, 0.0)
    assert torch.equal(SparseLinear(layer)(torch.ones(2, 4)), layer.bias.expand(2, 3))


def test_it_stores_values_and_indices_of_four_bytes_and_nothing_else() -> None:
    layer = linear(30, 20, 0.1)
    weight = SparseLinear(layer).get_buffer("weight")
    stored = int(torch.count_nonzero(layer.weight))
    assert weight.values().numel() == stored < 0.2 * layer.weight.numel()
    assert weight.col_indices().dtype == weight.crow_indices().dtype == torch.int32
    assert f"stored={stored}" in repr(SparseLinear(layer))


def test_it_can_be_copied_and_shares_nothing_with_the_layer() -> None:
    layer = linear(6, 5, 0.5)
    made = SparseLinear(layer)
    inputs = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    expected = made(inputs)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    assert torch.equal(copy.deepcopy(made)(inputs), expected)


def test_only_plain_large_sparse_layers_are_worth_it() -> None:
    assert worthwhile(linear(1000, 500, 0.05))
    assert not worthwhile(linear(1000, 500, 0.3))  # too dense
    assert not worthwhile(linear(100, 100, 0.05))  # too small
    assert not worthwhile(linear(1000, 500, 0.05).double())
    assert not worthwhile(nn.Conv2d(1, 1, 1, device="meta"))
    assert density(torch.tensor([0.0, 2.0, 0.0, 1.0])) == 0.5


def test_layers_that_other_modules_read_stay_dense(small_layers_count: None) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear(8, 8, 0.05)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.inner.weight)

    module = nn.Sequential(Reads(), nn.Sequential(linear(8, 8, 0.05), nn.ReLU()), linear(8, 2, 1.0))
    inputs = torch.ones(2, 8)
    expected = module(inputs)
    made = sparsified(module)
    kinds = [type(layer).__name__ for layer in made.modules() if isinstance(layer, (nn.Linear, SparseLinear))]
    assert kinds == ["Linear", "SparseLinear", "Linear"]
    torch.testing.assert_close(made(inputs), expected, rtol=1e-5, atol=1e-5)


def test_a_system_extracts_a_sparse_path(small_layers_count: None) -> None:
    system = pp.learn("rsn2", tiny_features(2), share=0.08, heads="dense", patience=0, **TINY)
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = system.extract("task1", fused=False)(inputs)
        made = system.extract("task1", sparse=True)
        assert any(isinstance(layer, SparseLinear) for layer in made.modules())
        assert float((made(inputs) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
        assert not any(isinstance(layer, SparseLinear) for layer in system.extract("task1").modules())


def test_it_says_when_nothing_is_gained(caplog: pytest.LogCaptureFixture) -> None:
    system = pp.learn("rsn2", tiny_features(1), share=0.5, patience=0, **TINY)
    with caplog.at_level(logging.WARNING, "polypath"):
        made = system.extract("task0", sparse=True)
    assert "sparse=True changes nothing" in caplog.text
    assert not any(isinstance(layer, SparseLinear) for layer in made.modules())


def test_the_bit_identical_form_is_never_sparse_and_unknown_tasks_are_named() -> None:
    system = pp.learn("rsn2", tiny_features(1), share=0.5, patience=0, **TINY)
    with pytest.raises(InvalidInput, match="sparse=True needs fused=True"):
        system.extract("task0", fused=False, sparse=True)
    with pytest.raises(UnknownName, match="Did you mean 'task0'"):
        system.extract("task9", sparse=True)
