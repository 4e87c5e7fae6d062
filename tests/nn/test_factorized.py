"""Factorized networks: kept filters, extraction, any convolutional backbone, what does not fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from polypath.core.errors import InvalidInput
from polypath.core.seeds import seeded
from polypath.core.task import Features, Image
from polypath.nn.factorized import Factorized, FactorizedConfig
from polypath.nn.generated import GeneratedConv2d, convolutions
from polypath.nn.small_cnn import SamePool
from polypath.testing import tiny_images

SMALL: dict[str, Any] = {"kind": "dfcnn", "channels": [2, 3, 4, 4], "hidden": [4]}
SUITE = tiny_images(2, size=8)


def network(backbone: dict[str, Any] | None = None, **values: Any) -> Factorized:
    config = {"backbone": backbone or SMALL, "inputs": SUITE.tasks[0].task.inputs, **values}
    made = Factorized(FactorizedConfig.of(config))
    for data in SUITE:
        made.add_task(data.task)
    return made


def pixels(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def generated(made: Factorized) -> GeneratedConv2d:
    return next(module for module in made.modules() if isinstance(module, GeneratedConv2d))


def test_in_evaluation_filters_are_made_once_until_a_source_changes() -> None:
    made = network().eval()
    with torch.no_grad():
        first = made(pixels(), "task0")
        kept = generated(made).filters()
        assert generated(made).filters() is kept
        made.bases["conv1"].values.mul_(2)
        assert generated(made).filters() is not kept
        assert not torch.equal(made(pixels(), "task0"), first)
        held = generated(made).filters()
        made.assign({"base.conv1": {"values": torch.zeros(1, 16, 2, 2)}})  # replaced, not changed in place
        assert generated(made).filters() is not held


def test_in_training_filters_are_made_every_time_and_carry_gradients() -> None:
    made = network().train()
    with seeded(0):  # dropout
        made(pixels(), "task0").sum().backward()
    assert made.bases["conv1"].values.grad is not None
    assert generated(made)._kept is None


def test_tasks_meet_in_the_bases_alone() -> None:
    made = network()
    one, other = (set(made.path(name).components) for name in made.tasks)
    assert one & other == {"base.conv1", "base.conv2", "base.conv3", "base.conv4"}


def test_the_extracted_path_is_a_plain_network() -> None:
    made = network().eval()
    plain = made.extract("task1")
    assert not any(isinstance(module, GeneratedConv2d) for module in plain.modules())
    assert sum(isinstance(module, nn.Conv2d) for module in plain.modules()) == 4
    with torch.no_grad():
        torch.testing.assert_close(plain(pixels()), made(pixels(), "task1"), rtol=1e-5, atol=1e-6)
    filters, biases, dense, head = 9 * (3 * 2 + 2 * 3 + 3 * 4 + 4 * 4), 2 + 3 + 4 + 4, (4 * 2 * 2) * 4 + 4, 4 * 2 + 2
    assert sum(p.numel() for p in plain.parameters()) == filters + biases + dense + head


def test_a_copy_reads_its_own_bases() -> None:
    made = network().eval()
    twin = copy.deepcopy(made)
    with torch.no_grad():
        before = made(pixels(), "task0")
        twin.bases["conv1"].values.zero_()
        assert torch.equal(made(pixels(), "task0"), before)
        assert not torch.equal(twin(pixels(), "task0"), before)


@pytest.mark.parametrize(
    "backbone",
    [
        {"kind": "conv", "blocks": [[4], [4]], "dense": [5], "norm": "batch", "kernel": 5},
        {"kind": "timm", "name": "test_resnet"},
    ],
)
def test_any_convolutional_backbone_of_the_house_will_do(backbone: dict[str, Any]) -> None:
    pytest.importorskip("timm")
    made = network(backbone, growth=2).eval()
    plain = made.extract("task0")
    assert not any(isinstance(module, GeneratedConv2d) for module in plain.modules())
    with torch.no_grad():
        torch.testing.assert_close(plain(pixels()), made(pixels(), "task0"), rtol=1e-4, atol=1e-5)
    with seeded(0):
        made.train()(pixels(), "task0").sum().backward()
    assert all(base.values.grad is not None for base in made.bases.values())


def test_convolutions_that_do_more_than_convolve_stay_a_tasks_own() -> None:
    """timm's standardise weights or pad as TensorFlow does; another padding than zeros is not generated either."""

    class Standardised(nn.Conv2d):
        pass

    with torch.device("meta"):
        kinds = {
            "plain": nn.Conv2d(3, 4, 3, padding=1),
            "special": Standardised(3, 4, 3),
            "mirrored": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
            "grouped": nn.Conv2d(4, 4, 3, groups=2),
        }
    held = nn.ModuleDict(kinds)
    assert list(convolutions(held)) == ["plain"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"growth": 3}, r"'conv1\.0'.*side 3 cannot be generated.*nearest are 1 and 4"),
        ({"knowledge": [[3, 4], 4, 4, 4]}, r"knowledge\[0\] = \(3, 4\).*filters of side 5.*a side of 2 is required"),
        ({"knowledge": [4, 4]}, "one entry for each of 4 generated convolutions is required, received 2"),
        ({"basis": [4, 4, 4, 0]}, "numbers above 0"),
        ({"maps": [2, 2, 2, 2]}, "maps is for variant='tc2'"),
        ({"variant": "direct", "basis": [1, 1, 1, 1]}, "variant='direct' has none"),
        ({"side": 2}, "odd number"),
        ({"backbone": {"kind": "mlp", "hidden": [4]}}, "no convolution whose filters could be generated"),
    ],
)
def test_what_does_not_fit_is_said(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        network(**values)


def test_a_task_of_another_size_is_refused() -> None:
    made = network()
    other = tiny_images(1, size=12).tasks[0].task.renamed("large")
    with pytest.raises(InvalidInput, match=r"'large'.*built for Image.*height=8.*received.*height=12"):
        made.add_task(other)


def test_the_backbone_takes_images_only() -> None:
    with pytest.raises(InvalidInput, match="takes images"):
        Factorized(FactorizedConfig.of({"backbone": SMALL, "inputs": Features(size=4)}))
    with pytest.raises(InvalidInput, match="one number for each of 4 convolutions"):
        network({"kind": "dfcnn", "channels": [2, 3]})


def test_same_pooling_is_tensorflows() -> None:
    """43 -> 15 with side 3: one cell of padding before and one after; 128 -> 43: one after only."""
    for size, (before, cells) in {43: (1, 15), 128: (0, 43), 8: (0, 3)}.items():
        row = torch.arange(size, dtype=torch.float32).view(1, 1, 1, size).expand(1, 1, size, size)
        found = SamePool(3, (size, size))(row)[0, 0, 0]
        assert found.tolist() == [min(3 * n + 2 - before, size - 1) for n in range(cells)]


def test_image_spec_is_part_of_the_plan() -> None:
    made = network()
    again = Factorized.restore(made.plan())
    assert again.config.inputs == Image(channels=3, height=8, width=8)
    assert again.memory.plan() == made.memory.plan() == {}
