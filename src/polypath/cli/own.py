"""Methods of a user's own, named on the command line as `module:Class`."""

from __future__ import annotations

import sys
from pathlib import Path


def importable(*methods: str) -> None:
    """Let Python find `module:Class` in the current folder too, where one of the names is of that form.

    Behind everything installed: no file that happens to lie there takes the place of a package. A command that names no
    method of one's own imports nothing from there.
    """
    here = str(Path.cwd())
    if any(":" in name for name in methods) and not {"", here} & set(sys.path):
        sys.path.append(here)
