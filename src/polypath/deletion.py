"""The report on a deletion: what is gone, what stays and why, what nobody here can delete."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from polypath.certificate import Certificate
from polypath.core.accounting import Removal
from polypath.core.config import Config
from polypath.core.errors import CorruptError, StoreError, Unreadable
from polypath.core.files import write_atomically, write_json
from polypath.removal import looked_through, pending, pending_file, redact
from polypath.store import Manifest, Store
from polypath.system import System

log = logging.getLogger(__name__)


class Part(Config):
    """A component that is no longer what it was."""

    name: str
    kind: str
    size_bytes: int


class Residue(Config):
    """A component that stays although the removed task's data helped to shape it.

    Args:
        name, kind: of the component.
        users: tasks that use it, for which it stays.
        sources: tasks whose data shaped it.
    """

    name: str
    kind: str
    users: tuple[str, ...]
    sources: tuple[str, ...]


class Deletion(Config):
    """What removing a task did.

    Args:
        task: asked for.
        removed: all that went, those in a cascade too.
        cascade: whether that was asked for.
        freed: components that are gone.
        reset: capacity that is back at its initial values.
        residue: components that stay, shaped by its data.
        snapshots: earlier states that held something of it and went with it.
        files, size_bytes: component files deleted: values, method state, recorded answers.
        certificates: documents from which its values were taken out.
        damaged: documents that could not be read and are gone, for they may have held it.
        elsewhere: what lies outside the system's folder and was not touched.
        proof: that the other tasks are what they were.
    """

    format_version: int = 1
    what: str = "removed"
    task: str
    removed: tuple[str, ...]
    cascade: bool
    freed: tuple[Part, ...]
    reset: tuple[Part, ...]
    residue: tuple[Residue, ...]
    snapshots: tuple[dict[str, Any], ...]
    files: int
    size_bytes: int
    certificates: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    elsewhere: tuple[str, ...]
    proof: Certificate

    @property
    def complete(self) -> bool:
        """Whether nothing that the task's data trained is left in the system."""
        return not self.residue

    def lines(self) -> list[str]:
        """The report in sentences."""
        also = [name for name in self.removed if name != self.task]
        found = [f"Removed {self.task!r}" + (f", and with it {', '.join(also)}" if also else "") + "."]
        found.append(f"Deleted: {self.files} file(s), {self.size_bytes:,} bytes; {len(self.freed)} component(s) freed.")
        if self.reset:
            found.append(f"Reset to initial values, free for new tasks: {_names(self.reset)}.")
        for one in self.snapshots:
            held = "could not be read, may have held it" if one.get("damaged") else "held it"
            found.append(f"Snapshot {one['id']} ({', '.join(one['tasks']) or 'no task'}) {held} and is gone.")
        if self.certificates:
            found.append(f"Its values were taken out of {', '.join(self.certificates)}.")
        if self.damaged:
            found.append(f"Could not be read, may have held its values and is gone: {', '.join(self.damaged)}.")
        if self.residue:
            users = sorted({user for part in self.residue for user in part.users})
            found.append(
                f"Residue: {len(self.residue)} component(s) that its data helped to shape stay, because others use "
                f"them ({', '.join(users) or 'no task now, but new ones will'}): {_names(self.residue)}."
            )
        else:
            found.append("Residue: none; nothing that its data trained is left in the system.")
        found.append(f"Others: {self.proof.summary()}.")
        return [*found, *(f"Not touched: {line}" for line in self.elsewhere)]

    def text(self) -> str:
        """The report as a page."""
        head = f"# Deletion report\n\n{self.proof.at}, polypath {self.proof.polypath}, method {self.proof.method}\n\n"
        rows = "\n".join(f"- {line}" for line in self.lines())
        parts = "".join(
            f"| {part.name} | {part.kind} | {what} | {part.size_bytes:,} |\n"
            for what, held in (("freed", self.freed), ("reset", self.reset))
            for part in held
        )
        table = f"\n\n| component | kind | what | bytes |\n|---|---|---|---|\n{parts}" if parts else "\n"
        return head + rows + table


def _names(parts: tuple[Part, ...] | tuple[Residue, ...]) -> str:
    shown = ", ".join(part.name for part in parts[:6])
    return shown + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")


def report(system: System, old: Manifest, done: Removal, proof: Certificate, **facts: Any) -> dict[str, Any]:
    """What the report on a removal says that is known before it is saved.

    Args:
        system: as it is now.
        old: the manifest before.
        done: what the removal did.
        proof: that the others did not change.
        facts: further fields.
    """
    parts, users = system.network.components(), system.sharing().users
    residue = tuple(
        Residue(name=name, kind=parts[name].kind, users=users[name], sources=tuple(sorted(system.sources[name])))
        for name in done.residue
    )
    return {
        "removed": list(done.removed),
        "freed": [_part(old, name).model_dump(mode="json") for name in done.freed],
        "reset": [_part(old, name).model_dump(mode="json") for name in done.reset],
        "residue": [one.model_dump(mode="json") for one in residue],
        "proof": proof.model_dump(mode="json"),
        **facts,
    }


def finish(store: Store) -> tuple[Deletion, Path] | None:
    """Do what is left of a removal: values out of the certificates, checkpoints of the run, the report.

    Args:
        store: of the system; its lock is held.

    Returns:
        The report and its file; None where no removal waits, it was never saved, or nobody asked for a report.

    Raises:
        StoreError, OSError: something cannot be written or deleted; the next call goes on.
    """
    try:
        left = pending(store.folder)
    except Unreadable:
        raise  # it is still there for the next call
    except CorruptError as error:
        log.warning("%s; certificates may still hold values of what was removed, and a report on it is lost", error)
        pending_file(store.folder).unlink()
        return None
    if left is None:
        return None
    if store.stamp() == left.before:  # killed before the manifest was replaced
        pending_file(store.folder).unlink()
        return None
    there = {sha for sha, size in left.files.items() if size and store.blob_path(sha).exists()}
    there -= store.manifest().blobs() | store.snapshots.blobs() if there else set()
    if there:
        raise StoreError(f"{store.blob_path(min(there))} could not be deleted")
    left = looked_through(store.folder, left)
    redact(store.folder, left)
    made = None
    if left.report is not None:
        found = Deletion.model_validate(
            {
                **left.report,
                "snapshots": left.snapshots,
                "files": sum(size > 0 for size in left.files.values()),
                "size_bytes": sum(left.files.values()),
                "certificates": left.certificates,
                "damaged": left.damaged,
                "elsewhere": leftovers(store.folder),
            }
        )
        path = store.folder / "certificates" / left.file
        text = found.text().encode()
        write_atomically(path.with_suffix(".md"), lambda file: file.write(text))
        write_json(path, found.model_dump(mode="json"))
        made = found, path
    pending_file(store.folder).unlink()
    return made


def _part(old: Manifest, name: str) -> Part:
    entry = old.components[name]
    return Part(name=name, kind=entry.kind, size_bytes=entry.size_bytes)


def leftovers(folder: Path) -> tuple[str, ...]:
    """What lies outside a system's folder and may still tell of its tasks, as sentences; the run's checkpoints go.

    Args:
        folder: the system's.
    """
    from polypath.data import cache

    run = folder.parent
    found = []
    if folder.name == "system" and (run / "run.json").exists():
        for file in (run / "checkpoint").glob("stage-*.safetensors"):
            file.unlink(missing_ok=True)
        records = [name for name in ("results.json", "metrics.jsonl", "report.html") if (run / name).exists()]
        if records:
            found.append(f"{run}: {', '.join(records)} hold measured figures of the run, no values of the network")
    caches = cache.folder()
    if caches.is_dir() and any(caches.glob("*.npy")):
        found.append(f"{caches}: decoded copies of data sets; delete the folder if the data itself must go")
    found.append("the data the task was learned from, copies of the folder, and what the file system keeps of files")
    return tuple(found)
