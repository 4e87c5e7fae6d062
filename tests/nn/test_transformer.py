"""The transformer backbone: the paper's parameter count, its forward pass against NumPy, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.core.seeds import seeded
from polypath.core.task import Features, Tokens
from polypath.nn.backbones import backbone, described

TINY = {"kind": "transformer", "width": 6, "heads": 2, "feed_forward": 5, "dense": [4], "dropout": 0.0}


def made(inputs: Tokens | None = None, **options: object) -> torch.nn.Module:
    with seeded(0, "transformer"):
        return backbone({**TINY, **options}, inputs or Tokens(vocabulary=11, length=7)).eval()


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_papers_network_has_its_34_627_822_parameters() -> None:
    with torch.device("meta"):
        body = backbone("transformer", Tokens(vocabulary=30_000, length=512))
        head = torch.nn.Linear(body.features, 46)
    by_hand = {
        "embedding": 30_000 * 512 + 512 * 512,
        "attention1": 3 * (512 * 4096 + 4096) + 2 * 4096,
        "feed_forward1": (4096 * 1028 + 1028) + (1028 * 4096 + 4096) + 2 * 4096,
        "fc1": 4096 * 1028 + 1028,
    }
    assert {name: count(piece) for name, piece in body.pieces.items()} == by_hand
    assert count(body) + count(head) == sum(by_hand.values()) + 1028 * 46 + 46 == 34_627_822


def test_the_size_does_not_depend_on_the_words_where_the_vocabulary_is_given() -> None:
    few, many = (made(Tokens(vocabulary=v, length=7), vocabulary=20) for v in (9, 20))
    assert count(few) == count(many) == count(made(vocabulary=11)) + (20 - 11) * 6


@pytest.mark.parametrize("scaled", [True, False])
def test_forward_is_that_of_numpy(scaled: bool) -> None:
    body = made(scaled=scaled)
    with torch.no_grad():  # values of ordinary size, so that a missing scale would show
        for index, parameter in enumerate(body.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    tokens = torch.tensor([[3, 1, 4, 1, 5, 0, 0], [2, 10, 1, 8, 2, 8, 9]])
    w = {name: value.detach().double().numpy() for name, value in body.state_dict().items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"pieces.{name}.weight"].T + w[f"pieces.{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * w[f"pieces.{name}.norm.weight"] + w[f"pieces.{name}.norm.bias"]

    x = w["pieces.embedding.tokens.weight"][tokens.numpy()] + w["pieces.embedding.positions.weight"]
    q, k, v = (linear(x, f"attention1.{part}") for part in ("query", "key", "value"))
    heads = []
    for h in (slice(0, 6), slice(6, 12)):
        scores = q[..., h] @ k[..., h].transpose(0, 2, 1) / (6**0.5 if scaled else 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., h])
    x = norm(np.concatenate(heads, -1), "attention1")
    x = norm(x + linear(np.maximum(linear(x, "feed_forward1.up"), 0), "feed_forward1.down"), "feed_forward1")
    x = np.maximum(linear(x.mean(1), "fc1.2"), 0)
    # float32 against float64; a few hundred additions of numbers around 10
    assert np.allclose(body(tokens).detach().numpy(), x, rtol=1e-4, atol=1e-4)


def test_blocks_follow_one_another_and_dense_layers_may_be_missing() -> None:
    body = made(blocks=2, dense=[])
    assert list(body.pieces) == ["embedding", "attention1", "feed_forward1", "attention2", "feed_forward2"]
    assert body.features == 12 and body(torch.zeros(3, 7, dtype=torch.int64)).shape == (3, 12)
    assert all(any(True for _ in piece.parameters()) for piece in body.pieces.values())


def test_every_projection_is_a_linear_layer() -> None:
    names = {name for name, module in made().pieces.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {"attention1.query", "attention1.key", "attention1.value", "feed_forward1.up", "feed_forward1.down"} < names
    matrices = {name for name, p in made().pieces.named_parameters() if p.ndim > 1 and "embedding" not in name}
    assert matrices == {f"{name}.weight" for name in names}


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="takes tokens, received"):
        backbone(TINY, Features(size=3))
    with pytest.raises(InvalidInput, match="vocabulary=10, but the task has 11 token ids"):
        made(vocabulary=10)
    assert described("transformer")["heads"] == 8


def test_a_text_task_is_learned_through_it() -> None:
    """Which of two words a text holds: chance is a half."""
    texts = [f"{'ja' if n % 2 else 'nein'} {('so', 'das', 'ist')[n % 3]} {n % 5} " * 40 for n in range(120)]
    labels = torch.tensor([n % 2 for n in range(120)])
    train, test = (texts[:90], labels[:90]), (texts[90:], labels[90:])
    data = pp.data.arrays("word", train, test=test, labels=("nein", "ja"))
    config = {**TINY, "width": 8, "heads": 1, "dense": [8]}
    settings = {"epochs": 8, "batch": 16, "learning_rate": 1e-2, "threads": 1, "precision": "32-true", "device": "cpu"}
    system = pp.learn("single", data, backbone=config, progress=False, **settings)
    assert system.evaluate()["word"]["accuracy"] > 0.9
    assert system.predict("word", ["ja das 3"]).labels == ["ja"]
    flops = system.cost("word").flops
    length = 128  # q, k, v; products and sums; two layers of the block; dense layer and head
    assert flops == 2 * (3 * length * 8 * 8 + 2 * length * length * 8 + 2 * length * 8 * 5 + 8 * 8 + 8 * 2)
