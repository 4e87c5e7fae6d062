"""JSON of many records, of which few are new since it was made last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from polypath.core.changes import differing
from polypath.core.config import Config

K = TypeVar("K", int, str)


class Told(Generic[K]):
    """Remembers records and what they look like as JSON; a record that was changed is another record."""

    def __init__(self) -> None:
        self._held: dict[K, Config] = {}
        self._plain: dict[K, dict[str, Any]] = {}

    def know(self, held: Mapping[K, Config], plain: Iterable[dict[str, Any]]) -> None:
        """Take it that the records were read from this."""
        self._plain = dict(zip(held, plain, strict=True))
        self._held = dict(held)

    def plain(self, held: Mapping[K, Config]) -> dict[K, dict[str, Any]]:
        """Key -> JSON, in the order of `held`."""
        fresh = {key: held[key].model_dump(mode="json") for key in differing(held, old=self._held)}
        self._plain.update(fresh)
        self._held.update((key, held[key]) for key in fresh)
        if list(self._held) != list(held):  # something went, or came in between
            self.know(held, map(self._plain.__getitem__, held))
        return dict(self._plain)
