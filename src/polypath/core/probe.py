"""Probe inputs: seeded synthetic examples on which a task's answers are recorded and replayed."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from polypath.core.network import Network
from polypath.core.seeds import generator
from polypath.core.task import Task

PROBE_COUNT = 8


def probe_inputs(task: Task, seed: int, count: int = PROBE_COUNT) -> torch.Tensor:
    """Encoded synthetic inputs (count, ...) of the task's shape; the same seed gives the same inputs everywhere."""
    stream = generator(seed, "probe")
    if task.inputs.kind == "image":
        pixels = torch.randint(0, 256, (count, *task.inputs.shape), generator=stream).to(torch.uint8)
        return task.preprocess.encode(pixels)
    if task.inputs.kind == "tokens":
        return torch.randint(0, task.inputs.vocabulary, (count, task.inputs.length), generator=stream)
    return torch.randn(count, *task.inputs.shape, generator=stream)


@torch.no_grad()
def probe_outputs(network: Network, task: str, seed: int, count: int = PROBE_COUNT) -> torch.Tensor:
    """Answers (count, outputs) of a task, from an NCHW float32 copy of its path on one CPU thread.

    One thread and one layout, so that the bits do not depend on how the system is being used.
    """
    module = contiguous(network.extract(task, fused=False).cpu().float())
    with one_thread():
        outputs: torch.Tensor = module(probe_inputs(network.task_named(task), seed, count))
    return outputs.contiguous()


def contiguous(module: nn.Module) -> nn.Module:
    """The module with every parameter and buffer in the plain (row-major) layout, changed in place.

    Copied and not `.contiguous()`: with one channel a channels-last tensor counts as contiguous and keeps its strides,
    by which convolutions choose how they sum.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor.data)
    return module


def machine() -> str:
    """Fingerprint of what decides the last bits of a float32 result: processor, torch and its CPU capability."""
    text = f"{_processor()}|{torch.__version__}|{torch.backends.cpu.get_cpu_capability()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
