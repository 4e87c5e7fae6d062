"""The run engine: everything around a method's loop, on one device or several."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch

from polypath.core.errors import Cancelled, InvalidInput, NeedsValidation
from polypath.core.examples import Batch, Examples, Sealed, TaskData
from polypath.core.files import remove_leftovers
from polypath.core.network import Network
from polypath.core.run import Until
from polypath.core.seeds import generator, seeded
from polypath.data import batches as streams
from polypath.metrics import details, measure
from polypath.metrics.evaluation import outputs_of
from polypath.nn.mixed import may_outrun, sound
from polypath.train.checkpoint import checkpoint_facts, restore_checkpoint, save_checkpoint
from polypath.train.config import RunConfig
from polypath.train.devices import available_device, nodes, resolved_precision
from polypath.train.display import Display, Progress
from polypath.train.environment import environment, peak_memory_bytes, usable_cores
from polypath.train.executors import Chosen
from polypath.train.journal import Journal
from polypath.train.mapping import mapped

log = logging.getLogger(__name__)


class Engine:
    """The `Run` that methods receive.

    Args:
        seed: of every random stream.
        config: device, precision, threads, checkpoints.
        out: folder of this run (metrics.jsonl, checkpoint/); None keeps everything in memory.
        resume: continue from the checkpoint in `out`.
        title: shown in the progress display.
        progress: draw a progress bar on a terminal.
        on_progress: called with a `Progress` while the run goes on; may call `cancel()`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        config: RunConfig | None = None,
        out: Path | None = None,
        resume: bool = False,
        title: str = "learning",
        progress: bool = True,
        on_progress: Callable[[Progress], Any] | None = None,
    ) -> None:
        from lightning_fabric import Fabric

        self.seed, self.config, self.out, self.resume = seed, config or RunConfig(), out, resume
        self.threads = self.config.threads or usable_cores()
        self.job_threads = self.config.job_threads or self.threads
        self.precision = resolved_precision(self.config)
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision every time
        self.fabric = Fabric(
            accelerator=available_device(self.config),
            devices=self.config.devices,
            num_nodes=nodes(self.config, writes=out is not None),
            precision=self.precision,  # type: ignore[arg-type]
            strategy="ddp" if self.config.devices > 1 else "auto",
        )
        self.fabric.launch()
        self.device, first = self.fabric.device, self.fabric.is_global_zero
        if out is not None:
            if first:
                (out / "checkpoint").mkdir(parents=True, exist_ok=True)
                remove_leftovers(out)
                remove_leftovers(out / "checkpoint")
            self.fabric.barrier()  # the first process takes the folder before any other looks into it
        self.journal = Journal(out and out / "metrics.jsonl", writes=first, track=self.config.track)
        self.display = Display(title, progress and first, on_progress)
        self.executor = Chosen()
        self.stage, self.stages, self.epoch = 0, 1, 0
        self.concerned: list[bool] = []  # of each network that was placed, whether `sound` may concern it
        self.samples, self.train_s, self.evaluate_s, self._cancelled, self._note = 0, 0.0, 0.0, False, ""
        self._loops, self._passed = 0, 0  # of this stage: loops begun, and the epochs of those before the last one
        self._open: list[Generator[Any, None, None]] = []

    # ---- random streams ---------------------------------------------------------------------------------------

    def rng(self, *key: object) -> torch.Generator:
        """A fresh CPU generator for the stream `key`."""
        return generator(self.seed, *key)

    def seeded(self, *key: object) -> AbstractContextManager[None]:
        """The global generator seeded for the stream `key` inside the block."""
        return seeded(self.seed, *key)

    # ---- data -------------------------------------------------------------------------------------------------

    def batches(
        self, data: TaskData, size: int, *key: object, equal_to: int | None = None, augment: bool = True
    ) -> Iterator[Batch]:
        """Training batches of one epoch, see `polypath.core.run.Run.batches`."""
        order = self.rng("order", *key)
        count = len(data.train)
        index = torch.randperm(count, generator=order)
        if equal_to is not None and equal_to > count:
            index = streams.oversampled(count, equal_to, order)
        # Every process draws the same order and takes its share of every batch, augmented from a stream of its own.
        rank, world = self.fabric.global_rank, self.fabric.world_size
        stream = generator(self.seed, "augment", rank, *key)
        rows = [streams.at_least(part, world)[rank::world] for part in streams.parts(index, size)]
        loaded = streams.stream(data, rows, self.device, stream, augment, workers=self.config.workers)
        for batch in loaded:
            self.samples += len(batch) * world
            yield Batch(streams.channels_last(batch.inputs), batch.targets)

    def place(self, network: Network) -> None:
        """To the device, channels-last: the layout in which convolutions run fastest on CPUs and GPUs alike."""
        network.to(self.device).to(memory_format=torch.channels_last)
        self.concerned.append(may_outrun(network))

    # ---- the loop ---------------------------------------------------------------------------------------------

    def epochs(self, count: int, *, steps: int, until: Until = None, **state: Any) -> Iterator[int]:
        """Epoch numbers; restores `state` on entry, checkpoints and seeds every epoch.

        A stage may hold several loops one after the other; each keeps checkpoints of its own until the stage ends, and
        measurements count the epochs of all of them.
        """
        self._open.append(self._epochs(count, steps, until, state))
        return self._open[-1]

    def _epochs(self, count: int, steps: int, until: Until, state: dict[str, Any]) -> Generator[int, None, None]:
        number, passed, self._loops, self._passed = self._loops, self._passed, self._loops + 1, self._passed + count
        first = self._restored(number, state)
        self.display.begin(self.stage, self.stages, number, count, steps, first)
        self.epoch = passed + max(first - 1, 0)
        for epoch in range(first, count):
            if until is not None and until():
                break
            self.epoch = passed + epoch
            began, spent = time.monotonic(), self.evaluate_s
            with seeded(self.seed, "epoch", self.stage, epoch, self.fabric.global_rank):
                yield epoch
            self.train_s += time.monotonic() - began - (self.evaluate_s - spent)
            self._average_statistics(state)
            self._checkpoint(number, epoch, count, state)
            self.display.end_epoch(self._note)

    def close(self) -> None:
        """End loops that an error left open, and put the global generator back now; end the journal."""
        self.journal.close()
        while self._open:
            self._open.pop().close()
        self.executor.close()

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision where the run uses it."""
        careful = any(self.concerned) or not self.concerned
        return sound(self.fabric.autocast(), self.device) if careful else self.fabric.autocast()

    def step(self, loss: torch.Tensor, *optimizers: torch.optim.Optimizer) -> None:
        """Zero gradients, backpropagate, average over processes, step; stops here when the run is cancelled."""
        self.stop_if_cancelled()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.fabric.world_size > 1:
            self._average_gradients(optimizers)
        for optimizer in optimizers:
            optimizer.step()
        self.display.advance()

    def stop_if_cancelled(self) -> None:
        """Raise Cancelled where that was asked for; several processes stop together, inside `step`."""
        if self._cancelled and self.fabric.world_size == 1:
            self._stop()

    def _stop(self) -> NoReturn:
        raise Cancelled("the run was stopped" + self._how_to_resume())

    def cancel(self) -> None:
        """Stop at the next optimizer step; the last finished epoch is on disk."""
        self._cancelled = True

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside the block the first Ctrl-C cancels cleanly and a second one interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)
        after = before if before is not None else signal.SIG_DFL  # None: set by something that is not Python

        def stop(number: int, frame: Any) -> None:
            self.cancel()
            signal.signal(signal.SIGINT, after)

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, after)

    # ---- measuring --------------------------------------------------------------------------------------------

    def score(self, network: Network, data: TaskData, exit: str | None = None) -> dict[str, float]:
        """Metrics and mean loss on validation examples; written down and returned.

        Raises:
            NeedsValidation: the task has no validation split.
        """
        if data.val is None:
            raise NeedsValidation(
                f"task {data.name!r} has no validation split, but the method selects by validation; "
                "build the suite with validation=0.1 or so (in a task file: validation: 0.1)"
            )
        values = self._measured(network, data, data.val, exit, loss=True)[0]
        self._write_score(data.name, "val", values, exit)
        return values

    def record_test(self, network: Network, data: Sequence[TaskData]) -> None:
        """Metrics on the sealed test split: written to metrics.jsonl, never returned."""
        for item in data:
            if item.test is not None:
                values, more = self._measured(network, item, item.test.unseal())
                self._write_score(item.name, "test", values, None, more)
                exits = network.exits(item.name)
                for exit in exits[:-1]:
                    early, _ = self._measured(network, item, item.test.unseal(), exit)
                    self._write_score(item.name, "test", early, exit)
                if len(exits) > 1:
                    self._write_score(item.name, "test", values, exits[-1])

    def _measured(
        self,
        network: Network,
        data: TaskData,
        examples: Examples | Sealed,
        exit: str | None = None,
        loss: bool = False,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        began = time.monotonic()
        opened = examples.unseal() if isinstance(examples, Sealed) else examples
        module = network.extract(data.name, exit=exit).to(self.device)
        module.to(memory_format=torch.channels_last)
        outputs = outputs_of(module, data.task, opened, self.device)
        values = measure(data.task, outputs, opened.targets)
        if loss:
            values = {**values, "loss": float(data.task.loss_of(outputs, streams.scaled(data, opened.targets)))}
        more = details(data.task, outputs, opened.targets)
        self.evaluate_s += time.monotonic() - began
        return values, more

    def _write_score(
        self,
        task: str,
        split: str,
        values: dict[str, float],
        exit: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        line: dict[str, Any] = {"kind": "score", "stage": self.stage, "epoch": self.epoch, "task": task, "split": split}
        if exit is not None:
            line["exit"] = exit
        self.journal.write({**line, "values": values, **(more or {})})

    def log(self, **values: Any) -> None:
        """One line of kind `train` in metrics.jsonl.

        Raises:
            InvalidInput: a loss is not finite; nothing learned after that is worth its time.
        """
        found = values.get("loss") or values.get("teacher_loss")
        losses = found if isinstance(found, dict) else {}
        diverged = [task for task, loss in losses.items() if not math.isfinite(loss)]
        if diverged:
            raise InvalidInput(
                f"the training loss of {diverged} became NaN or infinite in epoch {self.epoch + 1}; "
                "use a lower learning rate, or precision='32-true' if it was not set; look for NaN in the inputs"
            )
        self.journal.write({"kind": "train", "stage": self.stage, "epoch": self.epoch, **values})
        self._note = f"loss {sum(losses.values()) / len(losses):.3f}" if losses else self._note

    def map(
        self,
        function: Callable[[Any, Any], Any],
        jobs: Iterable[Any],
        shared: Any = None,
        *,
        name: str | None = None,
        note: Callable[[Any], str] | None = None,
    ) -> list[Any]:
        """`function(shared, job)` for every job, in order, see `polypath.core.run.Run.map`."""
        kept = None if name is None or not self.config.checkpoint_every else self._checkpoint_file(name)
        execute = self.executor.of(self.config, self.device, self.job_threads)
        with self.display.jobs(note) as rows:
            beat = self.stop_if_cancelled
            return mapped(function, jobs, shared, kept=kept, resume=self.resume, beat=beat, rows=rows, execute=execute)

    def count(self, samples: int) -> None:
        """Training examples that did not come from `batches`."""
        self.samples += samples

    def environment(self) -> dict[str, Any]:
        """Machine, versions and settings of this run."""
        return environment(self.device, self.precision, self.threads)

    def peak_memory_bytes(self) -> int:
        """Highest memory use so far: of the GPU where one is used, else of the whole process."""
        return peak_memory_bytes(self.device)

    # ---- checkpoints ------------------------------------------------------------------------------------------

    def begin_stage(self, stage: int, stages: int) -> None:
        """The next `epochs` belong to this stage."""
        self.stage, self.stages, self.epoch, self._loops, self._passed = stage, stages, 0, 0, 0

    def end_stage(self, stage: int) -> None:
        """A stage is saved as a system: its checkpoints are no longer needed."""
        self.fabric.barrier()
        if self.out is not None and self.fabric.is_global_zero:
            for file in (self.out / "checkpoint").glob(f"stage-{stage:03d}-*.safetensors"):
                file.unlink(missing_ok=True)

    def _checkpoint_file(self, loop: int | str) -> Path | None:
        return None if self.out is None else self.out / "checkpoint" / f"stage-{self.stage:03d}-{loop}.safetensors"

    def _restored(self, loop: int, state: dict[str, Any]) -> int:
        """Put the newest checkpoint of a loop back; returns the epoch to go on with."""
        file, later = self._checkpoint_file(loop), self._checkpoint_file(loop + 1)
        if not self.resume or file is None or later is None or not file.exists():
            if loop == 0:
                self.journal.back_to(self.journal.before_stage(self.stage))
            return 0
        if checkpoint_facts(file)["seed"] != self.seed:
            raise InvalidInput(
                f"{file} was written with another seed; resume with the same settings or use another out"
            )
        facts = restore_checkpoint(file, state)
        self.samples, self.train_s, self.evaluate_s = facts["samples"], facts["train_s"], facts["evaluate_s"]
        if later.exists():
            self.journal.silence()
        else:
            self.journal.back_to(facts["lines"])
        log.info("resumed after epoch %d of stage %d", facts["epoch"], self.stage)
        return int(facts["epoch"]) + 1

    def _checkpoint(self, loop: int, epoch: int, count: int, state: dict[str, Any]) -> None:
        file, every = self._checkpoint_file(loop), self.config.checkpoint_every
        if file is None or not every or not self.fabric.is_global_zero or ((epoch + 1) % every and epoch + 1 < count):
            return
        facts = {"seed": self.seed, "stage": self.stage, "epoch": epoch, "samples": self.samples}
        facts |= {"lines": len(self.journal.lines)}
        save_checkpoint(file, state, {**facts, "train_s": self.train_s, "evaluate_s": self.evaluate_s})

    def _how_to_resume(self) -> str:
        if self.out is None:
            return ""
        return f"; finished epochs are in {self.out}: go on with the same call and resume=True (or --resume)"

    # ---- several processes ------------------------------------------------------------------------------------

    def _average_gradients(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        held = [p for group in groups for p in group["params"] if p.grad is not None]
        # The wish to stop travels with the gradients: all processes leave at the same step, none waits for another.
        wish = torch.full((1,), float(self._cancelled), device=self.device)
        flat = torch.cat([*(p.grad.flatten() for p in held), wish])
        flat = self.fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
        if float(flat[-1]) > 0:
            self._stop()
        for parameter, part in zip(held, flat[:-1].split([p.numel() for p in held]), strict=True):
            parameter.grad.copy_(part.view_as(parameter))

    def _average_statistics(self, state: dict[str, Any]) -> None:
        """BatchNorm statistics are gathered a process at a time; after an epoch all hold their mean.

        Those of frozen components are equal everywhere and stay as they are: a mean of three equal floats may differ
        from them in the last bit.
        """
        if self.fabric.world_size == 1:
            return
        for item in state.values():
            if isinstance(item, Network):
                parts = item.components()
                still = {key for name in item.frozen & parts.keys() for key in parts[name].tensors.values()}
                for key, buffer in item.named_buffers():
                    if buffer.is_floating_point() and key not in still:
                        buffer.copy_(self.fabric.all_reduce(buffer.clone(), reduce_op="mean"))  # type: ignore[arg-type]


__all__ = ["Engine", "Progress", "RunConfig"]
