"""Parameter counts of DF-CNN and of what it is compared with are those of the paper (specification, section 4.2)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from polypath.core.accounting import total_parameters
from polypath.core.preprocess import ImagePreprocess
from polypath.core.task import Classification, Image, Task
from polypath.nn.columns import Columns, ColumnsConfig
from polypath.nn.factorized import Factorized, FactorizedConfig
from polypath.nn.progressive import Progressive
from polypath.nn.tensors import TensorNetwork


def task(number: int, channels: int, size: int, classes: int) -> Task:
    shape = {"channels": channels, "height": size, "width": size}
    return Task(
        name=f"task{number}",
        inputs=Image(**shape),
        target=Classification(labels=tuple(f"c{n}" for n in range(classes))),
        preprocess=ImagePreprocess(**shape, mean=(0.5,) * channels, std=(0.25,) * channels),
    )


def counted(cls: type[Columns], tasks: int, shape: tuple[int, int, int], **config: Any) -> int:
    channels, size, classes = shape
    all_tasks = [task(n, channels, size, classes) for n in range(tasks)]
    with torch.device("meta"):
        network = cls(cls.config_class.of({"inputs": all_tasks[0].inputs, **config}))
        for one in all_tasks:
            network.add_task(one)
    return total_parameters(network)


CIFAR, OFFICE, MNIST = (3, 32, 10), (3, 128, 13), (1, 28, 2)


def described(layout: str = "cifar", **options: Any) -> dict[str, Any]:
    return {"kind": "dfcnn", "layout": layout, **options}


@pytest.mark.parametrize(
    ("config", "tasks", "shape", "expected"),
    [
        ({"backbone": described()}, 10, CIFAR, 7_963_252),
        ({"backbone": described(), "variant": "tc2"}, 10, CIFAR, 2_995_168),
        ({"backbone": described("office_home")}, 10, OFFICE, 201_827_202),
        # Reduced: the sizes are unpublished; this is our choice near the paper's 2.8 million (docs/methods/dfcnn.md).
        (
            {
                "backbone": described(channels=[24, 24, 48, 48], hidden=[32]),
                "knowledge": [8, 12, 16, 18],
                "basis": [16, 28, 32, 48],
            },
            10,
            CIFAR,
            2_802_516,
        ),
    ],
)
def test_dfcnn_has_the_papers_parameters(config: dict, tasks: int, shape: tuple[int, int, int], expected: int) -> None:
    assert counted(Factorized, tasks, shape, **config) == expected


# The paper's tables 1 and 2 give one decimal.
@pytest.mark.parametrize(
    ("config", "tasks", "shape", "millions"),
    [
        ({"backbone": described("mnist"), "knowledge": [12, 40], "basis": [24, 64]}, 10, MNIST, 2.6),
        ({"backbone": described("mnist")}, 5, MNIST, 1.1),
        ({"backbone": described()}, 10, (3, 32, 2), 8.0),
        ({"backbone": described(), "variant": "direct"}, 5, (3, 32, 2), 22.8),
        ({"backbone": described("mnist"), "variant": "direct", "knowledge": [24, 64]}, 10, MNIST, 12.9),
        ({"backbone": described("mnist"), "variant": "direct"}, 5, MNIST, 5.0),
    ],
)
def test_multitask_sizes_round_to_the_papers(
    config: dict[str, Any], tasks: int, shape: tuple[int, int, int], millions: float
) -> None:
    assert round(counted(Factorized, tasks, shape, **config) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("share", "backbone", "shape", "expected"),
    [
        ("none", described(), CIFAR, 3_284_260),
        ("none", described(channels=[48, 48, 96, 96], hidden=[128]), CIFAR, 9_345_860),
        ("trunk", described(), CIFAR, 2_694_148),
        ("none", described("office_home"), OFFICE, 26_794_370),
        # The paper: 129.3 million. One network by hand: 23,360 * 2 + 819,456 + 1,180,160 + 2,359,808 convolutions
        # and 8,389,632 + 131,200 + 1,677 dense.
        (
            "none",
            described("office_home", channels=[128, 256, 512, 512], hidden=[1024, 128]),
            OFFICE,
            10 * (46_592 + 819_456 + 1_180_160 + 2_359_808 + 8_389_632 + 131_200 + 1_677),
        ),
        ("trunk", described("office_home"), OFFICE, 12_274_562),
    ],
)
def test_single_and_hard_sharing_have_the_papers_parameters(
    share: str, backbone: dict[str, Any], shape: tuple[int, int, int], expected: int
) -> None:
    assert counted(Columns, 10, shape, share=share, backbone=backbone) == expected


@pytest.mark.parametrize(
    ("layout", "shape", "expected"), [("cifar", CIFAR, 3_508_637), ("office_home", OFFICE, 32_718_543)]
)
def test_progressive_networks_have_the_papers_parameters(
    layout: str, shape: tuple[int, int, int], expected: int
) -> None:
    assert counted(Progressive, 10, shape, backbone=described(layout)) == expected


def test_the_knowledge_bases_are_a_hundredth_of_a_percent() -> None:
    """2*2*(16 + 24 + 32 + 36) = 432 values."""
    first = task(0, 3, 32, 10)
    network = Factorized(FactorizedConfig.of({"inputs": first.inputs, "backbone": described()}))
    network.add_task(first)
    counts = network.parameter_counts()
    assert sum(count for name, count in counts.items() if name.startswith("base.")) == 432
    assert ColumnsConfig.of({"backbone": described()}).share == "none"


def test_tensor_factorisation_is_as_large_as_single_networks() -> None:
    """Table 2: 3.3 million for both."""
    found = counted(TensorNetwork, 10, (3, 32, 2), backbone=described(), num_tasks=10)
    assert round(found / 1e6, 1) == 3.3
