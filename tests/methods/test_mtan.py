"""MTAN: what a task's attention sees, costs and shares (specification, section 6)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import polypath as pp
from polypath.core.errors import InvalidInput
from polypath.methods.mtan import Mtan
from polypath.nn.attention import AttentionNetwork
from polypath.nn.residual import ResidualConfig
from polypath.testing import tiny_images

RUN: dict[str, Any] = {"device": "cpu", "precision": "32-true", "threads": 1, "progress": False}
THIN = {"kind": "resnet18", "stem": "paper", "width": 1 / 8}


def network(width: float = 1 / 8, tasks: int = 2) -> AttentionNetwork:
    suite = tiny_images(tasks, size=32)
    description = {**THIN, "width": width}
    made = AttentionNetwork(ResidualConfig(backbone=description, inputs=suite.tasks[0].task.inputs))
    for item in suite:
        made.add_task(item.task)
    return made


def test_attention_of_a_stage_by_hand() -> None:
    """mask(u) x p in the first stage; the second sees what was picked beside its own u."""
    made = network().eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, value = [], made.part("stem")(x)
        for stage in range(1, 5):
            u = made.part(f"stage{stage}.body")(value)
            value = made.part(f"stage{stage}.last")(u)
            features.append((u, value))
        picked = None
        for stage, (u, p) in enumerate(features, start=1):
            mask = made.part(f"attention{stage}.t1")(u if picked is None else torch.cat([u, picked], 1))
            assert float(mask.min()) >= 0 and float(mask.max()) <= 1 and mask.shape == p.shape
            picked = mask * p
            if stage < 4:
                picked = torch.nn.functional.max_pool2d(made.part(f"carry{stage}")(picked), 2, ceil_mode=True)
        assert picked is not None
        assert torch.equal(made(x, "task1"), made.part("head.t1")(picked.mean((2, 3))))


def test_the_trunk_runs_once_for_all_tasks() -> None:
    made = network(tasks=3).eval()
    calls: list[str] = []
    for name in ("stem", "stage4.last", "attention1.t0"):
        made.part(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    made.forward_many(torch.zeros(1, 3, 32, 32), made.tasks)
    assert sorted(calls) == ["attention1.t0", "stage4.last", "stem"]


def test_parameters_by_hand() -> None:
    """Attention of two 1x1 convolutions a stage, with bias and BatchNorm; three blocks that widen, shared by all."""
    made = network(width=1.0)
    counts = {name: sum(p.numel() for p in made.part(name).parameters()) for name in made.components()}
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        seen = width if stage == 1 else 2 * width
        assert counts[f"attention{stage}.t0"] == (seen * width + width) + (width * width + width) + 4 * width
    for stage, (here, there) in enumerate(((64, 128), (128, 256), (256, 512)), start=1):
        assert counts[f"carry{stage}"] == 9 * here * there + 9 * there * there + here * there + 6 * there


def test_what_a_task_owns_goes_with_it() -> None:
    system = pp.learn("mtan", tiny_images(2), backbone=THIN, epochs=1, batch=8, decay_at=[], **RUN)
    removal = system.remove("task0")
    assert set(removal.freed) == {"head.t0", *(f"attention{stage}.t0" for stage in range(1, 5))}
    assert removal.reset == () and "carry1" in removal.residue


def test_other_backbones_are_refused() -> None:
    with pytest.raises(InvalidInput, match="mtan is defined on residual blocks: .*'resnet18', received 'mlp'"):
        pp.learn("mtan", tiny_images(1), backbone="mlp", **RUN)
    assert Mtan().config.backbone["stem"] == "cifar"  # type: ignore[index, call-overload]
