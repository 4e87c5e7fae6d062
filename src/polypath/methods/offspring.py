"""The training of one child model: a pure function of plain data, so that any process can do it.

    answers = run.map(train_child, jobs, shared, name="generation-0")

Everything random comes from the job's seed, and threads are those of `Shared`, so that the answer does not depend on
where it is computed.
Seams for faster executors: `frozen_outputs` is everything that the frozen prefix computes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

from polypath.core.errors import InvalidInput
from polypath.core.examples import Batch
from polypath.core.run import beat
from polypath.core.seeds import generator, seeded
from polypath.core.task import Task
from polypath.core.threads import threads
from polypath.data import batches
from polypath.data.pipeline import Pipeline, once, varied
from polypath.methods.jobs import Job, Shared, Source, steps_of
from polypath.methods.prefix import CHUNK, Prefix, store_of
from polypath.metrics import LOWER_IS_BETTER, main_metric, measure
from polypath.nn.mixed import sound
from polypath.nn.roots import layer_of, new_layer, open_slots
from polypath.search.evolution import Gene
from polypath.search.hyperparameters import Value

Split = Literal["train", "val"]


def train_child(shared: Shared, job: Job) -> dict[str, Any]:
    """Cycles of training and validation; the best state is kept.

    A state is kept where its score is at least the best so far, which begins at the threshold: of equal states the
    latest wins.

    Returns:
        `score` (None where no state reached the threshold), `quality` and `scores` after every cycle, `kept` (the
        cycle that was kept, from 0), `steps` and `samples` up to it, `all_steps` and `all_samples`, `seconds`, and of
        the state that was kept `tensors` and `momentum`: {slot: {local name: tensor}} of the trained layers, on the
        CPU.
    """
    began = time.perf_counter()
    with threads(shared.threads), seeded(job.seed, "child"):
        child = Offspring(shared, job)
        factor = job.factor * child.latency_factor()
        plan = Schedule(job.hyperparameters, shared.cycles * child.steps)
        qualities: list[float] = []
        best, kept, state = job.threshold, None, None
        for cycle in range(shared.cycles):
            child.train_cycle(cycle, plan)
            qualities.append(child.quality())
            score = qualities[-1] * factor
            if math.isfinite(score) and (best is None or score >= best):
                best, kept, state = score, cycle, child.state()
    done = 0 if kept is None else kept + 1
    return {
        "score": None if kept is None else qualities[kept] * factor,
        "quality": [value if math.isfinite(value) else None for value in qualities],
        "factor": factor,
        "kept": kept,
        "steps": done * child.steps,
        "samples": done * child.samples,
        "all_steps": shared.cycles * child.steps,
        "all_samples": shared.cycles * child.samples,
        "seconds": time.perf_counter() - began,
        "tensors": {} if state is None else state["tensors"],
        "momentum": {} if state is None else state["momentum"],
    }


class Schedule:
    """Learning rate of a child: warm-up from a hundredth, then a cosine to 0, over all its steps.

    Args:
        hyperparameters: `learning_rate`, and `warmup`, the share of the steps that warm up.
        steps: of the child in all.
    """

    def __init__(self, hyperparameters: Mapping[str, Value], steps: int) -> None:
        self.peak = float(hyperparameters["learning_rate"])
        self.steps, self.warm = steps, int(float(hyperparameters["warmup"]) * steps)

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        if step < self.warm:
            low = self.peak / 100
            return low + (self.peak - low) * step / self.warm
        over = max(self.steps - self.warm, 1)
        return 0.5 * self.peak * (1 + math.cos(math.pi * (step - self.warm) / over))


class Offspring:
    """A child while it is trained."""

    def __init__(self, shared: Shared, job: Job) -> None:
        self.shared, self.job = shared, job
        self.device = torch.device(shared.device)
        self.layers = [self._layer(gene) for gene in job.genes]
        trained = [index for index, gene in enumerate(job.genes) if gene.action != "share"]
        self.first = self._cut(trained[0])
        self.trained = {job.genes[index].slot: self.layers[index] for index in trained}
        self.parameters = [p for layer in self.trained.values() for p in layer.parameters()]
        momentum = float(job.hyperparameters["momentum"])
        self.optimizer = torch.optim.SGD(
            self.parameters,
            lr=float(job.hyperparameters["learning_rate"]),
            momentum=momentum,
            nesterov=bool(job.hyperparameters["nesterov"]) and momentum > 0,  # the same without; torch refuses it
            foreach=True,
        )
        self._inherit_momentum()
        size = len(shared.data.train)
        self.samples = min(size, shared.samples)
        self.steps = steps_of(size, shared.samples, shared.batch)
        self.pipeline = pipeline_of(shared.data.task, job.hyperparameters)
        self.prefix = self._prefix() if self.first else None

    # ---- layers -----------------------------------------------------------------------------------------------

    def _layer(self, gene: Gene) -> nn.Module:
        """A layer with values: shared ones as they are, cloned ones copied, new ones drawn."""
        shared = self.shared
        if gene.action == "new":
            key = (shared.fresh, "fresh", gene.slot) if shared.fresh is not None else (self.job.seed, "new", gene.slot)
            outputs = shared.data.task.target.outputs
            with seeded(*key):
                made = new_layer(shared.root, shared.inputs, gene.slot, outputs, random_head=shared.random_head)
            return _placed(made.to(self.device)).requires_grad_(True)
        assert gene.origin is not None
        source = shared.sources[gene.origin]
        self._check_head(gene, source)
        made = layer_of(shared.root, shared.inputs, gene.slot, source.outputs)
        values = {key: tensor.detach().to(self.device) for key, tensor in source.tensors.items()}
        if gene.action == "clone":
            values = {key: tensor.clone() for key, tensor in values.items()}
        made.load_state_dict(values, assign=True)
        return _placed(made).requires_grad_(gene.action == "clone")

    def _cut(self, lowest: int) -> int:
        """Frozen layers that can be computed apart: those below the lowest trained one, or below its residual block."""
        uncut = open_slots(self.shared.root, self.shared.inputs)
        while lowest and self.job.genes[lowest - 1].slot in uncut:
            lowest -= 1
        return lowest

    def _check_head(self, gene: Gene, source: Source) -> None:
        wanted = self.shared.data.task.target.outputs
        if source.outputs is not None and source.outputs != wanted:
            raise InvalidInput(
                f"task {self.shared.data.name!r} has {wanted} outputs, but the head {gene.origin!r} was made for "
                f"{source.outputs}; only a head of the same number of classes can be cloned"
            )

    def _inherit_momentum(self) -> None:
        """Traces of cloned layers go on where their last training ended."""
        for gene in self.job.genes:
            if gene.action != "clone" or not self.job.hyperparameters["momentum"]:
                continue
            traces = self.shared.sources[str(gene.origin)].momentum
            for key, parameter in self.trained[gene.slot].named_parameters():
                if key in traces:
                    trace = traces[key].to(parameter.device, parameter.dtype)
                    buffer = torch.empty_like(parameter, requires_grad=False).copy_(trace)
                    self.optimizer.state[parameter]["momentum_buffer"] = buffer

    def state(self) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
        """Copies of the trained layers and their traces, in plain memory layout, on the CPU."""
        found: dict[str, dict[str, dict[str, torch.Tensor]]] = {"tensors": {}, "momentum": {}}
        kind = torch.bfloat16 if self.shared.accumulator == "bfloat16" else torch.float32
        for slot, layer in self.trained.items():
            found["tensors"][slot] = {key: _plain(value) for key, value in layer.state_dict().items()}
            traces = {
                key: _plain(self.optimizer.state[p]["momentum_buffer"]).to(kind)
                for key, p in layer.named_parameters()
                if self.optimizer.state[p].get("momentum_buffer") is not None
            }
            if traces:
                found["momentum"][slot] = traces
        return found

    def _prefix(self) -> Prefix:
        """The frozen layers below the lowest trained one."""
        shared, below = self.shared, self.job.genes[: self.first]
        chunk = shared.batch if self.device.type != "cpu" else min(shared.batch, CHUNK)
        setting = (shared.device, shared.precision, shared.threads, chunk, json.dumps(shared.root, sort_keys=True))
        store = store_of(shared.data, shared.cache_bytes, *setting)
        sources = [] if store is None else [(shared.sources[str(gene.origin)], gene.slot) for gene in below]
        names = [f"{slot}:{source.digest}" for source, slot in sources]
        return Prefix(self.layers[: self.first], names, shared.data, self.device, chunk, store)

    # ---- training ---------------------------------------------------------------------------------------------

    def train_cycle(self, cycle: int, plan: Schedule) -> None:
        """One pass over the training examples, or over as many of them as are due between validations."""
        for gene, layer in zip(self.job.genes, self.layers, strict=True):
            layer.train(gene.action != "share")  # frozen: BatchNorm statistics hold
        task = self.shared.data.task
        for number, batch in enumerate(self.feed(cycle)):
            beat()
            for group in self.optimizer.param_groups:
                group["lr"] = plan.rate(cycle * self.steps + number)
            with self._autocast():
                outputs = self.trained_outputs(batch.inputs)
            loss = task.loss_of(outputs, batch.targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.shared.clip:
                torch.nn.utils.clip_grad_norm_(self.parameters, self.shared.clip, foreach=True)
            self.optimizer.step()
            if self.shared.accumulator == "bfloat16":
                self._round_traces()

    def feed(self, cycle: int) -> Iterator[Batch]:
        """Batches of one cycle: what the frozen prefix makes of the examples, and their targets."""
        shared, data = self.shared, self.shared.data
        order = generator(self.job.seed, "order", cycle)
        rows = torch.randperm(len(data.train), generator=order)[: self.samples]
        stream = generator(self.job.seed, "augment", cycle)
        for part in batches.parts(rows, shared.batch):
            targets = batches.scaled(data, data.train.targets[part].to(self.device))
            yield Batch(self.frozen_outputs("train", part, stream), targets)

    def frozen_outputs(self, split: Split, rows: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        """What the layers of `trained_outputs` receive for some examples, without gradients.

        Args:
            split: training images are varied, validation images are not.
            rows: which examples.
            stream: for the variations.
        """
        data = self.shared.data
        still = not data.augment and (self.pipeline is None or self.pipeline.deterministic)
        if self.prefix is not None and (split == "val" or still):
            with torch.no_grad(), self._autocast():
                return self.prefix.outputs(split, rows)
        examples = data.train if split == "train" else data.val
        assert examples is not None
        inputs = examples.inputs(rows).to(self.device)
        if split == "train":
            inputs = batches.augmented(data, inputs, stream)
        if split == "train" and self.pipeline is not None:
            inputs = varied(inputs, self.pipeline, stream)
        inputs = once(inputs)
        value = batches.channels_last(data.task.preprocess.encode(inputs))
        with torch.no_grad(), self._autocast():
            for layer in self.layers[: self.first]:
                value = layer(value)
        return value

    def trained_outputs(self, value: torch.Tensor) -> torch.Tensor:
        """Outputs of the child from `frozen_outputs`: the layers from its lowest trained one on."""
        for layer in self.layers[self.first :]:
            value = layer(value)
        return value

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.shared.precision != "bf16-mixed":
            return nullcontext()
        return sound(torch.autocast(self.device.type, dtype=torch.bfloat16), self.device)

    @torch.no_grad()
    def _round_traces(self) -> None:
        """Momentum is kept in bfloat16 between steps, as the authors' optimizer does; the step itself is exact."""
        for parameter in self.parameters:
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                buffer.copy_(buffer.bfloat16())

    # ---- scoring ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def quality(self) -> float:
        """The task's metric on validation examples, made such that higher is better; NaN where outputs are."""
        data = self.shared.data
        assert data.val is not None
        for layer in self.layers:
            layer.eval()
        still = generator(0)
        outputs = []
        for rows in self.shared.validation.split(self.shared.batch):
            received = self.frozen_outputs("val", rows, still)
            with self._autocast():
                outputs.append(self.trained_outputs(received).float().cpu())
        joined = torch.cat(outputs)
        if not torch.isfinite(joined).all():
            return float("nan")
        name = main_metric(data.task)
        value = measure(data.task, joined, data.val.targets[self.shared.validation])[name]
        return 1 / (1 + value) if name in LOWER_IS_BETTER else value

    @torch.no_grad()
    def latency_factor(self) -> float:
        """The measured term of the score; 1 where it is off."""
        if self.shared.latency is None:
            return 1.0
        base, unit, count = self.shared.latency
        inputs = torch.zeros(count, *self.shared.inputs.shape, device=self.device)
        value = inputs.long() if self.shared.inputs.kind == "tokens" else inputs
        times = []
        for layer in self.layers:
            layer.eval()
        for _ in range(7):
            began = time.perf_counter()
            out = value
            for layer in self.layers:
                out = layer(out)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        return float(base ** (min(times) / unit))


def pipeline_of(task: Task, hyperparameters: Mapping[str, Value]) -> Pipeline | None:
    """The image pipeline that hyper-parameters describe; None for tasks on other inputs."""
    if task.inputs.kind != "image":
        return None
    values = {name: hyperparameters[name] for name in Pipeline.model_fields}
    if task.inputs.channels != 3:
        values |= {"saturation": 0.0, "hue": 0.0}
    return Pipeline.of(values)


def _placed(module: nn.Module) -> nn.Module:
    """Convolutions in channels-last strides, whatever layout their values came in."""
    for owner in module.modules():
        for key, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
            if tensor is not None and tensor.ndim == 4:
                plain = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor.detach())
                moved = plain.contiguous(memory_format=torch.channels_last)
                if isinstance(tensor, nn.Parameter):
                    owner._parameters[key] = nn.Parameter(moved, requires_grad=tensor.requires_grad)
                else:
                    owner._buffers[key] = moved
    return module


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    out = torch.empty(tensor.shape, dtype=tensor.dtype)
    return out.copy_(tensor.detach())
