from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

from polypath.nn.compact import compacted


def linear(weight: list[list[float]], bias: list[float] | None) -> nn.Linear:
    made = nn.Linear(len(weight[0]), len(weight), bias=bias is not None, device="meta")
    made.weight = nn.Parameter(torch.tensor(weight))
    if bias is not None:
        made.bias = nn.Parameter(torch.tensor(bias))
    return made


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """Seeded values everywhere, so that nothing is dead by chance."""
    stream = torch.Generator().manual_seed(seed)
    for key, value in list(module.named_parameters()):
        owner = module.get_submodule(key.rpartition(".")[0])
        setattr(owner, key.rpartition(".")[2], nn.Parameter(torch.randn(value.shape, generator=stream)))
    return module.eval()


def on_meta(*layers: object) -> nn.Sequential:
    with torch.device("meta"):
        return nn.Sequential(*(make() for make in layers))  # type: ignore[operator]


def kill(module: nn.Linear | nn.Conv2d, units: list[int], bias: float = -1.0) -> None:
    with torch.no_grad():
        module.weight[units] = 0.0
        if module.bias is not None:
            module.bias[units] = bias


def sizes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]


def agree(module: nn.Module, *shape: int) -> nn.Module:
    """The compacted module, which answers like the module; both finite."""
    inputs = torch.randn(5, *shape, generator=torch.Generator().manual_seed(9))
    expected = module(inputs)
    made = compacted(copy.deepcopy(module))  # type: ignore[arg-type]
    found = made(inputs)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    return made


def test_dead_neurons_by_hand() -> None:
    # Unit 0 lives. Unit 1: no input weight, bias not positive, so 0 after ReLU. Unit 2: nobody reads it. Unit 3: no
    # input weight but a positive bias, a constant that must stay.
    first = linear([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], [0.5, -1.0, 0.0, 2.0])
    second = linear([[1.0, 5.0, 0.0, 3.0]], [0.25])
    made = agree(nn.Sequential(first, nn.ReLU(), second), 2)
    assert sizes(made) == [(2, 2), (1, 2)]
    assert made[0].weight.tolist() == [[1.0, 2.0], [0.0, 0.0]]  # type: ignore[index, union-attr]
    assert made[0].bias.tolist() == [0.5, 2.0]  # type: ignore[index, union-attr]
    assert made[2].weight.tolist() == [[1.0, 3.0]]  # type: ignore[index, union-attr]
    assert made(torch.tensor([[1.0, 1.0]])).tolist() == [[3.5 + 6.0 + 0.25]]


def test_the_sizes_that_layers_tell_are_those_they_have() -> None:
    chain = drawn(on_meta(lambda: nn.Linear(3, 4), nn.ReLU, lambda: nn.Linear(4, 2)))
    kill(chain[0], [1, 2])  # type: ignore[index]
    made = agree(chain, 3)
    assert made[0].out_features == made[2].in_features == 2  # type: ignore[index, union-attr]


def test_without_relu_a_negative_bias_is_no_silence() -> None:
    first, second = linear([[0.0, 0.0], [1.0, 1.0]], [-1.0, 0.0]), linear([[2.0, 3.0]], None)
    assert sizes(agree(nn.Sequential(first, second), 2)) == [(2, 2), (1, 2)]


def test_without_bias_a_unit_without_inputs_is_zero_with_and_without_relu() -> None:
    first, second = linear([[0.0, 0.0], [1.0, 1.0]], None), linear([[2.0, 3.0]], None)
    assert sizes(agree(nn.Sequential(first, second), 2)) == [(1, 2), (1, 1)]
    assert sizes(agree(nn.Sequential(first, nn.ReLU(), second), 2)) == [(1, 2), (1, 1)]


def test_death_travels_through_several_layers_both_ways() -> None:
    chain = drawn(on_meta(*[lambda: nn.Linear(4, 4, bias=False)] * 5))
    with torch.no_grad():
        chain[4].weight[:, 0] = 0  # type: ignore[index, union-attr] # unit 0 of layer 3 is not read
        for layer in (3, 2, 1):
            chain[layer].weight[1:, 0] = 0  # type: ignore[index, union-attr] # unit 0 before is read by unit 0 only
        chain[0].weight[3] = 0  # type: ignore[index, union-attr] # unit 3 of layer 0 is fed by nothing
        for layer in (1, 2, 3):
            chain[layer].weight[3, :3] = 0  # type: ignore[index, union-attr] # unit 3 is fed by unit 3 only
    assert sizes(agree(chain, 4)) == [(2, 4), (2, 2), (2, 2), (2, 2), (4, 2)]


def test_dead_channels_take_their_flattened_positions_with_them() -> None:
    chain = drawn(
        on_meta(
            lambda: nn.Conv2d(1, 3, 3, padding=1),
            nn.ReLU,
            lambda: nn.MaxPool2d(2),
            lambda: nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU,
            nn.Flatten,
            lambda: nn.Linear(4 * 3 * 3, 5),
            nn.ReLU,
            lambda: nn.Linear(5, 2),
        )
    )
    kill(chain[0], [0])  # type: ignore[index]
    kill(chain[3], [1, 2])  # type: ignore[index]
    kill(chain[6], [4])  # type: ignore[index]
    made = agree(chain, 1, 6, 6)
    assert sizes(made) == [(2, 1, 3, 3), (2, 2, 3, 3), (4, 18), (2, 4)]
    assert made[0].out_channels == made[3].in_channels == 2  # type: ignore[index, union-attr]


def test_average_pooling_leaves_one_position_a_channel() -> None:
    chain = drawn(
        on_meta(
            lambda: nn.Conv2d(1, 3, 3),
            nn.ReLU,
            lambda: nn.AdaptiveAvgPool2d(1),
            nn.Flatten,
            lambda: nn.Linear(3, 2),
        )
    )
    kill(chain[0], [2], bias=0.0)  # type: ignore[index]
    assert sizes(agree(chain, 1, 5, 5)) == [(2, 1, 3, 3), (2, 2)]


def test_a_layer_whose_units_are_all_dead_keeps_one() -> None:
    chain = drawn(on_meta(lambda: nn.Linear(3, 4), nn.ReLU, lambda: nn.Linear(4, 2)))
    kill(chain[0], [0, 1, 2, 3])  # type: ignore[index]
    assert sizes(agree(chain, 3)) == [(1, 3), (2, 1)]


def test_pieces_and_traced_chains_are_looked_into() -> None:
    inner = drawn(on_meta(lambda: nn.Linear(3, 4), nn.ReLU))
    head = drawn(on_meta(lambda: nn.Linear(4, 2)), seed=1)
    kill(inner[0], [0])  # type: ignore[index]
    for first in (inner, fx.symbolic_trace(inner)):
        assert sizes(agree(nn.Sequential(first, head), 3)) == [(3, 3), (2, 3)]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inside(x)


class Twice(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Normed(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight + 1.0, self.bias)


def early(traced: fx.GraphModule) -> fx.GraphModule:
    """The graph with its last layer's outputs thrown away."""
    output = list(traced.graph.nodes)[-1]
    output.args = (list(traced.graph.nodes)[-3],)
    traced.recompile()
    return traced


def odd_networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    plain = [lambda: nn.Linear(4, 4), nn.ReLU, lambda: nn.Linear(4, 4)]
    used_twice = on_meta(*plain)
    used_twice.append(used_twice[0])
    return {
        "a skip": (on_meta(lambda: nn.Linear(4, 4), nn.ReLU, Residual, lambda: nn.Linear(4, 4)), (4,)),
        "a traced skip": (nn.Sequential(fx.symbolic_trace(on_meta(*plain, Residual))), (4,)),
        "a layer used twice": (used_twice, (4,)),
        "a chain that does more": (nn.Sequential(Twice(*on_meta(*plain))), (4,)),
        "a layer that does more": (on_meta(lambda: Normed(4, 4), nn.ReLU, lambda: nn.Linear(4, 4)), (4,)),
        "an activation that is not 0 at 0": (
            on_meta(lambda: nn.Linear(4, 4), nn.Sigmoid, lambda: nn.Linear(4, 4)),
            (4,),
        ),
        "outputs from the middle": (nn.Sequential(early(fx.symbolic_trace(on_meta(*plain)))), (4,)),
        "units flattened as the fastest index": (
            on_meta(lambda: nn.Linear(4, 4), nn.ReLU, nn.Flatten, lambda: nn.Linear(12, 2)),
            (3, 4),
        ),
        "columns of an image": (on_meta(lambda: nn.Conv2d(1, 4, 1), nn.ReLU, lambda: nn.Linear(4, 4)), (1, 4, 4)),
        "positions of a channel": (
            on_meta(lambda: nn.Conv2d(1, 4, 1), nn.ReLU, lambda: nn.Flatten(2), lambda: nn.Linear(16, 4)),
            (1, 4, 4),
        ),
        "groups": (
            on_meta(lambda: nn.Conv2d(4, 4, 1, groups=2), nn.ReLU, lambda: nn.Conv2d(4, 4, 1)),
            (4, 2, 2),
        ),
        "batch norm": (
            on_meta(lambda: nn.Linear(4, 4), lambda: nn.LayerNorm(4), nn.ReLU, lambda: nn.Linear(4, 4)),
            (4,),
        ),
    }


@pytest.mark.parametrize("what", list(odd_networks()))
def test_a_network_that_is_no_plain_chain_stays_as_it_is(what: str) -> None:
    module, shape = odd_networks()[what]
    drawn(module)
    first = next(m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    kill(first, [0, 1])
    before = sizes(module)
    assert sizes(agree(module, *shape)) == before


def test_a_planned_network_and_a_single_layer_stay_as_they_are() -> None:
    planned = on_meta(lambda: nn.Linear(4, 4), nn.ReLU, lambda: nn.Linear(4, 4))
    assert compacted(planned) is planned
    single = nn.Sequential(linear([[0.0], [1.0]], None))
    assert compacted(single) is single
