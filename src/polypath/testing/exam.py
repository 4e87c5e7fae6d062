"""The candidate of the exam, what it was seen doing, and the error that says which law it broke."""

from __future__ import annotations

import copy
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from polypath.core.errors import PolypathError, UnknownName
from polypath.core.examples import Suite, TaskData
from polypath.core.method import Method
from polypath.core.network import Network
from polypath.learning import learn
from polypath.system import System, load
from polypath.testing.suites import tiny_images
from polypath.train.config import RunConfig
from polypath.train.engine import Engine

Factory = Callable[[], Method[Any]]


class LawBroken(PolypathError, AssertionError):
    """A method does not keep one of the laws; says which, and what was found."""


class Candidate:
    """A method sitting the exam, with the suite it learns and the systems it has learned so far.

    Learned systems are kept for all laws of the exam; a law that changes one takes a `twin`.

    Args:
        factory: makes the method, freshly configured (tiny: it learns about ten times).
        suite: at least three tasks; two are learned, the third is added. None takes `tiny_images()`.
        seed: of everything random.
        settings: of the runs; the default is one CPU thread in float32, where results are reproducible bit by bit.
    """

    def __init__(
        self, factory: Factory, suite: Suite | None = None, *, seed: int = 0, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.factory = factory
        self.suite = suite if suite is not None else tiny_images()
        if len(self.suite) < 3:
            raise ValueError(f"the exam needs a suite of three tasks or more, received {len(self.suite)}")
        self.seed = seed
        fixed = {"device": "cpu", "precision": "32-true", "threads": 1}
        self.settings: dict[str, Any] = {**fixed, **(settings or {})}
        self.method = factory()

    @property
    def first(self) -> Suite:
        """The two tasks that are learned first."""
        return self.suite.only(self.suite.names[:2])

    @property
    def added(self) -> TaskData:
        """The task that is added later."""
        return self.suite.tasks[2]

    def learn(self, suite: Suite | None = None, *, seed: int | None = None, **settings: Any) -> System:
        """A new system that learned the first two tasks, or those of `suite`."""
        chosen = self.first if suite is None else suite
        drawn = self.seed if seed is None else seed
        return learn(self.factory(), chosen, seed=drawn, progress=False, **{**self.settings, **settings})

    @cached_property
    def learned(self) -> System:
        """The system after the first two tasks; not to be changed."""
        return self.learn()

    @property
    def network(self) -> Network:
        """The network of `learned`; not to be changed."""
        return self.learned.network

    @cached_property
    def unlearned(self) -> dict[str, str]:
        """Digests of the network with the first two tasks added, before anything is learned."""
        engine = Engine(seed=self.seed, config=RunConfig.of(self.settings, "run"), progress=False)
        method = self.factory()
        network = method.build([data.task for data in self.first], engine)
        for data in self.first:
            method.admit(network, data.task)
        return network.digests()

    def twin(self) -> System:
        """A copy of `learned` that a law may change."""
        system = self.learned
        shared = {id(held): held for held in (system.data, system.result)}  # never changed, and large
        return copy.deepcopy(system, shared)

    @cached_property
    def grown(self) -> System:
        """A copy of `learned` that learned the third task too; not to be changed."""
        return self.grow(self.twin())

    def grow(self, system: System) -> System:
        """Teach a system the third task: under weight decay where the method has it, joint methods with all data.

        Weight decay moves every parameter that an optimizer holds, with or without a gradient.
        """
        decay: dict[str, Any] = {"weight_decay": 0.1} if "weight_decay" in self.method.config_class.model_fields else {}
        known = [self.suite[name] for name in system.tasks] if self.method.isolation == "joint" else []
        return system.learn([*known, self.added], method=type(self.method), progress=False, **self.settings, **decay)

    @cached_property
    def elsewhere(self) -> System:
        """A system that learned the first task alone with another seed; not to be changed."""
        return self.learn(self.suite.only(self.suite.names[:1]), seed=self.seed + 1)

    @cached_property
    def reloaded(self) -> Reloaded:
        """`learned`, saved, loaded and taught the third task, with the files before and after that."""
        held = Scratch()
        folder = held.path
        self.twin().save(folder)
        before = component_files(folder)
        system = self.grow(load(folder))
        return Reloaded(held, folder, before, component_files(folder), system)

    def inputs(self, task: str, count: int = 4) -> torch.Tensor:
        """Encoded inputs (count, ...) of a task."""
        data = self.suite[task]
        return data.task.preprocess.encode(data.train.inputs(slice(0, count)))


class Scratch:
    """A temporary folder: inside a `with` block, or as long as somebody holds it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="polypath-exam-"))
        self._end = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self._end()


Files = dict[str, tuple[int, int, bytes]]


def component_files(folder: Path) -> Files:
    """Every component file of a system: inode, time of the last change, contents."""
    found = sorted((folder / "components").glob("*/*.safetensors"))
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@dataclass(frozen=True)
class Reloaded:
    """A system that was saved, loaded and taught another task.

    Args:
        held: keeps the folder alive.
        folder: where it was saved, before the third task.
        before: component files after the save.
        after: the same after learning.
        system: knows three tasks, not saved.
    """

    held: Scratch
    folder: Path
    before: Files
    after: Files
    system: System


Law = Callable[[Candidate], None]


def require(holds: bool, law: str, found: str) -> None:
    """Raise LawBroken unless `holds`."""
    if not holds:
        raise LawBroken(f"{law}: {found}")


def require_equal_digests(law: str, expected: Mapping[str, str], found: Mapping[str, str], what: str) -> None:
    """Raise LawBroken unless both name the same components with the same digests."""
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    require(not missing and not extra, law, f"{what}: components missing {missing[:5]}, not expected {extra[:5]}")
    moved = [name for name, sha in expected.items() if found[name] != sha]
    require(not moved, law, f"{what}: {len(moved)} of {len(expected)} components differ: {moved[:5]}")


def history_of(system: System) -> list[dict[str, Any]]:
    """The history without what two equal runs may differ in: time and run folder."""
    return [event.model_dump(exclude={"at", "run"}) for event in system.history]


def sit(laws: Mapping[str, Law], candidate: Candidate, names: Iterable[str] | None = None) -> tuple[str, ...]:
    """Apply laws one after the other; returns their names.

    Raises:
        UnknownName: no law of that name.
        LawBroken: lists every law that was broken.
    """
    wanted = tuple(laws) if names is None else tuple(names)
    for name in wanted:
        if name not in laws:
            raise UnknownName("law", name, laws)
    broken = []
    for name in wanted:
        try:
            laws[name](candidate)
        except LawBroken as error:
            broken.append(str(error))
    if broken:
        raise LawBroken(f"{len(broken)} of {len(wanted)} laws broken:\n" + "\n".join(f"  - {text}" for text in broken))
    return wanted
