"""Gradients of strided convolutions in bfloat16 on CPUs, where rows are shorter than the stride."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import polypath as pp
from polypath.core.seeds import generator, seeded
from polypath.nn.mixed import may_outrun, sound
from polypath.testing import tiny_features, tiny_images
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

CPU = torch.device("cpu")


def poison() -> None:
    """Fill the allocator's free blocks with NaN, so that what is not written shows."""
    held = [torch.full((count,), float("nan")) for count in (64, 144, 256, 1024, 2304, 4096, 9216) for _ in range(6)]
    del held


def gradient(conv: nn.Conv2d, images: torch.Tensor, context: Any) -> torch.Tensor:
    conv.zero_grad()
    poison()
    with context:
        out = conv(images)
    out.float().pow(2).sum().backward()
    assert conv.weight.grad is not None
    return conv.weight.grad.clone()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (1, 1)),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "groups": 16}, (1, 1)),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (8, 1)),
        ({"kernel_size": 3, "stride": 3, "padding": 1}, (2, 2)),
        ({"kernel_size": 5, "stride": 2, "padding": 2}, (1, 1)),
        ({"kernel_size": 7, "stride": 2, "padding": 3}, (1, 1)),
        ({"kernel_size": 5, "stride": 4, "padding": 1}, (3, 3)),
    ],
)
def test_taps_that_meet_no_pixel_get_no_gradient(options: dict[str, Any], size: tuple[int, int]) -> None:
    with seeded(0, "convolution"):
        conv = nn.Conv2d(16, 16, bias=False, **options).to(memory_format=torch.channels_last)
    images = torch.randn(16, 16, *size, generator=generator(0)).contiguous(memory_format=torch.channels_last)
    expected = gradient(conv, images, torch.enable_grad())
    for _ in range(6):
        found = gradient(conv, images, sound(torch.autocast("cpu", torch.bfloat16), CPU))
        # bfloat16 keeps 8 bits: the output's rounding moves the gradient by up to 2^-8 of its size.
        assert torch.allclose(found, expected, rtol=0, atol=float(expected.abs().max()) / 128)
        assert not found[expected == 0].any()


def test_a_run_s_mixed_precision_is_sound() -> None:
    run = Engine(config=RunConfig(device="cpu", precision="bf16-mixed", threads=1), progress=False)
    with seeded(0, "convolution"):
        conv = nn.Conv2d(16, 16, 3, 2, 1)
    for _ in range(6):
        assert gradient(conv, torch.ones(16, 16, 1, 1), run.autocast()).isfinite().all()


def test_all_else_is_as_autocast_makes_it() -> None:
    with seeded(0, "convolution"):
        conv = nn.Conv2d(16, 16, 3, 2, 1)
    small, large = torch.ones(4, 16, 1, 1), torch.randn(4, 16, 6, 6, generator=generator(1))
    with sound(torch.autocast("cpu", torch.bfloat16), CPU):
        assert conv(small).dtype == torch.bfloat16
        found = conv(large)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found, conv(large))
    with sound(torch.autocast("cpu", enabled=False), CPU):
        assert conv(small).dtype == torch.float32


@pytest.mark.parametrize(
    ("method", "settings", "concerned"),
    [
        ("single", {"backbone": {"kind": "dfcnn", "channels": [2, 2, 2, 2], "hidden": [3]}}, False),
        ("dfcnn", {"backbone": {"kind": "dfcnn", "channels": [2, 2, 2, 2], "hidden": [3]}}, False),
        ("part", {"modules": 3, "selected": 1, "width": 2}, False),
        ("single", {"backbone": {"kind": "resnet18", "width": 0.1}}, True),
        (
            "rsn2",
            {"backbone": {"kind": "resnet18", "width": 0.1}, "share": 0.3},
            True,
        ),  # its convolutions are no modules
        ("single", {"backbone": {"kind": "mlp", "hidden": [4]}}, True),  # none is known
    ],
)
def test_networks_without_such_convolutions_pay_nothing(method: str, settings: dict[str, Any], concerned: bool) -> None:
    run = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False, "epochs": 1}
    system = pp.learn(method, tiny_images(1, size=8), **run, **settings)
    assert may_outrun(system.network) == concerned


def test_rows_have_no_convolutions() -> None:
    run = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False, "epochs": 1}
    assert not may_outrun(pp.learn("rsn2", tiny_features(1), backbone={"kind": "mlp", "hidden": [4]}, **run).network)
