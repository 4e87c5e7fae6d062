"""Jobs done by the workers of a Ray cluster: on this machine, or on all machines of a running cluster.

What all jobs share is packed once and travels once to every machine; there every worker reads it from shared memory,
without a copy.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import ray
import torch
from ray.cloudpickle import CloudPickler
from ray.exceptions import RayError, RayTaskError
from torch import nn

from polypath.core.errors import InvalidInput, PolypathError, WorkerLost
from polypath.train.config import RunConfig

RETRIES = 3
"""How often a job whose worker or machine died is done again before the run gives up."""

_WAIT_S = 0.2  # between two looks at whether the run was asked to stop

Packed = tuple[bytes, list[Any]]


class OnRay:
    """An executor over the workers of a Ray cluster.

    Args:
        config: `parallel` (jobs at the same time; None: as many as the cluster's CPUs hold), `cluster` (address of a
            running one; None starts one on this machine, unless this process is connected to one already).
        threads: CPU threads, and CPUs claimed, of each job.
        gpus: GPUs of each job.

    Raises:
        InvalidInput: the cluster cannot be reached, or no machine of it is large enough for a job.
    """

    def __init__(self, config: RunConfig, threads: int, gpus: int) -> None:
        self._threads, self._gpus = threads, gpus
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(config, threads)
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= gpus for node in machines):
            largest = max((node.get("CPU", 0) for node in machines), default=0)
            self.close()
            raise InvalidInput(
                f"a job takes {threads} CPU(s) and {gpus} GPU(s), but no machine of the Ray cluster offers them (most "
                f"CPUs of one: {largest:g}); set job_threads lower, or add a machine"
            )
        fit = [min(node.get("CPU", 0) // threads, node.get("GPU", 0) // gpus if gpus else 1e9) for node in machines]
        self.parallel = config.parallel or max(int(sum(fit)), 1)

    def __call__(
        self,
        function: Callable[[Any, Any], Any],
        jobs: Sequence[Any],
        shared: Any,
        beat: Callable[[], None],
        began: Callable[[int], None],
    ) -> Generator[tuple[int, Any], None, None]:
        """See `polypath.train.mapping.Executor`; jobs that still run when the caller leaves are ended.

        Raises:
            WorkerLost: workers kept dying under a job.
        """
        if not jobs:  # all answers were on disk
            return
        held = ray.put(_packed((function, shared)))
        task = ray.remote(num_cpus=self._threads, num_gpus=self._gpus, max_retries=RETRIES)(_do)
        waiting = list(range(len(jobs)))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.parallel:
                    position = waiting.pop()
                    # In a list: Ray would otherwise unpack what is shared for every job anew.
                    running[task.remote([held], _packed(jobs[position]), self._threads)] = position
                    began(position)
                ready, _ = ray.wait(list(running), num_returns=1, timeout=_WAIT_S)
                beat()
                for reference in ready:
                    position = running[reference]
                    answer = _unpacked(_received(reference, position), writable=True)
                    del running[reference]
                    yield position, answer
        finally:
            for reference in running:
                ray.cancel(reference, force=True, recursive=True)

    def close(self) -> None:
        """Leave the cluster, and stop it where this executor started it."""
        if self._ours and ray.is_initialized():
            ray.shutdown()


def _connect(config: RunConfig, threads: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody unasked
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if config.cluster is None:
        cpus = None if config.parallel is None else config.parallel * threads
        ray.init(address="local", num_cpus=cpus, **quiet)
        return
    quiet.pop("include_dashboard")  # a matter of whoever started the cluster
    try:
        host, _, port = config.cluster.rpartition(":")
        if port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=config.cluster, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"run.cluster={config.cluster!r} cannot be reached ({error}); start one with 'ray start --head', give its "
            "address as HOST:PORT or 'auto', or leave it out to use this machine alone"
        ) from error


def _received(reference: Any, position: int) -> Packed:
    try:
        packed: Packed = ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, PolypathError):
            raise cause from error
        raise error.as_instanceof_cause() from error
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkerLost(
            f"job {position + 1}: the worker process died {RETRIES + 1} times ({reason}); likely reasons: too little "
            "memory for so many jobs at the same time (set parallel lower), or a job that wrote to what all share"
        ) from error
    return packed


_latest: tuple[str, Any, Any] | None = None  # in a worker: what is shared, its reference, unpacked once


def _do(held: list[Any], job: Packed, threads: int) -> Packed:
    """In a worker process: one job."""
    global _latest
    torch.set_num_threads(threads)
    (reference,) = held
    if _latest is None or _latest[0] != reference.hex():
        _latest = None  # the one before may go first
        _latest = (reference.hex(), reference, _unpacked(ray.get(reference)))
    function, shared = _latest[2]
    return _packed(function(shared, _unpacked(job, writable=True)))


# ---- packing ----------------------------------------------------------------------------------------------------


class _Packer(CloudPickler):  # type: ignore[misc, unused-ignore]
    """Pickles tensors as buffers outside the stream: Ray keeps those in shared memory and hands them out uncopied."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in (torch.Tensor, nn.Parameter) and obj.layout == torch.strided and obj.device.type != "meta":
            value, strides = _dense(obj.detach().cpu())  # another process may have no GPU, or another one
            raw = pickle.PickleBuffer(value.view(torch.uint8).numpy().data)
            return _tensor, (raw, obj.dtype, obj.shape, strides, type(obj) is nn.Parameter, obj.requires_grad)
        return super().reducer_override(obj)


def _dense(value: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The elements in the order in which they lie in memory, and the strides that find them there again.

    The layout is kept: kernels, and with them the last bits of results, are chosen by it.
    """
    strides = value.stride()
    order = sorted(range(value.ndim), key=lambda axis: -strides[axis])
    lying = value.permute(order)
    if lying.is_contiguous():
        return lying.reshape(-1), strides
    return value.contiguous().reshape(-1), value.contiguous().stride()


def _tensor(
    raw: Any, dtype: torch.dtype, shape: torch.Size, strides: tuple[int, ...], parameter: bool, grad: bool
) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only: jobs do not write to what all share
        flat = torch.frombuffer(raw, dtype=dtype) if memoryview(raw).nbytes else torch.empty(0, dtype=dtype)
    value = torch.as_strided(flat, shape, strides)
    return nn.Parameter(value, grad) if parameter else value.requires_grad_(grad)


def _packed(value: Any) -> Packed:
    stream = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _Packer(stream, protocol=5, buffer_callback=buffers.append).dump(value)
    return stream.getvalue(), [np.frombuffer(buffer.raw(), dtype=np.uint8) for buffer in buffers]


def _unpacked(packed: Packed, *, writable: bool = False) -> Any:
    """The value; `writable` gives it memory of its own."""
    stream, buffers = packed
    if writable:  # copied by torch, which aligns memory: what is fastest, and the last bits, depend on that
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # read-only
            buffers = [torch.from_numpy(buffer).clone().numpy() for buffer in buffers]
    return pickle.loads(stream, buffers=buffers)
