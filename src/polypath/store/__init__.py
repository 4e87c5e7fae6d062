"""Systems on disk: a manifest and content-addressed components."""

from polypath.store.lock import writing
from polypath.store.manifest import (
    FORMAT_VERSION,
    ComponentEntry,
    Confidence,
    Event,
    Latency,
    Manifest,
    ProbeEntry,
    TaskEntry,
)
from polypath.store.snapshots import Snapshot
from polypath.store.store import Store

__all__ = [
    "FORMAT_VERSION",
    "ComponentEntry",
    "Confidence",
    "Event",
    "Latency",
    "Manifest",
    "ProbeEntry",
    "Snapshot",
    "Store",
    "TaskEntry",
    "writing",
]
