"""A disk that is full from a chosen call on."""

from __future__ import annotations

import errno
import os
from typing import Any


class Failing:
    """`os` for core.files whose `name` fails from its `count`-th call on."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.left = name, count

    def __getattr__(self, name: str) -> Any:
        if name != self.name:
            return getattr(os, name)

        def call(*args: Any, **keywords: Any) -> Any:
            self.left -= 1
            if self.left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return getattr(os, name)(*args, **keywords)

        return call
