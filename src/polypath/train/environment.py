"""What a run ran on, for its record."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


@lru_cache(maxsize=1)
def cpu_facts() -> dict[str, Any]:
    """Name of the CPU and whether it multiplies bf16 matrices in hardware (AMX or AVX512-BF16; Linux only)."""
    name, flags = platform.processor() or platform.machine(), set()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() == "flags":
                flags = set(value.split())
                break
    except OSError:
        pass
    return {"name": name, "amx": "amx_bf16" in flags, "bf16": bool({"amx_bf16", "avx512_bf16"} & flags)}


def usable_cores() -> int:
    """Cores this process may use; OMP_NUM_THREADS, which torch itself follows, where that is set to less."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted.isdigit() and int(wanted) > 0:
        return min(int(wanted), _allowed_cores())
    return _allowed_cores()


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(device: torch.device, precision: str, threads: int) -> dict[str, Any]:
    """Machine, versions and settings that influence numbers or times."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_facts()["name"],
        "cpu_bf16": cpu_facts()["bf16"],
        "cores": _allowed_cores(),
        "threads": threads,
        "device": str(device),
        "precision": precision,
        "commit": _commit(),
        "versions": {name: _version(name) for name in ("polypath", "torch", "torchvision", "timm", "lightning-fabric")},
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def _commit() -> str | None:
    """Commit of the checkout polypath is imported from, with `+changes` where it is dirty; None outside one."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip()[:12] + ("+changes" if git("status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory_bytes(device: torch.device) -> int:
    """Highest memory use so far: of the GPU where one is used, else of the whole process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says begins with the peak of the process that started this one
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
