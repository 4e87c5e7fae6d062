"""MTAN's network: one trunk, and for every task masks that pick from its features (Liu, Johns, Davison 2019).

Components: `stem`, `stage1.body` and `stage1.last` (base: the first and the second block of a stage), `carry1` to
`carry3` (base: blocks that take attended features to the next stage's width), `attention1.t0` (own), `head.t0` (own).
The trunk comes first on every path, so that it runs once for all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from polypath.core.component import Path
from polypath.core.task import Task
from polypath.nn.fold import folded_copy
from polypath.nn.residual import Block, ResidualNetwork, residual_blocks
from polypath.nn.resnet import FirstHalf, SecondHalf, he_normal

STAGES = 4


class Attention(nn.Module):
    """conv1x1-BN-ReLU-conv1x1-BN-sigmoid: how much of each feature a task takes, 0..1."""

    def __init__(self, channels: int, wanted: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wanted, 1),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
            nn.Conv2d(wanted, wanted, 1),
            nn.BatchNorm2d(wanted),
            nn.Sigmoid(),
        )

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) to (B, wanted, H, W)."""
        mask: torch.Tensor = self.layers(value)
        return mask


class AttentionNetwork(ResidualNetwork):
    """See the module docstring; the form that a ResNet takes in LibMTL."""

    method: ClassVar[str] = "mtan"

    def _build(self) -> int:
        stem, blocks = residual_blocks(self.config.backbone, self.config.inputs, self.method)
        self._put("stem", stem)
        self._widths = [int(blocks[2 * stage].body[3].out_channels) for stage in range(STAGES)]  # type: ignore[arg-type]
        for stage in range(STAGES):
            self._put(f"stage{stage + 1}.body", blocks[2 * stage])
            self._put(f"stage{stage + 1}.last", blocks[2 * stage + 1])
        for stage in range(STAGES - 1):
            here, there = self._widths[stage : stage + 2]
            carry = Block(FirstHalf(here, there, 1), SecondHalf(here, there, 1, last=False))
            he_normal(carry)
            self._put(f"carry{stage + 1}", carry)
        return self._widths[-1]

    def _admit_parts(self, task: Task, task_id: str) -> None:
        for stage, width in enumerate(self._widths, start=1):
            self._put(f"attention{stage}.{task_id}", Attention(width if stage == 1 else 2 * width, width))

    def _task_plan(self, task: str) -> dict[str, Any]:
        return {}

    def _restore_task(self, task: str, plan: Mapping[str, Any]) -> None:
        pass

    def path(self, task: str, exit: str | None = None) -> Path:
        """The whole trunk, then the task's attention stage by stage, then its head."""
        self.require_only_exit(task, exit)
        own = self._ids[task]
        trunk = [(f"stage{s}.{part}",) for s in range(1, STAGES + 1) for part in ("body", "last")]
        attended = [
            (f"attention{s}.{own}", f"carry{s}") if s < STAGES else (f"attention{s}.{own}",)
            for s in range(1, STAGES + 1)
        ]
        return Path(task, (("stem",), *trunk, *attended, (f"head.{own}",)))

    def start(self, inputs: torch.Tensor) -> Any:
        """(what the trunk has come to, features of its stages, what the task has picked so far)."""
        return inputs, (), None

    def step(self, value: Any, names: Sequence[str]) -> Any:
        """One block of the trunk, or the attention to one stage, or the head."""
        return advance(value, names, self.part)

    def fuse(self, path: Path) -> nn.Module:
        """The same steps on copies, BatchNorm folded."""
        parts = {name: folded_copy(self.part(name)) for name in path.components}
        return Attended(path.steps, parts)


def advance(value: Any, names: Sequence[str], part: Any) -> Any:
    """One step of a path; `part` gives the module of a component."""
    current, features, picked = value
    kind = names[0]
    if kind.startswith("head."):
        return part(kind)(picked.mean((2, 3)))
    if not kind.startswith("attention"):
        current = part(kind)(current)
        return current, features if kind == "stem" else (*features, current), None
    stage = int(kind.removeprefix("attention").partition(".")[0])
    before, after = features[2 * stage - 2 : 2 * stage]
    seen = before if picked is None else torch.cat([before, picked], dim=1)
    picked = part(kind)(seen) * after
    if len(names) > 1:
        # Like the trunk's next stage, but never below one pixel.
        picked = nn.functional.max_pool2d(part(names[1])(picked), 2, ceil_mode=True)
    return current, features, picked


class Attended(nn.Module):
    """A path as an ordinary module."""

    def __init__(self, steps: Sequence[Sequence[str]], parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.steps = tuple(tuple(names) for names in steps)
        self.parts = nn.ModuleDict({name.replace(".", "-"): module for name, module in parts.items()})

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs (n, outputs)."""
        value: Any = (inputs, (), None)
        for names in self.steps:
            value = advance(value, names, lambda name: self.parts[name.replace(".", "-")])
        return value
