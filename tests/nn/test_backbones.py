from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny import preprocess
from torch import nn

from polypath.core.errors import InvalidInput, UnknownName
from polypath.core.seeds import seeded
from polypath.core.task import Classification, Features, Image, Task, Tokens
from polypath.nn.backbones import backbone, common_inputs, described
from polypath.nn.fold import folded_copy


@pytest.fixture(autouse=True)
def drawn_apart() -> Iterator[None]:
    """Initial values come from the global generator, which every test leaves as it was."""
    with seeded(0, "test"):
        yield


def parameters(module: nn.Module, outputs: int, features: int) -> int:
    return sum(p.numel() for p in module.parameters()) + features * outputs + outputs


GREY = Image(channels=1, height=28, width=28)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # 784 x 1000 + 1000, five times 1000 x 1000 + 1000, 1000 x 10 + 10
        ({"kind": "mlp", "hidden": [1000] * 6}, 5_800_010),
        # 320 + 9,248 + 18,496 + 36,928 convolutional, 26 x 26 x 64 x 256 + 256, 65,792, 2,570
        ({"kind": "conv", "pool_stride": 1}, 11_209_194),
        ({"kind": "conv", "pool_stride": 2}, 936_426),
    ],
)
def test_the_dense_controls_of_the_rsn2_paper_have_their_counts(config: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        made = backbone(config, GREY)
    assert parameters(made, 10, made.features) == count


def test_tokens_are_embedded_and_read_as_one_vector() -> None:
    made = backbone({"kind": "mlp", "hidden": [5], "embedding": 2}, Tokens(vocabulary=10, length=4))
    assert made.pieces["fc1"][0].in_features == 8  # 4 tokens of 2 numbers
    assert made(torch.zeros(3, 4, dtype=torch.int64)).shape == (3, 5)


def test_every_piece_holds_a_parameter() -> None:
    average = {"kind": "conv", "norm": "batch", "flatten": False}
    for config in ("mlp", "conv", average, {"kind": "timm", "name": "resnet18"}):
        with torch.device("meta"):
            made = backbone(config, Image(channels=3, height=32, width=32))
        assert all(any(True for _ in piece.parameters()) for piece in made.pieces.values())


def test_without_flattening_features_are_averages_over_positions() -> None:
    made = backbone({"kind": "conv", "blocks": [[4]], "dense": [], "flatten": False}, GREY)
    assert made.features == 4
    assert made(torch.zeros(2, 1, 28, 28)).shape == (2, 4)


def test_a_timm_network_loses_its_classifier() -> None:
    with torch.device("meta"):
        made = backbone({"kind": "timm", "name": "resnet18"}, Image(channels=1, height=32, width=32))
    assert made.features == 512
    assert made(torch.zeros(2, 1, 32, 32, device="meta")).shape == (2, 512)


@pytest.mark.parametrize("config", ["conv", {"kind": "timm", "name": "resnet18"}])
def test_image_backbones_say_that_they_take_no_rows(config: object) -> None:
    with pytest.raises(InvalidInput, match="takes images"):
        backbone(config, Features(size=3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "conv", "kernel": 4}, "kernel must be odd, received 4"),
        ({"kind": "conv", "blocks": []}, "blocks: at least one"),
        ({"kind": "mlp", "hidden": [0]}, "each above 0"),
        ({"kind": "mlp", "hidden": []}, "at least one width"),
        ({"hidden": [3]}, "a kind is required"),
    ],
)
def test_bad_descriptions_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        described(config)


def test_an_unknown_kind_or_option_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'mlp'"):
        described("mpl")
    with pytest.raises(UnknownName, match="Did you mean 'hidden'"):
        described({"kind": "mlp", "hiden": [3]})


def test_a_timm_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'resnet19' cannot be made"):
        backbone({"kind": "timm", "name": "resnet19"}, GREY)


def test_images_too_small_for_the_poolings_are_refused() -> None:
    with pytest.raises(InvalidInput, match="leave nothing"):
        backbone({"kind": "conv", "blocks": [[2]] * 4}, Image(channels=1, height=8, width=8))


def test_a_description_holds_every_default() -> None:
    assert described("conv")["pool_stride"] == 2
    assert described(described("conv")) == described("conv")


def test_tasks_of_two_shapes_have_no_common_inputs() -> None:
    def one(name: str, channels: int) -> Task:
        inputs, target = Image(channels=channels, height=8, width=8), Classification(labels=("a", "b"))
        return Task(name=name, inputs=inputs, target=target, preprocess=preprocess(channels))

    assert common_inputs([one("a", 1), one("b", 1)], "m") == Image(channels=1, height=8, width=8)
    with pytest.raises(InvalidInput, match="'a' has .*channels=1.*'b' has .*channels=3"):
        common_inputs([one("a", 1), one("b", 3)], "m")


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) if x.sum() > 0 else self.conv(x)


@pytest.mark.parametrize("norms", [0, 2])
def test_a_folded_copy_answers_like_the_original_and_shares_nothing(norms: int) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    if not norms:
        module = nn.Sequential(nn.Conv2d(1, 4, 3))
    module(torch.randn(8, 1, 9, 9))  # statistics that are not 0 and 1
    module.eval()
    copied = folded_copy(module)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in copied.modules()) == 0
    inputs = torch.randn(3, 1, 9, 9)
    torch.testing.assert_close(copied(inputs), module(inputs), rtol=1e-5, atol=1e-6)
    assert not {p.data_ptr() for p in module.parameters()} & {p.data_ptr() for p in copied.parameters()}


def test_a_batchnorm_that_is_used_twice_or_whose_module_branches_stays() -> None:
    twice = Branching().eval()
    inputs = torch.ones(2, 1, 5, 5)
    assert torch.equal(folded_copy(twice)(inputs), twice(inputs))


def test_a_module_is_no_description() -> None:
    from polypath.methods.single import SingleConfig

    with pytest.raises(InvalidInput, match=r"a module of your own \(Identity\); polypath.subnetworks\(module"):
        SingleConfig.of({"backbone": nn.Identity()})
