"""How alike two tasks' representations are, layer by layer and module by module (PaRT, section 5.1).

The paths of two tasks are walked over the same probe inputs; after every step the two values are compared by CKA, and
inside a step the output of every module of one path with that of every module of the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from pydantic import Field, model_validator

from polypath.analysis.probes import Inputs, Probe
from polypath.core.component import Path
from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.network import Network
from polypath.ops.cka import MinibatchCKA, cka_table, linear_gram, rbf_gram


@runtime_checkable
class ShowsModules(Protocol):
    """A network that can show what each component of a step gives before they are put together."""

    def step_outputs(self, value: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Component -> its own output (n, ...) for the value of the step before."""
        ...


class CKAConfig(Config):
    """How representations are compared.

    Args:
        kernel: `rbf` as the paper, or `linear`.
        fraction: bandwidth of the rbf kernel in median pairwise distances.
        debiased: unbiased HSIC; advised where representations are wider than there are samples.
        pool: maps are averaged down to at most pool x pixels; None compares every pixel.
        minibatch: average the unbiased HSIC over batches of about this size instead of comparing all samples with
            each other: for samples by the ten thousand. Needs debiased=True.
        layers: which steps of the paths, from 1; None compares all that both have.
        modules: also compare module by module; without, about half the time, as components run once.
        batch_size: inputs walked at a time (ignored with `minibatch`).
        memory_bytes: representations held at a time; more of them take more passes over the probe.
    """

    kernel: Literal["rbf", "linear"] = "rbf"
    fraction: float = Field(0.5, gt=0)
    debiased: bool = False
    pool: int | None = Field(None, gt=0)
    minibatch: int | None = Field(None, ge=4)
    layers: tuple[int, ...] | None = None
    modules: bool = True
    batch_size: int = Field(64, gt=0)
    memory_bytes: int = Field(2**31, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> CKAConfig:
        if self.minibatch is not None and not self.debiased:
            raise ValueError("minibatch averages the unbiased HSIC: set debiased=True with it")
        return self


class _Key(NamedTuple):
    """One representation: side 0 or 1, step from 0, component name or None for the value after the step."""

    side: int
    step: int
    name: str | None


def compare_paths(
    network: Network,
    tasks: tuple[str, str],
    probe: Inputs | Sequence[Inputs] | Mapping[str, Inputs],
    config: CKAConfig | None = None,
    *,
    inputs: Literal["common", "own"] = "common",
    setup: str | None = None,
) -> dict[str, Any]:
    """CKA between the paths of two tasks: JSON values for `Result.analysis["cka"]`, which is a list of such records.

    Each task's own preprocessing encodes the probe. The network is walked in eval mode without gradients and left as
    it was. Cost: (steps + modules) n x n kernel matrices, and one or more walks of n inputs along each path; components
    are computed twice (alone and together).

    Args:
        network: holds both tasks; module maps need its `step_outputs`, without it `modules` is empty.
        tasks: names of the two.
        probe: common: decoded inputs, or several sets that are strung together. own: task -> decoded inputs.
        config: how to compare.
        inputs: `common` gives both paths the same inputs. `own` gives each path its own task's samples, as many of
            them, paired by position: CKA is not defined for that, and the record says so.
        setup: name of this experiment, kept in the record.

    Raises:
        UnknownName: a task the network does not have.
        InvalidInput: sides of different length or input shape, too few samples, a layer that is not on both paths, a
            representation that does not fit into memory_bytes or is not finite.
    """
    config = config or CKAConfig()
    for task in tasks:
        network.task_named(task)
    probes = _probes(network, tasks, probe, inputs)
    samples = _samples(probes, config)
    paths = (network.path(tasks[0]), network.path(tasks[1]))
    steps = _steps(paths, config)
    walks = [_Walk(network, task, path, one, config) for task, path, one in zip(tasks, paths, probes, strict=True)]
    with _resting(network):
        keys = [key for step in steps for side in (0, 1) for key in walks[side].keys(side, step)]
        compare = _by_minibatches if config.minibatch else _at_once
        tables = compare(walks, keys, samples, config)
    return {
        **({} if setup is None else {"setup": setup}),
        "kernel": config.kernel,
        "fraction": config.fraction if config.kernel == "rbf" else None,
        "debiased": config.debiased,
        "minibatch": config.minibatch,
        "pool": config.pool,
        "samples": samples,
        "inputs": inputs,
        "tasks": list(tasks),
        "layers": [{"layer": step + 1, "cka": tables[step].layer} for step in steps],
        "modules": [entry for step in steps if (entry := _module_entry(network, tables[step], step)) is not None],
        "shared": [name for name in paths[0].components if name in set(paths[1].components)],
    }


def average(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of the records of several seeds: each layer's `cka` with its `std`, module maps cell by cell, `seeds`.

    Where paths differ between the seeds a cell is another pair of modules in each, so that their mean means nothing:
    `modules` and `shared` are empty then.

    Raises:
        InvalidInput: no record, or records of different comparisons (says in what they differ).
    """
    if not records:
        raise InvalidInput("records: at least one is required, received none")
    first = dict(records[0])
    kept = ("layers", "modules", "shared")
    for other in records[1:]:
        differs = [key for key in first.keys() | other.keys() if key not in kept and first.get(key) != other.get(key)]
        if differs or [e["layer"] for e in first["layers"]] != [e["layer"] for e in other["layers"]]:
            raise InvalidInput(
                f"records: of one comparison are required, these differ in {sorted(differs) or 'layers'}"
            )
    layers = []
    for place, entry in enumerate(first["layers"]):
        values = [record["layers"][place]["cka"] for record in records]
        spread = statistics.stdev(values) if len(values) > 1 else None
        layers.append({"layer": entry["layer"], "cka": statistics.fmean(values), "std": spread})
    same = all(_named(record) == _named(first) for record in records)
    modules = []
    for place, entry in enumerate(first["modules"] if same else ()):
        stacked = torch.tensor([record["modules"][place]["values"] for record in records], dtype=torch.float64)
        modules.append({**entry, "values": stacked.mean(0).tolist()})
    shared = list(first["shared"]) if same else []
    return {**first, "seeds": len(records), "layers": layers, "modules": modules, "shared": shared}


class _Table(NamedTuple):
    layer: float
    rows: list[str]
    columns: list[str]
    values: list[list[float]]


class _Walk:
    """One task's path over its probe."""

    def __init__(self, network: Network, task: str, path: Path, probe: Probe, config: CKAConfig) -> None:
        self.network, self.task, self.path, self.probe = network, task, path, probe
        self.pool, self.modules = config.pool, config.modules
        first = next(network.parameters(), None)
        self.device = torch.device("cpu") if first is None else first.device
        self._names: dict[int, list[str]] | None = None

    def keys(self, side: int, step: int) -> list[_Key]:
        """The value after a step and the components that show an output in it."""
        if self._names is None:
            self._names = {step: [] for step in range(len(self.path.steps))}
            for at, name, _ in self.values(0, 1, None):
                if name is not None:
                    self._names[at].append(name)
        return [_Key(side, step, None), *(_Key(side, step, name) for name in self._names[step])]

    def values(
        self, start: int, stop: int, wanted: frozenset[tuple[int, str | None]] | None
    ) -> Iterator[tuple[int, str | None, torch.Tensor]]:
        """(step, component or None, (n, width)) for inputs start..stop-1; `wanted` None shows everything."""
        stored = self.probe.take(start, stop).to(self.device)
        value = self.network.start(self.network.task_named(self.task).preprocess.encode(stored))
        last = len(self.path.steps) - 1 if wanted is None else max(step for step, _ in wanted)
        for step, names in enumerate(self.path.steps[: last + 1]):
            asked = self.modules if wanted is None else any(at == step and name is not None for at, name in wanted)
            if asked and isinstance(self.network, ShowsModules):
                for name, output in self.network.step_outputs(value, names).items():
                    if wanted is None or (step, name) in wanted:
                        yield step, name, self._flat(output)
            value = self.network.step(value, names)
            if wanted is None or (step, None) in wanted:
                yield step, None, self._flat(value)

    def _flat(self, value: torch.Tensor) -> torch.Tensor:
        if self.pool is not None and value.ndim == 4:
            size = (min(self.pool, value.shape[2]), min(self.pool, value.shape[3]))
            value = torch.nn.functional.adaptive_avg_pool2d(value, size)
        return value.reshape(len(value), -1).float()


def _at_once(walks: Sequence[_Walk], keys: Sequence[_Key], samples: int, config: CKAConfig) -> dict[int, _Table]:
    """Tables by step from kernel matrices of all samples; as few passes over the probe as memory allows."""
    widths: dict[_Key, int] = {}
    for side, walk in enumerate(walks):
        widths |= {_Key(side, step, name): value.shape[1] for step, name, value in walk.values(0, 1, None)}
    grams: dict[_Key, torch.Tensor] = {}
    tables: dict[int, _Table] = {}
    for chosen in _passes(keys, widths, samples, config.memory_bytes):
        held = _features(walks, chosen, widths, samples, config.batch_size)
        for key in chosen:
            features = held.pop(key)
            grams[key] = linear_gram(features) if config.kernel == "linear" else rbf_gram(features, config.fraction)
        for step in {key.step for key in chosen}:
            sides = [[key for key in keys if key.step == step and key.side == side] for side in (0, 1)]
            if all(key in grams for key in (*sides[0], *sides[1])):
                values = [[grams.pop(key) for key in side] for side in sides]
                layer = cka_table(values[0][:1], values[1][:1], debiased=config.debiased)
                alone = [side[1:] for side in values]
                inner = cka_table(*alone, debiased=config.debiased) if all(alone) else torch.zeros(0, 0)
                tables[step] = _table(sides, layer, inner)
    return tables


def _passes(keys: Sequence[_Key], widths: Mapping[_Key, int], samples: int, memory_bytes: int) -> Iterator[list[_Key]]:
    """Keys in order, as many at a time as fit."""
    chosen: list[_Key] = []
    room = memory_bytes
    for key in keys:
        size = 4 * samples * widths[key]
        if size > memory_bytes:
            raise InvalidInput(
                f"memory_bytes: {samples} samples of layer {key.step + 1} ({widths[key]} values each) need "
                f"{size} bytes, {memory_bytes} are allowed; use pool=8, fewer samples or minibatch"
            )
        if size > room:
            yield chosen
            chosen, room = [], memory_bytes
        chosen.append(key)
        room -= size
    if chosen:
        yield chosen


def _features(
    walks: Sequence[_Walk], chosen: Sequence[_Key], widths: Mapping[_Key, int], samples: int, batch_size: int
) -> dict[_Key, torch.Tensor]:
    """Representations of all samples, (samples, width) float32 each."""
    held = {key: torch.empty(samples, widths[key], device=walks[key.side].device) for key in chosen}
    for side, walk in enumerate(walks):
        wanted = frozenset((key.step, key.name) for key in chosen if key.side == side)
        if not wanted:
            continue
        for start in range(0, samples, batch_size):
            stop = min(start + batch_size, samples)
            for step, name, value in walk.values(start, stop, wanted):
                _check_finite(value, walk.task, step, name)
                held[_Key(side, step, name)][start:stop] = value
    return held


def _by_minibatches(walks: Sequence[_Walk], keys: Sequence[_Key], samples: int, config: CKAConfig) -> dict[int, _Table]:
    """Tables by step from the mean unbiased HSIC over batches of nearly equal size."""
    assert config.minibatch is not None
    count = max(1, samples // config.minibatch)
    bounds = [samples * part // count for part in range(count + 1)]
    steps = sorted({key.step for key in keys})
    names = {step: [[k for k in keys if k.step == step and k.side == side] for side in (0, 1)] for step in steps}
    layers = {step: MinibatchCKA(config.kernel, config.fraction) for step in steps}
    inner = {s: MinibatchCKA(config.kernel, config.fraction) for s in steps if all(len(side) > 1 for side in names[s])}
    for start, stop in zip(bounds, bounds[1:], strict=False):
        found: dict[_Key, torch.Tensor] = {}
        for side, walk in enumerate(walks):
            wanted = frozenset((key.step, key.name) for key in keys if key.side == side)
            for step, name, value in walk.values(start, stop, wanted):
                _check_finite(value, walk.task, step, name)
                found[_Key(side, step, name)] = value
        for step in steps:
            a, b = ([found[key] for key in side] for side in names[step])
            layers[step].update(a[:1], b[:1])
            if step in inner:
                inner[step].update(a[1:], b[1:])
    empty = torch.zeros(0, 0)
    return {s: _table(names[s], layers[s].table(), inner[s].table() if s in inner else empty) for s in steps}


def _table(sides: Sequence[Sequence[_Key]], layer: torch.Tensor, inner: torch.Tensor) -> _Table:
    rows, columns = ([key.name for key in side if key.name is not None] for side in sides)
    return _Table(float(layer), rows, columns, inner.tolist())


def _module_entry(network: Network, table: _Table, step: int) -> dict[str, Any] | None:
    """A layer's module map; None where there is nothing to map: no module shown, or one head against another."""
    if not table.values:
        return None
    names = (*table.rows, *table.columns)
    parts = network.components()
    if len(names) == 2 and all(name in parts and parts[name].kind == "own" for name in names):
        return None
    return {"layer": step + 1, "rows": table.rows, "columns": table.columns, "values": table.values}


def _probes(
    network: Network, tasks: tuple[str, str], probe: Inputs | Sequence[Inputs] | Mapping[str, Inputs], inputs: str
) -> tuple[Probe, Probe]:
    if inputs == "own":
        if not isinstance(probe, Mapping) or not set(tasks) <= set(probe):
            received = f"tasks {list(probe)}" if isinstance(probe, Mapping) else type(probe).__name__
            raise InvalidInput(
                f"probe: with inputs='own' a mapping with {list(tasks)} is required, received {received}"
            )
        return Probe(probe[tasks[0]]), Probe(probe[tasks[1]])
    if inputs != "common":
        raise InvalidInput(f"inputs must be 'common' or 'own', received {inputs!r}")
    if isinstance(probe, Mapping):
        raise InvalidInput("probe: with inputs='common' one set or a list of sets is required, received a mapping")
    shapes = [network.task_named(task).inputs.shape for task in tasks]
    if shapes[0] != shapes[1]:
        raise InvalidInput(
            f"tasks {tasks[0]!r} and {tasks[1]!r} take inputs of different shape ({shapes[0]} and {shapes[1]}), so no "
            "probe can go through both; compare tasks of one input shape"
        )
    shared = Probe(probe)
    return shared, shared


def _samples(probes: tuple[Probe, Probe], config: CKAConfig) -> int:
    counts = [len(probe) for probe in probes]
    least = 4 if config.debiased else 2
    if counts[0] != counts[1] or counts[0] < least:
        raise InvalidInput(
            f"probe: the same number of inputs for both tasks, at least {least}, is required; received {counts}"
        )
    return counts[0]


def _steps(paths: tuple[Path, Path], config: CKAConfig) -> list[int]:
    both = min(len(path.steps) for path in paths)
    if config.layers is None:
        return list(range(both))
    outside = [layer for layer in config.layers if not 1 <= layer <= both]
    if outside or not config.layers:
        raise InvalidInput(f"layers: from 1 to {both} (steps that both paths have), received {list(config.layers)}")
    return sorted({layer - 1 for layer in config.layers})


def _check_finite(value: torch.Tensor, task: str, step: int, name: str | None) -> None:
    if not torch.isfinite(value).all():
        where = f"layer {step + 1}" + (f", component {name!r}" if name else "")
        raise InvalidInput(f"task {task!r}, {where}: the representation holds NaN or infinite values; was it trained?")


def _named(record: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(entry["layer"], entry["rows"], entry["columns"]) for entry in record["modules"]]


@contextmanager
def _resting(network: Network) -> Iterator[None]:
    """Eval mode without gradients inside, the mode from before afterwards."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)
