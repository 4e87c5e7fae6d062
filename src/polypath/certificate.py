"""What a change did to the tasks it was not about: component hashes and answers before and after, as a document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from polypath.core.config import Config
from polypath.core.errors import CorruptError, Unreadable
from polypath.core.files import write_json
from polypath.core.network import Network
from polypath.core.probe import PROBE_COUNT, machine, probe_outputs
from polypath.core.task import Task
from polypath.removal import certificate_files, next_file, read_certificate
from polypath.system import System

Rows = tuple[tuple[float | str, ...], ...]  # texts for what JSON has no number for


@dataclass(frozen=True)
class TaskState:
    """One task as it answers now.

    Args:
        task: its definition.
        steps: components of its path, and of its exits.
        probe: seed and count of the inputs, and the outputs (count, outputs) in float32.
    """

    task: Task
    steps: tuple[tuple[str, ...], ...]
    probe: tuple[int, int, torch.Tensor]


@dataclass(frozen=True)
class Measured:
    """Tasks and the digests of everything that is theirs to use."""

    tasks: dict[str, TaskState]
    components: dict[str, str]


def measured(system: System, tasks: Sequence[str] | None = None) -> Measured:
    """Hash the components of the given tasks (all) and compute their probe outputs.

    Cost: reads every component once, and one forward pass of eight examples a task on one thread.

    Raises:
        CorruptError: a component on disk is not what the manifest says.
    """
    network = system.network
    names = list(network.tasks if tasks is None else tasks)
    parts = network.components_of(names)
    system._load(parts)
    return Measured({name: _state(system, network, name) for name in names}, network.digests(parts))


def _state(system: System, network: Network, name: str) -> TaskState:
    entry = system.entries.get(name)
    probe = entry.probe if entry is not None else None
    seed, count = (probe.seed, probe.count) if probe is not None else (system.seed, PROBE_COUNT)
    return TaskState(
        network.tasks[name], network.reach(name).steps, (seed, count, probe_outputs(network, name, seed, count))
    )


class ComponentProof(Config):
    """Digests of a component before and after."""

    before: str | None
    after: str | None


class ProbeProof(Config):
    """Answers of a task to seeded synthetic inputs.

    Args:
        seed, count: which inputs.
        before: (count, outputs) in float32.
        after: the same, or None where they are bit-identical.
        largest, mean: absolute change of an output.
        answers: share of the inputs whose answer (largest output) is another; None for regressions.
    """

    seed: int
    count: int
    before: Rows
    after: Rows | None = None
    largest: float | str = 0.0
    mean: float | str = 0.0
    answers: float | None = None


class TaskProof(Config):
    """What was found about one task.

    Args:
        was: its name before.
        components: of its path and its exits.
        differing: those whose contents are not what they were.
        same_path: whether it still uses the same components in the same order.
        same_definition: whether classes, inputs and preprocessing are as they were.
        probe: its answers.
    """

    was: str
    components: tuple[str, ...]
    differing: tuple[str, ...] = ()
    same_path: bool = True
    same_definition: bool = True
    probe: ProbeProof

    @property
    def identical(self) -> bool:
        """Whether not a bit of the task is different."""
        return self.same_path and self.same_definition and not self.differing and self.probe.after is None


class Certificate(Config):
    """What one change did to the tasks that it was not about.

    Args:
        what: added, updated, removed or renamed.
        tasks: those that it was about.
        at: when, UTC.
        polypath, torch, machine: what computed it; bit-identity of answers is a statement about one machine.
        method: of the system.
        isolation: what the method promised: exact, joint or drifts.
        manifest_before, manifest_after: sha256 of the two manifests.
        components: of the other tasks.
        others: the other tasks.
        redacted: tasks that were removed since; their values are no longer here.
    """

    format_version: int = 1
    what: str
    tasks: tuple[str, ...]
    at: str
    polypath: str
    torch: str
    machine: str
    method: str
    isolation: str | None
    manifest_before: str | None = None
    manifest_after: str | None = None
    components: dict[str, ComponentProof]
    others: dict[str, TaskProof]
    redacted: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every other task is bit-identical."""
        return all(proof.identical for proof in self.others.values())

    @property
    def moved(self) -> list[str]:
        """Other tasks that are not bit-identical."""
        return [name for name, proof in self.others.items() if not proof.identical]

    def summary(self) -> str:
        """One sentence for people."""
        count = f"{len(self.others)} other task(s)"
        if not self.others:
            return "there is no other task"
        if self.identical:
            probes = sum(proof.probe.count for proof in self.others.values())
            return f"{count} bit-identical: {len(self.components)} component hashes and {probes} recorded answers agree"
        largest = max(self.moved, key=lambda name: _size(self.others[name].probe.largest))
        figure = self.others[largest].probe.largest
        shown = f"{figure:.3g}" if isinstance(figure, float) else figure
        return (
            f"{len(self.moved)} of {count} changed ({self.isolation}); most {largest!r}, whose outputs moved by {shown}"
        )


def certify(
    before: Measured,
    after: Measured,
    system: System,
    what: str,
    tasks: Sequence[str],
    names: Mapping[str, str] | None = None,
    manifests: tuple[str | None, str | None] = (None, None),
) -> Certificate:
    """Compare two states of the tasks that are in both.

    Args:
        before: as measured then.
        after: as measured now.
        system: as it is now.
        what: was done.
        tasks: to which tasks; they are left out.
        names: name now -> name before, for renamed tasks.
        manifests: sha256 of the manifest before and after.
    """
    from polypath import __version__

    names = names or {}
    others = {
        name: _proof(names.get(name, name), before, after, name)
        for name in after.tasks
        if name not in tasks and names.get(name, name) in before.tasks
    }
    used = list(dict.fromkeys(part for proof in others.values() for part in proof.components))
    return Certificate(
        what=what,
        tasks=tuple(tasks),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        polypath=__version__,
        torch=torch.__version__,
        machine=machine(),
        method=system.method,
        isolation=system.isolation,
        manifest_before=manifests[0],
        manifest_after=manifests[1],
        components={
            part: ComponentProof(before=before.components.get(part), after=after.components.get(part)) for part in used
        },
        others=others,
    )


def _proof(was: str, before: Measured, after: Measured, name: str) -> TaskProof:
    old, new = before.tasks[was], after.tasks[name]
    parts = tuple(dict.fromkeys(part for step in (*old.steps, *new.steps) for part in step))
    return TaskProof(
        was=was,
        components=parts,
        differing=tuple(part for part in parts if before.components.get(part) != after.components.get(part)),
        same_path=old.steps == new.steps,
        same_definition=old.task.renamed(name) == new.task,
        probe=_compared(old.probe, new.probe, new.task),
    )


def _compared(old: tuple[int, int, torch.Tensor], new: tuple[int, int, torch.Tensor], task: Task) -> ProbeProof:
    seed, count, first = old
    last = new[2]
    if old[:2] == new[:2] and first.shape == last.shape and _bits(first) == _bits(last):
        return ProbeProof(seed=seed, count=count, before=_rows(first), answers=_changed(first, first, task))
    if first.shape != last.shape:
        return ProbeProof(
            seed=seed, count=count, before=_rows(first), after=_rows(last), largest="inf", mean="inf", answers=None
        )
    moved = (first - last).abs()
    return ProbeProof(
        seed=seed,
        count=count,
        before=_rows(first),
        after=_rows(last),
        largest=_number(float(moved.max())),
        mean=_number(float(moved.mean())),
        answers=_changed(first, last, task),
    )


def _changed(first: torch.Tensor, last: torch.Tensor, task: Task) -> float | None:
    if task.target.kind == "regression":
        return None
    if task.target.kind == "multilabel" or first.shape[1] == 1:
        return float(((first > 0) != (last > 0)).any(1).float().mean())
    return float((first.argmax(1) != last.argmax(1)).float().mean())


def _bits(values: torch.Tensor) -> bytes:
    return values.contiguous().numpy().tobytes()


def _rows(values: torch.Tensor) -> Rows:
    return tuple(tuple(_number(value) for value in row) for row in values.reshape(len(values), -1).tolist())


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _size(value: float | str) -> float:
    return float(value)


# ---- on disk --------------------------------------------------------------------------------------------------


def write(folder: Path, what: str, values: Mapping[str, Any]) -> Path:
    """Put a document into `certificates/` under the next free number; returns its file.

    Args:
        folder: the system's.
        what: second half of the name.
        values: JSON.
    """
    path = next_file(folder, what)
    path.parent.mkdir(exist_ok=True)
    write_json(path, values)
    return path


def drop_before(folder: Path, time: str) -> list[Path]:
    """Delete the certificates of a folder that are older than a time, and damaged ones; reports on removals stay.

    Args:
        folder: the system's.
        time: UTC, as in `Certificate.at`.

    Returns:
        The files that went.
    """
    gone = []
    for path in certificate_files(folder):
        try:
            values = read_certificate(path)
        except Unreadable:
            old = False
        except CorruptError:
            old = True
        else:
            old = values.get("what") != "removed" and str(values.get("at", time)) < time
        if old:
            path.unlink(missing_ok=True)
            gone.append(path)
    return gone
