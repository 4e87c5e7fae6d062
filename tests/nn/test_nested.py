"""Levels of channels: which level owns which weight, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polypath.core.errors import InvalidInput
from polypath.core.task import Features, Image
from polypath.nn.nested import NOBODY, Nested
from polypath.nn.spaces import Space, Template, head_space, spaces_of

N = NOBODY


def template(**backbone: object) -> Template:
    inputs = Features(size=3) if backbone["kind"] == "mlp" else Image(channels=1, height=4, width=4)
    return spaces_of(backbone, inputs, ("*",), mask_bias=False)


def own(module: nn.Module) -> Template:
    masked = {f"{key}": tuple(value.shape) for key, value in module.named_parameters() if value.ndim > 1}
    return Template({"body": Space("body", module, masked, (), ())}, 4)


def table(nested: Nested, space: Space, entry: str) -> list[list[int]]:
    shape = space.masked[entry]
    return nested.levels(space, entry).view(shape[0], shape[1], -1)[..., 0].tolist()


def test_weights_reach_from_lower_to_the_same_or_higher_groups_only() -> None:
    made = template(kind="mlp", hidden=[4, 4])
    nested = Nested(made, (0.5, 0.75, 1.0))
    # Units 0 and 1, unit 2, unit 3. The inputs are everybody's.
    assert table(nested, made.spaces["fc1"], "0.weight") == [[0] * 3, [0] * 3, [1] * 3, [2] * 3]
    assert table(nested, made.spaces["fc2"], "0.weight") == [[0, 0, N, N], [0, 0, N, N], [1, 1, 1, N], [2, 2, 2, 2]]


def test_ratios_below_one_leave_units_to_nobody() -> None:
    made = template(kind="mlp", hidden=[4, 4])
    nested = Nested(made, (0.5, 0.75))
    assert table(nested, made.spaces["fc2"], "0.weight") == [[0, 0, N, N], [0, 0, N, N], [1, 1, 1, N], [N] * 4]


def test_flattening_keeps_the_inputs_of_a_channel_in_its_group() -> None:
    made = template(kind="conv", blocks=[[5]], dense=[5], pool=2)  # 5 channels of 2 x 2 positions
    nested = Nested(made, (0.5, 1.0))  # floor(0.5 x 5) = 2 channels, so 8 of 20 inputs and not 10
    levels = nested.levels(made.spaces["fc1"], "0.weight").view(5, 20)
    assert levels[0].tolist() == [0] * 8 + [N] * 12
    assert levels[4].tolist() == [1] * 20
    head = head_space("head@t0", 20, 2, False)
    flat = template(kind="conv", blocks=[[5]], dense=[])
    assert Nested(flat, (0.5, 1.0)).head(head, 0).view(2, 20)[0].tolist() == [True] * 8 + [False] * 12


def test_a_depthwise_unit_reads_the_unit_of_its_number() -> None:
    with torch.device("meta"):
        made = own(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1)))
    nested = Nested(made, (0.5, 1.0))
    assert table(nested, made.spaces["body"], "1.weight") == [[0], [0], [1], [1]]
    assert table(nested, made.spaces["body"], "2.weight") == [[0, 0, N, N], [1, 1, 1, 1]]


def test_layers_whose_units_cannot_be_told_apart_are_named() -> None:
    with torch.device("meta"):
        grouped = own(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups=2)))
        transformer = own(nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8)))
    with pytest.raises(InvalidInput, match="layer body.1 is a convolution in 2 groups"):
        Nested(grouped, (0.5, 1.0))
    with pytest.raises(InvalidInput, match=r"layer body.0.self_attn is attention.*select='magnitude'"):
        Nested(transformer, (0.5, 1.0))
    with pytest.raises(InvalidInput, match="layer fc2.0 has 2 units, of which none is left for level 2"):
        Nested(template(kind="mlp", hidden=[4, 2]), (0.5, 0.75, 1.0))


def test_groups_are_ascending_stretches_of_units() -> None:
    nested = Nested(template(kind="mlp", hidden=[10]), (0.4, 0.6, 0.7, 0.8, 1.0))
    assert torch.equal(nested.groups(10), torch.tensor([0, 0, 0, 0, 1, 1, 2, 3, 4, 4], dtype=torch.uint8))


class Residual(nn.Module):
    """Convolutions, a depthwise one among them, whose result is added to what they read; one average a unit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.wide = nn.Conv2d(6, 12, 1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.each = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.back = nn.Conv2d(12, 6, 1)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        value = torch.relu(self.stem(value))
        inner = torch.relu(self.norm(self.wide(value)))
        return torch.relu(value + self.back(self.each(inner))).mean((2, 3))


@pytest.mark.parametrize(("level", "units"), [(0, 3), (1, 4), (2, 6)])
def test_a_narrowed_level_computes_what_the_whole_computes_of_its_units(level: int, units: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = Residual().eval()
        inputs = torch.randn(2, 3, 7, 7)
    made = own(module)
    space = made.spaces["body"]
    nested = Nested(made, (0.5, 0.67, 1.0))
    with torch.no_grad():
        module.norm.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
        for entry in space.masked:
            weight = module.get_parameter(entry)
            weight[nested.levels(space, entry).view(weight.shape) > level] = 0.0
        whole = module(inputs)
        nested.narrow(space, module, level)
        narrow = module(inputs)
    assert narrow.shape == (2, units) and module.each.groups == module.norm.num_features == 2 * units
    torch.testing.assert_close(narrow, whole[:, :units])
