"""mu2Net's evolution of one task's models: whom to mutate, how, and what to keep. Pure ask and tell.

    evolution = Evolution(config, "bangla", active, others, seed=7)
    for child in evolution.ask(8):  # a generation
        evolution.tell(child, score, layers)  # once it is trained; score None where it never reached its parent's
    evolution.end_generation()
    evolution.best()

Models are lists of (slot, component): `("encoderblock_0", "encoderblock_0.17")`. What a component is, and how it is
trained, this module does not know. Every draw comes from a stream of its own, `(seed, generation, child)`.

Source: mu2Net, algorithm 1, sections 3.1 to 3.3; where paper and the authors' notebook differ the paper is the
default and the notebook an option.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol

from pydantic import Field, field_serializer, field_validator

from polypath.core.config import Config
from polypath.core.errors import InvalidInput, collect
from polypath.core.seeds import derive
from polypath.search.hyperparameters import DATA, MU, NUM_LAYERS, Choice, Value, default_table, defaults, merged

Action = Literal["share", "clone", "new"]
Layers = tuple[tuple[str, str], ...]


class EvolutionConfig(Config):
    """How parents are sampled and children mutated.

    Args:
        hyperparameters: their values and defaults, see `polypath.search.hyperparameters.merged`.
        clone: probability with which a layer is cloned and trained; None is the child's mu, as in the paper. 1 trains
            everything, 0 the head alone.
        freeze: so many lowest layers are never cloned (a control of the muNet papers).
        always_train_own: every layer that no other task uses is cloned whatever mu says (the authors' notebook).
        data_hyperparameters: image settings are inherited and mutated by every `child` (paper), or drawn once a
            `generation` from the best model's with the default mu, and hold for all its children (notebook).
        others: models of other tasks are tried in a `fresh` random order for every child (paper), or in one order
            that each next search enters behind the last accepted one (`rotating`, notebook).
        parents: `all` models that the task may use, or its own and the `root` alone (a control).
    """

    hyperparameters: dict[str, Choice] = Field(default_factory=default_table)
    clone: float | None = Field(None, ge=0, le=1)
    freeze: int = Field(0, ge=0)
    always_train_own: bool = False
    data_hyperparameters: Literal["child", "generation"] = "child"
    others: Literal["fresh", "rotating"] = "fresh"
    parents: Literal["all", "root"] = "all"

    @field_validator("hyperparameters", mode="before")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        return merged(given) if isinstance(given, Mapping) else given

    @field_serializer("hyperparameters")
    def _plain(self, table: dict[str, Choice]) -> dict[str, Any]:
        return {name: choice.model_dump(mode="json") for name, choice in table.items()}


@dataclass(frozen=True)
class Individual:
    """A trained model, or the root.

    Args:
        number: unique; a higher one is more recent.
        task: whose model it is; None for the root.
        layers: (slot, component) from the input to the head; the root has no head.
        hyperparameters: name -> value.
        score: on its own task; None for the root.
        parent: number of the model it was made from.
    """

    number: int
    task: str | None
    layers: Layers
    hyperparameters: Mapping[str, Value]
    score: float | None = None
    parent: int | None = None


class Trained(Protocol):
    """What evolution reads of a model that it did not make itself: an `Individual`, or a network's record of it."""

    @property
    def number(self) -> int:
        """Of the model."""

    @property
    def task(self) -> str | None:
        """Whose model it is; None for the root."""

    @property
    def layers(self) -> Layers:
        """(slot, component) from the input to the head."""

    @property
    def hyperparameters(self) -> Mapping[str, Value]:
        """Name -> value."""

    @property
    def score(self) -> float | None:
        """On its own task; None for the root."""

    @property
    def parent(self) -> int | None:
        """Number of the model it was made from."""


@dataclass(frozen=True)
class Gene:
    """One layer of a child.

    Args:
        slot: which layer of the architecture.
        action: `share` the component and keep it frozen, `clone` and train it, or train a `new` one.
        origin: the component that is shared or cloned; None for a new one.
    """

    slot: str
    action: Action
    origin: str | None = None


@dataclass(frozen=True)
class Child:
    """A model to be trained.

    Args:
        number: it will have as an individual.
        generation: from 0.
        position: in its generation, from 0.
        parent: number of the model that was mutated.
        genes: its layers in order, the head last.
        hyperparameters: after mutation.
        threshold: a trained state counts where its score is at least this: the parent's where it is of the same task.
    """

    number: int
    generation: int
    position: int
    parent: int
    genes: tuple[Gene, ...]
    hyperparameters: Mapping[str, Value]
    threshold: float | None


@dataclass(frozen=True)
class Anatomy:
    """What evolution must know of the architecture.

    Args:
        always: slots that every child clones whatever mu says (a final norm that belongs to the head).
        block: prefix of the slots that `num_layers` counts, "encoderblock_"; None where none can be inserted.
        head: slot of the head.
    """

    always: frozenset[str] = frozenset()
    block: str | None = None
    head: str = "head"


@dataclass
class Evolution:
    """One active task iteration.

    Args:
        config: see `EvolutionConfig`.
        task: the active task.
        active: its models retained so far.
        others: models of other tasks and the root, all of which the task is permitted to use.
        seed: of every draw.
        anatomy: of the models.
        selections: number of a model -> how often it was chosen as a parent for this task before; counted on.
        own: components that no other task uses and that are not the root's (for `always_train_own`).
        first: number of the first child; above that of every model.
    """

    config: EvolutionConfig
    task: str
    active: Sequence[Trained]
    others: Sequence[Trained]
    seed: int
    anatomy: Anatomy = field(default_factory=Anatomy)
    selections: Mapping[int, int] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    first: int = 1

    def __post_init__(self) -> None:
        self._population: list[Trained] = list(self.active)
        self._others = [m for m in self.others if m.task is None] if self.config.parents == "root" else self.others
        self._selections = dict(self.selections)
        self._own = set(self.own)
        self._waiting: list[Individual] = []
        self._generation, self._next = 0, self.first
        self._known = {m.number: m for m in (*self.active, *self.others)}
        if self.config.others == "rotating":
            self._rotating = list(self._others)
            Random(derive(self.seed, "others")).shuffle(self._rotating)
        problems = [f"model {m.number} is of task {m.task!r}" for m in self.active if m.task != self.task]
        problems += [f"model {m.number} has no score" for m in self.active if m.score is None]
        own = {m.number for m in self.active}
        problems += [f"model {m.number} of the active task is among the others" for m in self.others if m.number in own]
        collect(problems, f"evolution of task {self.task!r}")
        if not self._known:
            raise InvalidInput(f"evolution of task {self.task!r}: at least one model to begin with is required")
        if NUM_LAYERS in self.config.hyperparameters and self.anatomy.block is None:
            raise InvalidInput("hyperparameters.num_layers: this root has no blocks to insert or remove; leave it out")
        if NUM_LAYERS in self.config.hyperparameters:
            most = self.config.hyperparameters[NUM_LAYERS].values[-1]
            depth = max((self._blocks(m) for m in self.others if m.task is None), default=0)
            if most < depth:
                raise InvalidInput(
                    f"hyperparameters.num_layers: the root has {depth} blocks, a list that ends with {most} would cut "
                    f"{depth - most} off every child; list {depth}, too, or give the root depth={most}"
                )

    # ---- ask and tell -----------------------------------------------------------------------------------------

    def ask(self, count: int) -> list[Child]:
        """The children of the next generation. Choosing a parent counts, whatever becomes of the child."""
        shared = self._generation_settings() if self.config.data_hyperparameters == "generation" else {}
        children = []
        for position in range(count):
            rng = Random(derive(self.seed, "child", self._generation, position))
            parent = self._parent(rng)
            self._selections[parent.number] = self._selections.get(parent.number, 0) + 1
            children.append(self._child(parent, position, rng, shared))
            self._next += 1
        return children

    def tell(self, child: Child, score: float | None, layers: Layers) -> None:
        """A child is trained: its score and its components; None where no state reached the threshold."""
        if score is None or (child.threshold is not None and score < child.threshold):
            return
        self._waiting.append(Individual(child.number, self.task, layers, child.hyperparameters, score, child.parent))
        origins = {gene.slot: gene for gene in child.genes}
        self._own |= {name for slot, name in layers if origins[slot].action != "share"}

    def end_generation(self) -> None:
        """Children join the population only now: those of one generation train side by side."""
        self._population += self._waiting
        self._known |= {m.number: m for m in self._waiting}
        self._waiting, self._generation = [], self._generation + 1

    def best(self) -> Trained | None:
        """The model with the highest score, the most recent of equals; None while there is none."""
        return max(self._population, key=_rank, default=None)

    @property
    def population(self) -> tuple[Trained, ...]:
        """Models of the active task."""
        return tuple(self._population)

    @property
    def counted(self) -> dict[int, int]:
        """Number of a model -> how often it was chosen as a parent for this task."""
        return dict(self._selections)

    # ---- parents ----------------------------------------------------------------------------------------------

    def _accepted(self, model: Trained, rng: Random) -> bool:
        return rng.random() < 0.5 ** self._selections.get(model.number, 0)

    def _parent(self, rng: Random) -> Trained:
        """Section 3.1: the task's models by score, then the others in random order, then any of all."""
        for model in sorted(self._population, key=_rank, reverse=True):
            if self._accepted(model, rng):
                return model
        for position, model in enumerate(self._ordered(rng)):
            if self._accepted(model, rng):
                if self.config.others == "rotating":
                    self._rotating = self._rotating[position + 1 :] + self._rotating[: position + 1]
                return model
        return rng.choice([*self._population, *self._others])

    def _ordered(self, rng: Random) -> list[Trained]:
        if self.config.others == "rotating":
            return list(self._rotating)
        return rng.sample(self._others, len(self._others))

    def _ancestors(self, model: Trained) -> Iterator[Trained]:
        seen: set[int] = set()
        current: Trained | None = model
        while current is not None and current.number not in seen:
            yield current
            seen.add(current.number)
            current = None if current.parent is None else self._known.get(current.parent)

    # ---- mutations --------------------------------------------------------------------------------------------

    def _generation_settings(self) -> dict[str, Value]:
        """Image settings of a whole generation, from the task's best model, mutated with the default mu."""
        rng = Random(derive(self.seed, "data", self._generation))
        best, table = self.best(), self.config.hyperparameters
        base = {**defaults(table), **(best.hyperparameters if best is not None else {})}
        mu = table[MU].start
        found: dict[str, Value] = {}
        for name in DATA:
            value = table[name].nearest(base[name])
            found[name] = table[name].step(value, rng) if mu > rng.random() else value
        return found

    def _child(self, parent: Trained, position: int, rng: Random, shared: Mapping[str, Value]) -> Child:
        settings = {**self._mutated(parent, rng, leave=shared), **shared}
        probability = float(settings[MU]) if self.config.clone is None else self.config.clone
        slots = self._resized(parent, settings)
        genes = [self._gene(slot, origin, index, probability, rng) for index, (slot, origin) in enumerate(slots)]
        genes.append(self._head(parent))
        same = parent.task == self.task
        return Child(
            self._next,
            self._generation,
            position,
            parent.number,
            tuple(genes),
            settings,
            parent.score if same else None,
        )

    def _mutated(self, parent: Trained, rng: Random, leave: Mapping[str, Value]) -> dict[str, Value]:
        """Hyper-parameters after mutation: mu first, whose new value governs all the rest; then by name."""
        table = self.config.hyperparameters
        base = {**defaults(table), **{k: v for k, v in parent.hyperparameters.items() if k in table}}
        if NUM_LAYERS in table:  # the blocks that are there count, also in a root that was given none of the list
            base[NUM_LAYERS] = self._blocks(parent)
        found: dict[str, Value] = {name: table[name].nearest(value) for name, value in base.items()}
        for name in (MU, *sorted(found.keys() - {MU} - leave.keys())):
            if float(found[MU]) > rng.random():
                found[name] = table[name].step(found[name], rng)
        return found

    def _blocks(self, model: Trained) -> int:
        assert self.anatomy.block is not None
        return sum(slot.startswith(self.anatomy.block) for slot, _ in model.layers)

    def _resized(self, parent: Trained, settings: Mapping[str, Value]) -> list[tuple[str, str | None]]:
        """The parent's layers but its head, with blocks added on top or taken from there as `num_layers` says."""
        slots: list[tuple[str, str | None]] = [(s, name) for s, name in parent.layers if s != self.anatomy.head]
        if NUM_LAYERS not in settings:
            return slots
        prefix, wanted = self.anatomy.block, int(settings[NUM_LAYERS])
        assert prefix is not None
        blocks = [entry for entry in slots if entry[0].startswith(prefix)]
        at = next((i for i, (slot, _) in enumerate(slots) if slot in self.anatomy.always), len(slots))
        at = slots.index(blocks[0]) if blocks else at
        rest = [entry for entry in slots if entry not in blocks]
        for index in range(len(blocks), wanted):
            blocks.append((f"{prefix}{index}", self._inherited(parent, f"{prefix}{index}")))
        return [*rest[:at], *blocks[:wanted], *rest[at:]]

    def _inherited(self, parent: Trained, slot: str) -> str | None:
        """The component of a slot in the nearest ancestor that has one."""
        return next((dict(model.layers)[slot] for model in self._ancestors(parent) if slot in dict(model.layers)), None)

    def _gene(self, slot: str, origin: str | None, index: int, probability: float, rng: Random) -> Gene:
        chosen = probability > rng.random()  # drawn for every layer, so that options do not move later draws
        if origin is None:
            return Gene(slot, "new")
        if slot in self.anatomy.always or (self.config.always_train_own and origin in self._own):
            return Gene(slot, "clone", origin)
        if index < self.config.freeze:
            chosen = False
        return Gene(slot, "clone" if chosen else "share", origin)

    def _head(self, parent: Trained) -> Gene:
        """The head of the nearest ancestor of the same task, the parent first; else a new one."""
        for model in self._ancestors(parent):
            if model.task == self.task:
                return Gene(self.anatomy.head, "clone", dict(model.layers)[self.anatomy.head])
        return Gene(self.anatomy.head, "new")


def _rank(model: Trained) -> tuple[float, int]:
    assert model.score is not None
    return model.score, model.number
