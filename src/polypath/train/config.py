"""Settings of a run that are not the method's: device, precision, threads, checkpoints."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from polypath.core.config import Config


class RunConfig(Config):
    """How a run uses the machine.

    Args:
        device: `auto` takes a GPU where there is one; else `cpu`, `cuda` or `mps`.
        devices: processes that share every batch (data parallel); more than one needs a launcher such as torchrun
            or `device="cpu"` and `cuda` alike through lightning-fabric's own.
        precision: `auto` is bf16 autocast where the hardware has bf16 matrix units (CUDA since Ampere, CPUs with
            AMX or AVX512-BF16), else float32; `32-true`; `bf16-mixed`.
        threads: CPU threads inside operations; None takes every core the process may use (bounded by
            OMP_NUM_THREADS, as in torch). Part of the record,
            because gradients at different counts differ in the last bits.
        checkpoint_every: epochs between checkpoints; 0 writes none.
        workers: processes that decode streamed images ahead of time.
        executor: who does the jobs that a method hands out (the children of a search): `local` is this process, `ray`
            the workers of a Ray cluster (extra `ray`). Results do not depend on it.
        parallel: jobs at the same time, with `ray`; None: as many as the cluster's CPUs hold.
        cluster: address of a running Ray cluster (`HOST:PORT`, or `auto` for the one this machine belongs to); None
            starts one on this machine for the time of the run.
        job_threads: CPU threads of every job, in every executor; None: `threads`. Part of the record like `threads`.
        track: `tensorboard` writes training and validation lines as scalars too (needs the extra `[track]` and a
            folder). Not part of what a run is: it may be switched when one is resumed.
    """

    elsewhere: ClassVar[frozenset[str]] = frozenset({"executor", "parallel", "cluster", "track"})
    """Settings that a run may be resumed with other values of: nothing that it writes depends on them."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(1, gt=0)
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    threads: int | None = Field(None, gt=0)
    checkpoint_every: int = Field(1, ge=0)
    workers: int = Field(0, ge=0)
    executor: Literal["local", "ray"] = "local"
    parallel: int | None = Field(None, gt=0)
    cluster: str | None = None
    job_threads: int | None = Field(None, gt=0)
    track: Literal["tensorboard"] | None = None
