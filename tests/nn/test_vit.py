"""Vision transformers cut into layers: the published counts, timm's own outputs, interpolated positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.seeds import seeded
from polypath.core.task import Features, Image
from polypath.nn import patches, vit
from polypath.nn.backbones import backbone
from polypath.nn.own import offer
from polypath.nn.roots import described_root, layer_of, new_layer, root_of, template

TINY: dict[str, Any] = {
    "kind": "vit",
    "name": "vit_tiny_patch16_224",
    "depth": 2,
    "options": {"patch_size": 4, "embed_dim": 8, "num_heads": 2},
}


def image(size: int) -> Image:
    return Image(channels=3, height=size, width=size)


def counted(config: dict[str, Any], size: int, outputs: int | None = None) -> int:
    """Parameters of a root, with a head where outputs are given; nothing has values."""
    plain = described_root(config)
    layers = list(template(plain, image(size)).layers.values())
    if outputs is not None:
        layers.append(layer_of(plain, image(size), "head", outputs))
    assert all(parameter.is_meta for layer in layers for parameter in layer.parameters())
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters())


def test_parameters_are_the_published_ones() -> None:
    """methods.md 5.6, derived from the papers' tables and the authors' constants."""
    assert counted({"kind": "vit", "name": "L/16"}, 384) == 303_690_752
    assert counted({"kind": "vit", "name": "L/16"}, 224, 2) == 303_303_682
    assert counted({"kind": "vit", "name": "Ti/16", "depth": 3}, 32, 2) == 1_484_162
    assert counted({"kind": "vit", "name": "B/16"}, 32, 2) == 85_652_738
    assert counted({"kind": "vit", "name": "Ti/16", "depth": 0}, 32) == 149_184
    for name, expected in (("L/16", 12_596_224), ("Ti/16", 444_864)):
        block = layer_of(described_root({"kind": "vit", "name": name}), image(224), "encoderblock_0", None)
        assert sum(parameter.numel() for parameter in block.parameters()) == expected


def test_layers_one_after_the_other_are_the_network() -> None:
    """The same values in timm's own forward and in the layers: equal outputs."""
    import timm

    for pool in ("token", "avg"):
        given = {"img_size": 8, "depth": 2, "num_classes": 3, "global_pool": pool, **TINY["options"]}
        with seeded(0):
            whole = timm.create_model("vit_tiny_patch16_224", **given).eval()
        layers = vit._cut(whole)
        inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            value = inputs
            for layer in layers.values():
                value = layer(value)
            torch.testing.assert_close(whole.head(value), whole(inputs))  # type: ignore[operator]
    assert list(layers) == ["embedding", "cls", "posembed_input", "encoderblock_0", "encoderblock_1", "encoder_norm"]


def test_positions_are_interpolated_bilinearly_corners_on_corners() -> None:
    """A grid of 2 x 2 with values 0, 3, 6, 9 becomes 4 x 4 in steps of 1 and 2; the class token's stays."""
    old = torch.tensor([7.0, 0, 3, 6, 9]).view(1, 5, 1)
    found = vit.interpolated(old, (2, 2), (4, 4), skip=1).flatten()
    assert found[0] == 7
    torch.testing.assert_close(found[1:].view(4, 4), torch.arange(4.0)[None, :] + 2 * torch.arange(4.0)[:, None])
    assert vit.interpolated(old, (2, 2), (2, 2), skip=1) is old


def test_published_values_come_in_at_another_size_and_with_fewer_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    options = vit.VitOptions(**{k: v for k, v in TINY.items() if k != "kind"}, pretrained=True)
    right = vit._made
    with seeded(0):
        published = right(options, {"img_size": 16, "in_chans": 3, "depth": 4}, pretrained=False)

    def made(options: vit.VitOptions, shape: Any, *, pretrained: bool) -> Any:
        return published if pretrained else right(options, shape, pretrained=False)

    monkeypatch.setattr(vit, "_made", made)
    with seeded(0):
        layers, features = vit.vit_layers(image(8), options)
    assert features == 8 and sum(name.startswith("encoderblock") for name in layers) == 2
    for index in range(2):
        expected, found = published.blocks[index].state_dict(), layers[f"encoderblock_{index}"].state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in found.items())
    assert layers["posembed_input"].value.shape == (1, 5, 8)  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match="depth=6 is more than the 4 blocks"), seeded(0):
        vit.vit_layers(image(8), options.changed(depth=6))


def test_new_layers_are_random_blocks_and_zero_heads() -> None:
    with seeded(0):
        block = new_layer(TINY, image(8), "encoderblock_5", None)
        head = new_layer(TINY, image(8), "head", 3)
        drawn = new_layer(TINY, image(8), "head", 3, random_head=True)
    assert all(float(p.detach().std()) > 0 for key, p in block.named_parameters() if key.endswith("qkv.weight"))
    assert all(not parameter.any() for parameter in head.parameters())
    assert any(parameter.any() for parameter in drawn.parameters())


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        ({"kind": "timm", "name": "resnet18"}, image(32), "layers cannot be enumerated; use 'vit'"),
        ({"kind": "vit", "name": "vit_small_patch16_dinov3"}, image(32), "cannot be enumerated: it is a Eva"),
        ({"kind": "vit", "name": "vit_base_patch16_clip_224"}, image(32), "it has a norm or dropout between"),
        ({"kind": "vit", "name": "vit_huge"}, image(32), "cannot be made"),
        ({"kind": "vit", "options": {"depth": 3}}, image(32), r"options: \['depth'\] follow from"),
        ({"kind": "vit"}, Features(size=3), "takes images"),
    ],
)
def test_roots_whose_layers_cannot_be_enumerated_are_refused(config: dict[str, Any], inputs: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message), torch.device("meta"):
        root_of(described_root(config), inputs)


@pytest.mark.parametrize("size", [(8, 8), (16, 8)])
def test_images_smaller_than_a_patch_are_refused(size: tuple[int, int]) -> None:
    config = described_root({"kind": "vit", "name": "Ti/16", "depth": 0})
    refused = pytest.raises(InvalidInput, match=r"patches of 16 x 16 .*received images of \d+ x 8; .*patch_size")
    with torch.device("meta"), refused:
        root_of(config, Image(channels=3, height=size[0], width=size[1]))
    template(config, image(16))


def test_pixels_that_no_patch_sees_are_told_once_where_a_network_is_made(caplog: pytest.LogCaptureFixture) -> None:
    patches._tell_unseen.cache_clear()
    config = described_root({"kind": "vit", "name": "Ti/16", "depth": 0})
    template(config, image(28))  # on the meta device, as where a system is read
    assert not caplog.text
    with seeded(0):
        for _ in range(2):
            layers = root_of(config, image(28)).layers
        root_of(described_root({**config, "options": {"patch_size": 14}}), image(28))
    assert [record.message for record in caplog.records] == [
        "root: 'Ti/16' sees the upper left 16 x 16 pixels only, received images of 28 x 28; give larger images "
        '(size=32 in the suite) or smaller patches ("options": {"patch_size": 14})'
    ]
    pixels = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    seen = pixels.clone()
    seen[..., 16:, :] = seen[..., :, 16:] = 0
    assert torch.equal(layers["embedding"](pixels), layers["embedding"](seen))


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({}, 28, r"made for images of 224 x 224, received images of 28 x 28; .*size=224.*\"img_size\": \[28, 28\]"),
        ({"img_size": 8}, 8, r"needs at least one, received images of 8 x 8; .*patch_size"),
        ({"dynamic_img_size": True}, 28, r"takes whole patches of 16 x 16 pixels, received images of 28 x 28"),
    ],
)
def test_images_that_do_not_fit_a_timm_backbone_are_refused(options: dict[str, Any], size: int, message: str) -> None:
    config = {"kind": "timm", "name": "vit_tiny_patch16_224", "options": {"depth": 1, **options}}
    with pytest.raises(InvalidInput, match=message), torch.device("meta"):
        backbone(config, image(size))


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'mlp'"):
        described_root("mpl")


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.first(inputs) + self.second(inputs)
        return total


def test_a_module_of_your_own_must_be_a_sequence() -> None:
    """A Sequential is taken apart: what has no parameters belongs to the layer before or behind it."""
    offer("sequence", lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Tanh()))
    offer("branching", Branching)
    with torch.device("meta"):
        found = root_of(described_root({"kind": "own", "name": "sequence"}), Features(size=4))
    assert list(found.layers) == ["layer_1", "layer_3"]
    assert [type(part).__name__ for part in found.layers["layer_3"].children()] == ["ReLU", "Linear", "Tanh"]
    with pytest.raises(InvalidInput, match="'branching' cannot be enumerated: it is a Branching"):
        root_of(described_root({"kind": "own", "name": "branching"}), Features(size=4))
