"""manifest.json: everything about a system that is not a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from polypath.core.config import Config, describe
from polypath.core.errors import CorruptError, NewerFormat, StoreError
from polypath.core.files import read_json_text
from polypath.store.pages import Pages, sections_of
from polypath.store.references import addresses_of_components, addresses_of_tasks
from polypath.store.seal import intact

# 2: what grows with the system may lie in pages; 3: mu2Net's selections beside its models; 4: sealed (store/seal.py)
FORMAT_VERSION = 4
KEEP_SNAPSHOTS = 10  # of a thousand tasks a manifest is about a megabyte

# Addresses become file names: nothing but a digest may stand there.
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ComponentEntry(Config):
    """One component.

    Args:
        sha256: digest of its contents, and its address in components/.
        kind, capacity, parent: as in `polypath.core.component.Component`.
        size_bytes: of its tensors.
        auxiliary: digest of what only learning needs, or None.
        sources: task -> access group (or None) of every task whose data shaped it.
    """

    sha256: Sha256
    kind: str
    capacity: bool = False
    parent: str | None = None
    size_bytes: int
    auxiliary: Sha256 | None = None
    sources: dict[str, str | None] = Field(default_factory=dict)


class ProbeEntry(Config):
    """Recorded answers of one task to seeded synthetic inputs.

    Args:
        seed, count: which inputs.
        learned: digest of the outputs when the task was first learned; drift is measured from them.
        saved: digest of the outputs after the last change of the task's components.
        machine: where `saved` was computed; equal machines must reproduce it bit for bit.
    """

    seed: int
    count: int
    learned: Sha256
    saved: Sha256
    machine: str


class Latency(Config):
    """How long a task's exits take.

    Args:
        machine: fingerprint of where it was measured; elsewhere it says nothing.
        threads, batch: of the measured forwards.
        ms: exit -> median milliseconds of one forward.
    """

    machine: str
    threads: int
    batch: int
    ms: dict[str, float]


class Confidence(Config):
    """When an early exit of a task may answer.

    Args:
        threshold: largest probability that suffices; above 1 where no exit may stop early.
        drop: accuracy that was allowed to be lost, on `examples` validation examples.
        examples: how many.
        full, kept: validation accuracy of the last exit alone, and with early stopping.
        share: of the validation examples answered at every exit, shallowest first.
    """

    threshold: float
    drop: float
    examples: int
    full: float
    kept: float
    share: tuple[float, ...]


class TaskEntry(Config):
    """What the system knows about one task beyond its definition.

    Args:
        metrics: test metrics when the task was last measured.
        probe: recorded answers.
        facts: what data preparation reported.
        exits: test metrics at every exit, for tasks that have several.
        latency: measured time of every exit.
        confidence: when an early exit may answer.
    """

    metrics: dict[str, float] = Field(default_factory=dict)
    probe: ProbeEntry | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    exits: dict[str, dict[str, float]] = Field(default_factory=dict)
    latency: Latency | None = None
    confidence: Confidence | None = None


class Event(Config):
    """One line of the system's history, with what and when.

    Args:
        what: `learned`, `removed`, `updated` (the tasks are about to be learned again), `renamed` (tasks: old and new
            name) or `rolled back` (tasks: all that there are then; config: the snapshot, and the events undone).
        run: identifies the run of a stage, so that a resumed one knows which stages are done.
    """

    what: str
    tasks: tuple[str, ...]
    isolation: str | None = None
    method: str
    config: dict[str, Any] = Field(default_factory=dict)
    run: str | None = None
    stage: int | None = None
    at: str


class Manifest(Config):
    """A whole system but its tensors.

    Args:
        network: name of the network class in `polypath.nn.NETWORKS`.
        plan: what `Network.plan()` returned: configuration, tasks, paths, counters.
        method, config, seed: how it was learned.
        suite: how to build its data again, empty for data made by hand.
        tombstones: removed task -> its access group; sources may still name it.
        keep_snapshots: how many earlier manifests are kept.
    """

    format_version: int = FORMAT_VERSION
    polypath: str
    network: str
    plan: dict[str, Any]
    method: str
    config: dict[str, Any]
    seed: int
    suite: dict[str, Any] = Field(default_factory=dict)
    components: dict[str, ComponentEntry]
    tasks: dict[str, TaskEntry]
    tombstones: dict[str, str | None] = Field(default_factory=dict)
    history: list[Event] = Field(default_factory=list)
    keep_snapshots: int = Field(KEEP_SNAPSHOTS, ge=0)

    def blobs(self) -> set[str]:
        """Every address this manifest names."""
        return {*addresses_of_components(self.components.values()), *addresses_of_tasks(self.tasks.values())}


def _selections_apart(values: dict[str, Any]) -> dict[str, Any]:
    """Format 2 wrote into every model how often it was a parent for whom: each new task changed old models' pages."""
    if values.get("network") != "layered":
        return values
    plan = values["plan"]
    selections: dict[str, list[list[int]]] = {}
    for model in plan["models"]:
        for task, count in model["selections"].items():
            selections.setdefault(task, []).append([model["number"], count])
    models = [{key: value for key, value in model.items() if key != "selections"} for model in plan["models"]]
    return {**values, "plan": {**plan, "models": models, "selections": selections}}


# Format version -> what makes a manifest of that version, its pages put in, one of the next. Whoever raises
# FORMAT_VERSION adds the step here, and a system saved before it to tests/data/systems/: a test opens it for ever.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: dict,  # format 1 had everything in one file
    2: _selections_apart,
    3: dict,  # format 4 says the sha256 of its own text
}
SEALED = 4  # the first format that does


def _migrated(values: Mapping[str, Any], version: int, path: Path) -> dict[str, Any]:
    """The values of a manifest of any earlier format, its pages put in, as this format has them.

    Raises:
        CorruptError: they are not what that format has.
    """
    found = dict(values)
    for step in range(version, FORMAT_VERSION):
        try:
            found = {**MIGRATIONS[step](found), "format_version": step + 1}
        except (AttributeError, KeyError, TypeError) as error:
            raise CorruptError(f"{path} is damaged: it is not what format {step} has ({error!r})") from error
    return found


def _version_of(values: Any, path: Path) -> int:
    """The format of what was read.

    Raises:
        NewerFormat: written by a newer polypath.
        CorruptError: no manifest, or a version that never was.
    """
    version = values.get("format_version") if isinstance(values, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise CorruptError(f"{path} is not a polypath manifest (it has no format_version)")
    if version > FORMAT_VERSION:
        made = values.get("polypath")
        by = f" (polypath {made} wrote it)" if isinstance(made, str) else ""
        raise NewerFormat(
            f"{path} has format version {version}{by}; this polypath reads up to {FORMAT_VERSION}. Upgrade polypath: "
            "pip install --upgrade polypath"
        )
    if version < 1:
        raise CorruptError(f"{path} has format version {version}, which no polypath ever wrote")
    return version


def _remedy(path: Path) -> str:
    """What helps where a manifest file is not what was written."""
    if path.parent.name != "snapshots":
        for kept in sorted((path.parent / "snapshots").glob("*-*.json"), reverse=True):
            with suppress(StoreError):  # the newest may be damaged too
                read_manifest(kept)
                return (
                    "restore it from a copy of the system, or go back to the newest snapshot that can be read: "
                    f"`polypath rollback {path.parent} {kept.stem.partition('-')[2]}`"
                )
    return "restore it from a copy of the system"


def read_manifest(path: Path, pages: Pages | None = None) -> Manifest:
    """The manifest in a file.

    Args:
        path: `manifest.json`, or a snapshot's file.
        pages: of the system's folder, which then remember what lies in them; None finds them beside the file.

    Raises:
        CorruptError: missing, not JSON, or not a manifest; says which fields. It or a page of it was changed.
        NewerFormat: written by a newer polypath.
    """
    try:
        found, text = read_json_text(path)
    except CorruptError as error:
        raise type(error)(f"{error}; {_remedy(path)}") from error
    version = _version_of(found, path)
    if version >= SEALED and (not intact(text) or not found.pop("sha256")):
        raise CorruptError(f"{path} was changed: its text does not have the sha256 that it names; {_remedy(path)}")
    held = pages or Pages(path.parent.parent if path.parent.name == "snapshots" else path.parent)
    try:
        manifest = Manifest.model_validate(_migrated(held.filled(found, path), version, path))
    except ValidationError as error:
        problems = "; ".join(describe(problem) for problem in error.errors()[:5])
        raise CorruptError(f"{path} is damaged: {problems}") from error
    if pages is not None:
        pages.remember(found if version == FORMAT_VERSION else {}, sections_of(vars(manifest)))
    return manifest
