"""Controls whose settings follow from what another variant did: read from its finished run in the same folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.files import read_json
from polypath.core.result import Result

RULES: dict[str, str] = {"winner_passes": "polypath.recipes.mu2net.ancestry:winner_passes"}


class Follows(Config):
    """Where a variant's last settings come from.

    Args:
        variant: whose finished run of the same seed is read.
        rule: how they follow from its record; `winner_passes`: the passes that a search's winners and their ancestors
            had, see `polypath.recipes.mu2net.ancestry`.
    """

    variant: str
    rule: Literal["winner_passes"]


def followed(follows: Follows, name: str, out: Path, seed: int) -> dict[str, Any]:
    """The settings that a variant takes from another's finished run.

    Args:
        follows: which run, which rule.
        name: of the variant that follows.
        out: folder of the experiment.
        seed: of both runs.

    Raises:
        InvalidInput: that run is not there, not finished, or its record does not say what is needed.
    """
    file = out / follows.variant / f"seed-{seed}" / "results.json"
    if not file.exists():
        raise InvalidInput(
            f"variant {name!r} takes settings from the finished run of {follows.variant!r} with seed {seed}, but "
            f"{file} does not exist; finish that run in this folder first (--resume)"
        )
    module, _, attribute = RULES[follows.rule].partition(":")
    rule: Callable[[Result], dict[str, Any]] = getattr(importlib.import_module(module), attribute)
    try:
        return rule(Result.of(read_json(file)))
    except InvalidInput as error:
        raise InvalidInput(f"variant {name!r} takes settings from {file}, which does not hold them: {error}") from error
