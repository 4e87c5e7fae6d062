"""Which device, precision and number of processes a configuration means on this machine."""

from __future__ import annotations

import os

import torch

from polypath.core.errors import InvalidInput
from polypath.train.config import RunConfig
from polypath.train.environment import cpu_facts


def available_device(config: RunConfig) -> str:
    """The accelerator a configuration asks for.

    Raises:
        InvalidInput: it is not there, or has fewer devices than asked for.
    """
    name = config.device if config.device != "auto" else _best_device()
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[name]:
        what = {"cuda": "no CUDA GPU", "mps": "no Apple GPU"}[name]
        raise InvalidInput(f"device {name!r} was asked for, but torch sees {what}; use device='auto' or 'cpu'")
    if name == "cuda" and config.devices > torch.cuda.device_count():
        raise InvalidInput(
            f"devices={config.devices} was asked for, but torch sees {torch.cuda.device_count()} CUDA GPU(s)"
        )
    return name


def nodes(config: RunConfig, *, writes: bool) -> int:
    """Number of machines, from the environment that torchrun sets; 1 without it.

    Raises:
        InvalidInput: torchrun started another number of processes than `devices`, so that several would write one
            run folder.
    """
    here = os.environ.get("LOCAL_WORLD_SIZE")
    if "TORCHELASTIC_RUN_ID" not in os.environ or here is None:
        return 1
    if int(here) != config.devices:
        if not writes and config.devices == 1:
            return 1
        raise InvalidInput(f"torchrun started {here} process(es) here, but devices={config.devices}; make them equal")
    return int(os.environ.get("WORLD_SIZE", here)) // int(here)


def resolved_precision(config: RunConfig) -> str:
    """What `auto` means on this machine."""
    if config.precision != "auto":
        return config.precision
    device = config.device if config.device != "auto" else _best_device()
    fast = torch.cuda.is_bf16_supported() if device == "cuda" else device == "cpu" and cpu_facts()["bf16"]
    return "bf16-mixed" if fast else "32-true"


def first_process() -> bool:
    """Whether this process is the one that writes: the only one, or rank 0, before any process group exists."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return int(next((rank for rank in ranks if rank is not None), "0")) == 0


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
