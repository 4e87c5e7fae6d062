"""Random numbers by name: every stream is derived from a seed and a key, none from global state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def derive(seed: int, *key: object) -> int:
    """A 63-bit seed that depends on `seed` and on every part of `key` (sha256 of their JSON)."""
    text = json.dumps([seed, *key], default=str, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *key: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for the stream `key`; asking twice gives the same numbers twice."""
    return torch.Generator(device=device).manual_seed(derive(seed, *key))


def seeded_values(seed: int, *key: object) -> AbstractContextManager[None]:
    """`seeded`, for initial values: on the meta device, where networks are planned by the hundred, nothing is drawn."""
    return nullcontext() if torch.get_default_device().type == "meta" else seeded(seed, *key)


@contextmanager
def seeded(seed: int, *key: object) -> Iterator[None]:
    """Seed torch's global generator inside the block and put its state back afterwards.

    For code that can only draw from the global generator: module initialisation and dropout.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    number = derive(seed, *key)
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed: without a GPU it remembers every call, with its stack, for a GPU that never comes.
        torch.default_generator.manual_seed(number)
        if devices:
            torch.cuda.manual_seed(number)
        yield
