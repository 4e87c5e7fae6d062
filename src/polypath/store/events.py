"""What happened to a system, with what rollbacks took back.

The history of a manifest is that of the state it describes. A rollback makes that of its snapshot the system's again,
and its own event carries what is then no longer part of it (config: undone), so that nothing is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from polypath.store.manifest import Event


def logged(history: Sequence[Event]) -> list[tuple[Event, bool]]:
    """Every event in the order in which they happened, with whether a rollback took it back."""
    found = []
    for event in history:
        found += [(Event.model_validate(values), True) for values in _undone(event)]
        found.append((alone(event), False))
    return found


def taken_back(history: Sequence[Event], earlier: Sequence[Event]) -> list[dict[str, Any]]:
    """The events that a rollback to an earlier state takes back, for the config of its own event.

    Args:
        history: of the system now.
        earlier: of the state it goes back to; it may hold events that an earlier rollback had taken back.
    """
    kept = Counter(event.model_dump_json() for event, _ in logged(earlier))
    found = []
    for event, _ in logged(history):
        text = event.model_dump_json()
        if kept[text]:
            kept[text] -= 1
        else:
            found.append(event.model_dump(mode="json"))
    return found


def _undone(event: Event) -> Sequence[Any]:
    return event.config.get("undone", ()) if event.what == "rolled back" else ()


def alone(event: Event) -> Event:
    """An event without those that it took back."""
    if not _undone(event):
        return event
    return event.changed(config={key: value for key, value in event.config.items() if key != "undone"})
