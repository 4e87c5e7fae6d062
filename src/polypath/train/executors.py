"""Who does the jobs that a method hands out, as the run's configuration says.

A job is a pure function of what it is given, so its answer is the same wherever and in whatever order it is done; every
executor gives it the same number of threads.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from polypath.core.errors import InvalidInput
from polypath.train.config import RunConfig
from polypath.train.mapping import Executor, here

if TYPE_CHECKING:
    from polypath.train.on_ray import OnRay


class Chosen:
    """The executor of a run, made when the first job is there: until then Ray is neither imported nor started."""

    def __init__(self) -> None:
        self._made: Executor | None = None
        self._ray: OnRay | None = None

    def of(self, config: RunConfig, device: torch.device, threads: int) -> Executor:
        """The executor.

        Args:
            config: `executor`, `parallel`, `cluster`, `devices`.
            device: of the run; with Ray, a job on a GPU takes a whole one.
            threads: CPU threads of a job.

        Raises:
            InvalidInput: the settings do not go together, Ray is not installed or its cluster not reached.
        """
        if self._made is None:
            if config.executor == "ray":
                self._made = self._ray = _on_ray(config, device, threads)
            else:
                self._made = _in_process(config, threads)
        return self._made

    def close(self) -> None:
        """Leave a cluster, and stop it where this run started it."""
        if self._ray is not None:
            self._ray.close()
        self._made = self._ray = None


def _in_process(config: RunConfig, threads: int) -> Executor:
    for name in ("parallel", "cluster"):
        if getattr(config, name) is not None:
            raise InvalidInput(
                f"run.{name}={getattr(config, name)!r} belongs to executor='ray', but executor is 'local'; "
                f"set executor='ray' or leave {name} out"
            )

    return partial(here, threads)


def _on_ray(config: RunConfig, device: torch.device, threads: int) -> OnRay:
    if config.devices > 1:
        raise InvalidInput(
            f"run.devices={config.devices} shares every batch between processes, and executor='ray' gives every job to "
            "one worker; use one of the two"
        )
    try:
        from polypath.train.on_ray import OnRay
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise InvalidInput("executor='ray' needs Ray, which is not installed: pip install 'polypath[ray]'") from error
    return OnRay(config, threads, 1 if device.type == "cuda" else 0)
