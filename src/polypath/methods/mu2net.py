"""mu2Net: every task's model evolves from all models the system has, by cloning layers and mutating settings.

Paper: An evolutionary approach to dynamic introduction of tasks in large-scale multitask learning systems, section 3
and algorithm 1. What a model consists of is never changed afterwards, so that isolation is exact. A stage is one
active task iteration; a task may become active several times, and its model is then replaced by a better one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from polypath.core import accounting
from polypath.core.config import Config
from polypath.core.errors import InvalidInput, NeedsValidation
from polypath.core.examples import TaskData
from polypath.core.method import Isolation, Method, Stage
from polypath.core.network import Network
from polypath.core.run import Run
from polypath.core.seeds import derive
from polypath.core.task import Task
from polypath.methods.jobs import Job, Shared, Source, names_of, validation_rows
from polypath.methods.offspring import train_child
from polypath.methods.prefix import forget
from polypath.nn.backbones import common_inputs
from polypath.nn.evolved import Candidate, NewLayer
from polypath.nn.layered import Layered, LayeredConfig
from polypath.nn.roots import HEAD, DescribedRoot, layer_of, template
from polypath.search.evolution import Anatomy, Child, Evolution, EvolutionConfig
from polypath.search.hyperparameters import NUM_LAYERS
from polypath.search.score import ScoreConfig, accounted, factor


class Mu2NetConfig(EvolutionConfig):
    """Settings of mu2Net; those of parents and mutations are `polypath.search.EvolutionConfig`'s.

    The defaults are the paper's preliminary experiment's, section 4.

    Args:
        root: the root model, see `polypath.nn.roots`.
        iterations: how often every new task becomes active, all tasks in order each time.
        generations: of an active task iteration.
        children: of a generation, trained side by side.
        cycles: of training and validation that every child gets.
        cycles_of: tasks whose children get another number of cycles, for controls; names of no task do not matter.
        samples: training examples between two validations, at most one pass over the data.
        batch: examples a step.
        validation: most validation examples that score a child.
        clip: largest norm of all gradients together; 0 leaves them.
        accumulator: type in which momentum is kept, in training and on disk.
        head_init: heads of new tasks are `zero` (the authors' library) or `random` (the paper's text).
        fresh: new layers are drawn anew for every `child`, or are the same for all (`fixed`, the authors' notebook).
        prefix_cache: bytes in which every process that trains children keeps what frozen layers make of the examples,
            in the device's memory; results do not depend on it, bit for bit. 0 keeps nothing.
        score: what is maximised beside validation quality, see `polypath.search.ScoreConfig`.
    """

    root: DescribedRoot = Field({"kind": "vit", "name": "Ti/16", "depth": 0}, validate_default=True)
    iterations: int = Field(2, gt=0)
    generations: int = Field(4, gt=0)
    children: int = Field(8, gt=0)
    cycles: int = Field(4, gt=0)
    cycles_of: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    samples: int = Field(51_200, gt=0)
    batch: int = Field(512, gt=0)
    validation: int = Field(5_120, gt=0)
    clip: float = Field(1.0, ge=0)
    accumulator: Literal["bfloat16", "float32"] = "bfloat16"
    head_init: Literal["zero", "random"] = "zero"
    fresh: Literal["child", "fixed"] = "child"
    prefix_cache: int = Field(2**30, ge=0)
    score: ScoreConfig = ScoreConfig()

    @model_validator(mode="after")
    def _blocks_can_be_inserted(self) -> Mu2NetConfig:
        assert isinstance(self.root, dict)
        if NUM_LAYERS in self.hyperparameters and self.root["kind"] != "vit":
            raise ValueError(
                f"hyperparameters.num_layers: blocks can be inserted into a root of kind 'vit', not "
                f"{self.root['kind']!r}; leave it out"
            )
        latency = self.score.latency
        if latency.on and latency.unit is None:
            raise ValueError("score.latency: unit is required, in seconds: the root's latency is not known beforehand")
        return self


class Mu2Net(Method[Mu2NetConfig]):
    """Evolution of lists of immutable layers."""

    name: ClassVar[str] = "mu2net"
    config_class: ClassVar[type[Config]] = Mu2NetConfig
    network_class: ClassVar[type[Network]] = Layered
    fixed: ClassVar[frozenset[str]] = frozenset({"root"})
    goes_on: ClassVar[bool] = True

    @property
    def isolation(self) -> Isolation:
        """Always exact."""
        return "exact"

    def build(self, tasks: Sequence[Task], run: Run) -> Layered:
        """The root alone."""
        inputs = common_inputs(tasks, self.name)
        return Layered(LayeredConfig.of({"root": self.config.root, "inputs": inputs, "seed": run.seed}))

    def stages(self, new: Sequence[str], known: Sequence[str], run: Run) -> list[Stage]:
        """Iterations times tasks, in order: every stage is one active task iteration."""
        return [Stage((name,)) for _ in range(self.config.iterations) for name in new]

    def needs(self, network: Network, tasks: Sequence[str]) -> Collection[str]:
        """Models of the stage's tasks that were learned before; what is sampled beside them is asked for then."""
        assert isinstance(network, Layered)
        return network.components_of([task for task in tasks if network.model_of(task).score is not None])

    def paced(self, passes: int, tasks: int) -> dict[str, Any]:
        """All passes of all children of a task; cycles and children first, more passes make more generations."""
        cycles = min(self.config.cycles, passes)
        children = max(1, min(self.config.children, passes // cycles))
        left = max(1, passes // (cycles * children))
        iterations = min(self.config.iterations, left)
        return dict(cycles=cycles, children=children, iterations=iterations, generations=left // iterations)

    def learn(self, network: Network, data: Sequence[TaskData], run: Run) -> None:
        """One active task iteration of each task of the stage."""
        assert isinstance(network, Layered)
        for item in data:
            search = Search(self.config, network, item, run)
            marks = {"generations": 0}
            for generation in run.epochs(self.config.generations, steps=self.config.children, search=marks):
                search.replay(generation)
                search.generation(log=True)
                marks["generations"] = generation + 1
            search.replay(self.config.generations)
            search.finish()
            search.log_growth()
            forget()


class Search:
    """One active task iteration: asks the evolution, has children trained, keeps what they learned.

    Nothing of it is checkpointed but the children's answers: everything else follows from them and the seed, so that
    a resumed run asks the same questions and finds the answers on disk.
    """

    def __init__(self, config: Mu2NetConfig, network: Layered, data: TaskData, run: Run) -> None:
        if data.val is None:
            raise NeedsValidation(
                f"task {data.name!r} has no validation split, but evolution selects by validation; "
                "build the suite with validation=0.1 or so"
            )
        self.config, self.network, self.data, self.run = config, network, data, run
        self.seed = derive(run.seed, "mu2net", data.name, network.activations)
        self.done = 0
        self.layers: dict[str, NewLayer] = {}  # of candidates, by provisional name
        self.facts: dict[int, dict[str, Any]] = {}
        self.retained: dict[int, int] = {}  # candidate -> retained model that it descends from
        self.root = template(network.config.root, network.config.inputs)
        active, others = network.permitted_models(data.task)
        self.evolution = Evolution(
            config=config,
            task=data.name,
            active=active,
            others=others,
            seed=self.seed,
            anatomy=Anatomy(self.root.always, self.root.block, HEAD),
            selections=network.selected(data.name),
            own=frozenset(network.own_layers(data.name)),
            first=network.next_model,
        )
        self._flops: dict[tuple[str, ...], int] = {}
        self._validation = validation_rows(len(data.val), config.validation, run.seed, data.name)

    @cached_property
    def users(self) -> dict[str, tuple[str, ...]]:
        """Retained layer -> tasks whose models have it."""
        return accounting.users_of(self.network.paths())

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Retained layer -> its parameters."""
        return self.network.parameter_counts()

    # ---- generations ------------------------------------------------------------------------------------------

    def replay(self, generations: int) -> None:
        """Go through generations that were trained before the run was interrupted; their answers are on disk."""
        while self.done < generations:
            self.generation(log=False)

    def generation(self, *, log: bool) -> None:
        """Ask for children, have them trained, tell how it went."""
        children = self.evolution.ask(self.config.children)
        jobs = [self._job(child) for child in children]
        shared, name = self._shared(jobs), f"generation-{self.done}"
        answers = self.run.map(train_child, jobs, shared, name=name, note=_note)
        for child, answer in zip(children, answers, strict=True):
            self._take(child, answer)
        self.evolution.end_generation()
        self.done += 1
        if log:
            self._log(children, answers)

    def _job(self, child: Child) -> Job:
        seed = derive(self.seed, "job", child.generation, child.position)
        return Job(child.number, seed, child.genes, child.hyperparameters, child.threshold, self._factor(child))

    def _shared(self, jobs: Sequence[Job]) -> Shared:
        config, run, latency = self.config, self.run, self.config.score.latency
        names = dict.fromkeys(name for job in jobs for name in names_of(job.genes))
        self.network.require([name for name in names if name not in self.layers])
        return Shared(
            root=self.network.config.root,
            inputs=self.network.config.inputs,
            data=TaskData(self.data.task, self.data.train, self.data.val, augment=self.data.augment),
            validation=self._validation,
            sources={name: self._source(name) for name in names},
            cycles=config.cycles_of.get(self.data.name, config.cycles),
            samples=config.samples,
            batch=config.batch,
            clip=config.clip,
            accumulator=config.accumulator,
            random_head=config.head_init == "random",
            fresh=derive(run.seed, "mu2net", "fresh") if config.fresh == "fixed" else None,
            device=str(run.device),
            precision=run.precision,
            threads=run.job_threads,
            cache_bytes=config.prefix_cache,
            latency=(latency.base, float(latency.unit or 1), config.score.latency_batch) if latency.on else None,
        )

    def _source(self, name: str) -> Source:
        if name in self.layers:
            layer = self.layers[name]
            return Source(layer.slot, layer.outputs, layer.tensors, layer.momentum)
        record, part = self.network.records[name], self.network.components()[name]
        tensors = {local: value.detach() for local, value in self.network.tensors([name])[name].items()}
        momentum = {local: self.network.get_buffer(key) for local, key in part.auxiliary.items()}
        return Source(record.slot, record.outputs, tensors, momentum)

    # ---- scores -----------------------------------------------------------------------------------------------

    def _factor(self, child: Child) -> float:
        """What quality is multiplied with: 1 unless the score counts parameters or operations."""
        terms, score = [], self.config.score
        if score.parameters.on:
            sizes = {f"{g.slot}@": self._size(g.slot, g.origin) for g in child.genes if g.action != "share"}
            names = [str(g.origin) if g.action == "share" else f"{g.slot}@" for g in child.genes]
            sizes |= {name: self._size("", name) for name in names if name not in sizes}
            root = sum(self.sizes[name] for name, record in self.network.records.items() if record.root)
            terms.append((score.parameters, accounted(sizes, self.users, names, self.data.name), float(root)))
        if score.flops.on:
            root = self._operations((*self.root.layers, HEAD))
            terms.append((score.flops, self._operations(tuple(g.slot for g in child.genes)), float(root)))
        return factor(terms)

    def _size(self, slot: str, origin: str | None) -> int:
        if origin in self.sizes:
            return self.sizes[origin]
        slot = self.layers[origin].slot if origin in self.layers else slot
        return sum(p.numel() for p in self._structure(slot).parameters())

    def _structure(self, slot: str) -> Any:
        config = self.network.config
        return layer_of(config.root, config.inputs, slot, self.data.task.target.outputs if slot == HEAD else None)

    def _operations(self, slots: tuple[str, ...]) -> int:
        if slots not in self._flops:
            from torch import nn

            module = nn.Sequential(*(self._structure(slot) for slot in slots))
            self._flops[slots] = accounting.flops(module.eval(), self.data.task)
        return self._flops[slots]

    # ---- what children learned --------------------------------------------------------------------------------

    def _take(self, child: Child, answer: Mapping[str, Any]) -> None:
        """Tell the evolution; keep the layers of a child that reached its parent."""
        trained = {gene.slot: f"{gene.slot}@{child.number}" for gene in child.genes if gene.action != "share"}
        layers = tuple((gene.slot, trained.get(gene.slot) or str(gene.origin)) for gene in child.genes)
        self.evolution.tell(child, answer["score"], layers)
        if answer["score"] is None:
            return
        for gene in child.genes:
            if gene.action == "share":
                continue
            parent, before = self._origin(gene.origin)
            steps = {**before, self.data.name: before.get(self.data.name, 0) + int(answer["steps"])}
            outputs = self.data.task.target.outputs if gene.slot == HEAD else None
            momentum = answer["momentum"].get(gene.slot, {})
            layer = NewLayer(gene.slot, answer["tensors"][gene.slot], momentum, outputs, parent, steps)
            self.layers[trained[gene.slot]] = layer
        self.retained[child.number] = self.retained.get(child.parent, child.parent)
        self.facts[child.number] = self._facts_of(child, answer)

    def _origin(self, name: str | None) -> tuple[str | None, Mapping[str, int]]:
        """The retained component that a layer descends from, and whose data trained it before."""
        if name is None:
            return None, {}
        if name in self.layers:
            return self.layers[name].parent, self.layers[name].steps
        return name, self.network.records[name].steps

    def _facts_of(self, child: Child, answer: Mapping[str, Any]) -> dict[str, Any]:
        parent = self.facts.get(child.parent) or self.network.models[child.parent].facts
        before = parent.get("trained", {})
        return {
            "activation": self.network.activations,
            "generation": child.generation,
            "position": child.position,
            "cloned": [gene.slot for gene in child.genes if gene.action == "clone"],
            "new": [gene.slot for gene in child.genes if gene.action == "new"],
            "quality": list(answer["quality"]),
            "kept": answer["kept"],
            "steps": answer["steps"],
            "trained": {**before, self.data.name: before.get(self.data.name, 0) + int(answer["steps"])},
        }

    def finish(self) -> None:
        """Retain the best model; the others are forgotten.

        Raises:
            InvalidInput: a new task of which no child gave finite outputs.
        """
        best, network, task = self.evolution.best(), self.network, self.data.name
        network.activations += 1
        counts = self.evolution.counted
        if best is None:
            raise InvalidInput(
                f"task {task!r}: the outputs of every child became NaN or infinite; use lower learning rates "
                "(hyperparameters.learning_rate), or precision='32-true' if it was not set; look for NaN in the inputs"
            )
        network.count_selections(task, {number: n for number, n in counts.items() if number < self.evolution.first})
        if best.number in network.models and best.number < self.evolution.first:
            return
        assert best.score is not None
        model = network.retain(
            Candidate(
                task=task,
                layers=tuple(self.layers.get(name, name) for _, name in best.layers),
                hyperparameters=best.hyperparameters,
                score=best.score,
                parent=self.retained[best.number],
                facts=self.facts[best.number],
            )
        )
        network.count_selections(task, {model.number: counts.get(best.number, 0)})

    def log_growth(self) -> None:
        """Write down what the task's model uses of the system, and what of it nobody else uses."""
        sizes, model = self.network.parameter_counts(), self.network.model_of(self.data.name)
        self.run.log(
            retained=self.data.name,
            activation=self.network.activations - 1,
            score=model.score,
            tasks=sum(other.score is not None for other in self.network.models.values()),
            total=sum(sizes.values()),
            activated=sum(sizes[name] for _, name in model.layers),
            added=sum(sizes[name] for name in self.network.own_layers(self.data.name)),
        )

    def _log(self, children: Sequence[Child], answers: Sequence[Mapping[str, Any]]) -> None:
        self.run.count(sum(int(answer["all_samples"]) for answer in answers))
        best = self.evolution.best()
        lines = [
            {
                "number": child.number,
                "parent": child.parent,
                "threshold": child.threshold,
                "layers": {gene.slot: gene.action for gene in child.genes},
                "hyperparameters": dict(child.hyperparameters),
                **{key: answer[key] for key in ("score", "quality", "factor", "kept", "all_steps", "seconds")},
            }
            for child, answer in zip(children, answers, strict=True)
        ]
        before = {child.parent for child in children if child.parent < self.evolution.first}
        self.run.log(
            search=self.data.name,
            activation=self.network.activations,
            generation=self.done - 1,
            parents={str(number): self.network.models[number].task or "root" for number in sorted(before)},
            best=None if best is None else {"number": best.number, "score": best.score},
            children=lines,
        )


def _note(answer: Mapping[str, Any]) -> str:
    """What the display shows of a child."""
    last = answer["quality"][-1]
    return f"dropped ({last})" if answer["score"] is None else f"score {answer['score']:.4f}"
