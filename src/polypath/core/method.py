"""A method: how paths are found and trained, and what it promises about the tasks that are not being trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from polypath.core.config import Config
from polypath.core.examples import TaskData
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.task import Task

Isolation = Literal["exact", "joint", "drifts"]
C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Stage:
    """One stretch of learning; a finished stage is a saved system.

    Args:
        tasks: names of the tasks whose data is needed; known tasks named here are trained again.
    """

    tasks: tuple[str, ...]


class Method(ABC, Generic[C]):
    """A frozen configuration and one loop.

    `exact`: tasks outside a stage stay bit-identical. `joint`: learning a new task trains known ones again, with
    their data. `drifts`: known tasks may change although their data is not used; the change is measured.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Config]]
    network_class: ClassVar[type[Network]]
    fixed: ClassVar[frozenset[str]] = frozenset()
    """Settings that shape the network; a system that grows keeps them."""
    goes_on: ClassVar[bool] = False
    """Whether a stage of a known task goes on from what the task has learned, leaving the others as they are."""

    def __init__(self, config: C | None = None, **values: Any) -> None:
        self.config: C = config if config is not None else self.config_class.of(values, "method")  # type: ignore[assignment]

    @property
    @abstractmethod
    def isolation(self) -> Isolation:
        """What this instance promises about tasks outside the stage."""

    @abstractmethod
    def build(self, tasks: Sequence[Task], run: Run) -> Network:
        """An empty network able to take these tasks; does not add them."""

    def expect(self, network: Network, tasks: Sequence[str]) -> None:  # noqa: B027 (most methods need not know)
        """Hear of all tasks that will be added, before any is; overridden where a task's place depends on the others.

        Args:
            network: the empty one, or that of a system which grows.
            tasks: those that it does not have, in the order of the suite; some may have been told before.
        """

    def admit(self, network: Network, task: Task) -> None:
        """Add a task to the network before its first stage; overridden where the configuration says how."""
        network.add_task(task)

    @abstractmethod
    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """How the new tasks are learned given the known ones. Joint: one stage of all. Sequential: one each."""

    def needs(self, network: Network, tasks: Sequence[str]) -> Collection[str]:
        """Components that `learn` reads or moves: all that a lazy network has in memory while it grows exactly.

        Overridden where that is more than the stage's tasks use. What only shows while learning (a parent that is
        drawn) the method asks for with `network.require(names)`.

        Args:
            network: with the tasks of the stage added, most of its components described only.
            tasks: of the stage.
        """
        return network.components_of(tasks)

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """Settings under which every task's training examples are passed about `passes` times, for fair comparisons.

        Here `epochs`, and the points where the rate falls in proportion; overridden where learning has other stretches.

        Args:
            passes: over the training examples, at least 1, everything included that is not the final training.
            tasks: how many are learned.
        """
        return paced_epochs(self.config, passes)

    @abstractmethod
    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """One stage. `data` is that of the stage's tasks, which are already in the network."""


def paced_epochs(config: Config, epochs: int) -> dict[str, Any]:
    """So many epochs, with the points of `decay_at` or `halve_at` moved in proportion.

    Args:
        config: with a field `epochs`.
        epochs: at least 1.
    """
    values = config.model_dump(include={"epochs", "decay_at", "halve_at"})
    before, found = values.pop("epochs"), {"epochs": max(1, epochs)}
    return found | {key: moved(points, before, found["epochs"]) for key, points in values.items() if points}


def moved(points: Sequence[int], epochs: int, to: int) -> tuple[int, ...]:
    """Epochs of a training of length `epochs`, in proportion in one of length `to`; the first at the earliest.

    Epoch 0 would lower the rate before anything is learned, and for good.
    """
    return tuple(max(1, round(at * to / epochs)) for at in points)
