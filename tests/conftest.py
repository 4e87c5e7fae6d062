"""Harsher than life: fixed threads, no network, nothing left behind in global state, real data only where it is."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.style  # noqa: F401 - numbers its styles from the global generator when first imported: not in a test
import torch
from hypothesis import settings

THREADS = int(os.environ.get("POLYPATH_TEST_THREADS", "1"))
NO_DATA = "POLYPATH_DATA is not set: point it at a folder with one sub-folder of parquet files a data set"

# Examples are a function of the test (no database, no clock), so that a red test is red again.
settings.register_profile("polypath", derandomize=True, deadline=None, database=None, print_blob=False)
settings.load_profile("polypath")


class NetworkDenied(RuntimeError):
    """A test tried to reach another machine. Not an OSError: libraries retry those or fall back in silence."""


def _denied(address: Any) -> bool:
    """Whether an address lies outside this machine."""
    if not isinstance(address, tuple):  # a path: UNIX domain socket
        return False
    return not _local(address[0])


def _local(host: Any) -> bool:
    text = host.decode() if isinstance(host, bytes) else host
    if text in (None, "", "localhost", "::1", "0.0.0.0", "::", socket.gethostname()):
        return True
    return str(text).startswith(("127.", "::ffff:127."))


def _guard(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    """`original`, refusing an address outside this machine; `position` counts from the end for sendto."""

    def guarded(self: socket.socket, *arguments: Any) -> Any:
        if _denied(arguments[position]):
            raise NetworkDenied(f"tests may not use the network: {arguments[position]!r}")
        return original(self, *arguments)

    return guarded


def _guarded_lookup(host: Any, *arguments: Any, **keywords: Any) -> Any:
    if not _local(host):
        raise NetworkDenied(f"tests may not use the network: name lookup of {host!r}")
    return _LOOKUP(host, *arguments, **keywords)


_LOOKUP = socket.getaddrinfo
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # for subprocesses, which do not have the socket guard
    "HF_DATASETS_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": str(THREADS),
}


def pytest_configure(config: pytest.Config) -> None:
    """Close the network, give the session its own cache folder and fix the threads."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; tests send themselves Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):  # one of several processes: they share the cache of the one that started them
        cache = os.environ["POLYPATH_CACHE"]
    else:
        cache = tempfile.mkdtemp(prefix="polypath-cache-")  # one a session: CIFAR-100 is decoded once
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name, value in {**_ENVIRONMENT, "POLYPATH_CACHE": cache}.items():
        patch.setenv(name, value)
    if os.environ.get("POLYPATH_DATA"):  # tests change folders
        patch.setenv("POLYPATH_DATA", os.path.abspath(os.environ["POLYPATH_DATA"]))
    patch.setattr(socket.socket, "connect", _guard(socket.socket.connect, 0))
    patch.setattr(socket.socket, "connect_ex", _guard(socket.socket.connect_ex, 0))
    patch.setattr(socket.socket, "sendto", _guard(socket.socket.sendto, -1))
    patch.setattr(socket, "getaddrinfo", _guarded_lookup)
    torch.set_num_threads(THREADS)


def pytest_report_header() -> str:
    """What the results depend on, at the head of every session."""
    return f"polypath: torch {torch.__version__}, {THREADS} threads, POLYPATH_DATA={os.environ.get('POLYPATH_DATA')}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    data = os.environ.get("POLYPATH_DATA")
    reason = NO_DATA if not data else "" if Path(data).is_dir() else f"POLYPATH_DATA={data} is not a folder"
    for item in items:
        if "realdata" in getattr(item, "fixturenames", ()):
            item.add_marker("realdata")
        if reason and item.get_closest_marker("realdata"):
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def realdata() -> Path:
    """The folder of real data sets; using this fixture marks the test `realdata`."""
    return Path(os.environ["POLYPATH_DATA"])


def _numpy_state() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return (name, keys.tobytes(), *rest)


# What a test must leave as it was: name -> (read, write back).
_WATCHED: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "torch default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch threads": (torch.get_num_threads, torch.set_num_threads),
    "torch deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "torch grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch global generator": (
        lambda: torch.get_rng_state().numpy().tobytes(),
        lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
    ),
    "numpy global generator": (
        _numpy_state,
        lambda state: np.random.set_state((state[0], np.frombuffer(state[1], dtype=np.uint32), *state[2:])),
    ),
    "random global generator": (random.getstate, random.setstate),
    "working directory": (os.getcwd, os.chdir),
}


@pytest.fixture(autouse=True)
def leak_guard() -> Iterator[None]:
    """Fail a test that leaves global state changed, and put the state back so that only that test is red."""
    before = {name: read() for name, (read, _) in _WATCHED.items()}
    yield
    changed = [name for name, (read, _) in _WATCHED.items() if read() != before[name]]
    for name in changed:
        _WATCHED[name][1](before[name])
    if changed:
        pytest.fail(f"this test left changed: {', '.join(changed)}", pytrace=False)
