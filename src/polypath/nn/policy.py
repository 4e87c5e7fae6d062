"""AdaShare's network: residual blocks that all tasks may use, and for every task which ones it runs (Sun et al. 2020).

Components: `stem` (base), `block1` to `block8` (base), `shortcut3`, `shortcut5`, `shortcut7` (base: the projections of
blocks that change the shape, which always run), `head.t0` (own). A task that skips a block has no step there, or the
shortcut alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from polypath.core.component import Path
from polypath.core.errors import InvalidInput
from polypath.core.task import Task
from polypath.nn.fold import folded_copy
from polypath.nn.residual import ResidualNetwork, residual_blocks

BLOCKS = 8


class PolicyNetwork(ResidualNetwork):
    """See the module docstring; a task runs every block until its policy is set."""

    method: ClassVar[str] = "adashare"

    def _build(self) -> int:
        stem, blocks = residual_blocks(self.config.backbone, self.config.inputs, self.method)
        self.policies: dict[str, list[bool]] = {}
        self.probabilities: dict[str, list[float]] = {}
        self._projects = []
        self._put("stem", stem)
        for number, block in enumerate(blocks, start=1):
            self._put(f"block{number}", block.body)
            if not isinstance(block.shortcut, nn.Identity):
                self._projects.append(number)
                self._put(f"shortcut{number}", block.shortcut)
        return int(blocks[-1].body[3].out_channels)  # type: ignore[arg-type]

    def _admit_parts(self, task: Task, task_id: str) -> None:
        self.policies.setdefault(task.name, [True] * BLOCKS)

    def _task_plan(self, task: str) -> dict[str, Any]:
        return {"policy": self.policies[task], "probabilities": self.probabilities.get(task, [])}

    def _restore_task(self, task: str, plan: Mapping[str, Any]) -> None:
        self.policies[task] = list(plan["policy"])
        if plan["probabilities"]:
            self.probabilities[task] = list(plan["probabilities"])

    def set_policy(self, task: str, run: Sequence[bool], probabilities: Sequence[float] = ()) -> None:
        """Which of the eight blocks a task runs, and how probable the search found each.

        Raises:
            InvalidInput: not one entry a block.
        """
        self.task_named(task)
        if len(run) != BLOCKS:
            raise InvalidInput(f"policy of {task!r}: one entry a block ({BLOCKS}) is required, received {len(run)}")
        self.policies[task] = [bool(one) for one in run]
        if len(probabilities):
            self.probabilities[task] = [float(one) for one in probabilities]

    def release(self, task: str) -> tuple[list[str], list[str]]:
        """As in every network of residual blocks; the policy goes too."""
        found = super().release(task)
        self.policies.pop(task, None)
        self.probabilities.pop(task, None)
        return found

    def path(self, task: str, exit: str | None = None) -> Path:
        """Stem, the blocks the task runs, shortcuts of those it skips, head."""
        self.require_only_exit(task, exit)
        steps: list[tuple[str, ...]] = [("stem",)]
        for number, run in enumerate(self.policies[task], start=1):
            names = [f"block{number}"] if run else []
            names += [f"shortcut{number}"] if number in self._projects else []
            steps += [tuple(names)] if names else []
        return Path(task, (*steps, (f"head.{self._ids[task]}",)))

    def start(self, inputs: torch.Tensor) -> torch.Tensor:
        """The encoded inputs themselves."""
        return inputs

    def step(self, value: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """Stem, one block with its shortcut, a shortcut alone, or the head."""
        return advance(value, names, self.part)

    def mixed(self, inputs: torch.Tensor, task: str, weights: torch.Tensor) -> torch.Tensor:
        """Outputs where every block is partly run and partly skipped, as the search needs them.

        Args:
            inputs: (n, ...) encoded.
            task: whose head answers.
            weights: (8, 2) of running and of skipping each block; a row adds up to 1.
        """
        value: torch.Tensor = self.part("stem")(inputs)
        for number in range(1, BLOCKS + 1):
            kept = self.part(f"shortcut{number}")(value) if number in self._projects else value
            ran = torch.relu(kept + self.part(f"block{number}")(value))
            run, skip = weights[number - 1]
            value = run * ran + skip * kept
        out: torch.Tensor = self.part(f"head.{self._ids[task]}")(value.mean((2, 3)))
        return out

    def fuse(self, path: Path) -> nn.Module:
        """The same steps on copies, BatchNorm folded."""
        return Chosen(path.steps, {name: folded_copy(self.part(name)) for name in path.components})


def advance(value: torch.Tensor, names: Sequence[str], part: Any) -> torch.Tensor:
    """One step of a path; `part` gives the module of a component."""
    kind, out = names[0], value
    if kind.startswith("head."):
        out = part(kind)(value.mean((2, 3)))
    elif kind == "stem" or kind.startswith("shortcut"):
        out = part(kind)(value)
    else:
        kept = part(names[1])(value) if len(names) > 1 else value
        out = torch.relu(kept + part(kind)(value))
    return out


class Chosen(nn.Module):
    """A path as an ordinary module."""

    def __init__(self, steps: Sequence[Sequence[str]], parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.steps = tuple(tuple(names) for names in steps)
        self.parts = nn.ModuleDict({name.replace(".", "-"): module for name, module in parts.items()})

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs (n, outputs)."""
        value = inputs
        for names in self.steps:
            value = advance(value, names, lambda name: self.parts[name.replace(".", "-")])
        return value
