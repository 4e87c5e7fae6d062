from __future__ import annotations

from typing import Any

import pytest

from polypath.core.errors import InvalidInput
from polypath.core.task import Image
from polypath.nn.backbones import described
from polypath.nn.spaces import spaces_of
from polypath.nn.widths import SCALED, Widths, wider

NETWORKS: dict[str, Any] = {
    "mlp": {"kind": "mlp", "hidden": [8, 6]},
    "conv": {"kind": "conv", "blocks": [[4, 6], [8]], "dense": [10], "norm": "batch"},
    "resnet18": {"kind": "resnet18", "width": 0.125},
}
IMAGES = Image(channels=3, height=16, width=16)


@pytest.mark.parametrize("kind", SCALED)
def test_the_first_width_is_the_backbone_itself(kind: str) -> None:
    """As many weights inside the first width as the backbone has, layer by layer; all of them inside the last."""
    plain = spaces_of(described(NETWORKS[kind]), IMAGES, ["*"], False)
    template = spaces_of(wider(described(NETWORKS[kind]), 2.0, "max_width"), IMAGES, ["*"], False)
    widths = Widths(template, (1.0, 1.5, 2.0))
    for piece, space in template.spaces.items():
        for entry in space.masked:
            counts = [int(widths.inside(space, entry, level).sum()) for level in range(3)]
            assert counts[0] == plain.spaces[piece].size(entry), (piece, entry)
            assert counts[0] <= counts[1] <= counts[2] == space.size(entry)
            assert widths.level(space, entry, widths.inside(space, entry, 1).nonzero().view(-1)) in (0, 1)


def test_a_weight_is_inside_when_both_its_ends_are() -> None:
    """Two units become four: of 4 x 4 weights between layers the first width has the upper left quarter."""
    template = spaces_of(wider(described({"kind": "mlp", "hidden": [2, 2]}), 2.0, "max_width"), IMAGES, ["*"], False)
    widths = Widths(template, (1.0, 2.0))
    inside = widths.inside(template.spaces["fc2"], "0.weight", 0).view(4, 4).int().tolist()
    assert inside == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_network_that_cannot_be_widened_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"max_width: layers of a 'timm' backbone cannot be widened; use one of"):
        wider({"kind": "timm", "name": "resnet18"}, 1.5, "max_width")
