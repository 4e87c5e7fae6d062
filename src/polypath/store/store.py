"""A system's folder: `manifest.json`, its `pages/`, `components/<2>/<sha256>.safetensors`, and `snapshots/`.

Components are content-addressed: equal contents are stored once, and a file's name proves what is in it. A save writes
the components that are new, flushes them, and then replaces the manifest in one rename, so a killed process leaves the
old system or the new one. Nothing on the load path unpickles anything.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from polypath.core.errors import CorruptError, InvalidInput, StoreError
from polypath.core.files import is_leftover, remove_leftovers, sync_folder, write_atomically
from polypath.store.blobs import Blobs, Tensors
from polypath.store.lock import writing
from polypath.store.manifest import Manifest, read_manifest
from polypath.store.pages import LISTED, Pages, head_text, sections_of
from polypath.store.references import References
from polypath.store.seal import sealed
from polypath.store.snapshots import Snapshots

log = logging.getLogger(__name__)
_OURS = ("manifest.json", ".lock", "components", "pages", "snapshots", "certificates")


class Store(Blobs):
    """A system's folder, for reading and writing.

    Args:
        folder: the system's folder; need not exist before the first `write`.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(Path(folder))
        self.pages = Pages(self.folder)
        self.snapshots = Snapshots(self.folder, self.pages)
        self._references = References()  # what is on disk, for the manifest names it
        self._collected: set[str] | None = None  # pages of the manifest when nothing was left to delete; None: unknown
        self._seen: str | None = None  # sha256 of the manifest as last read or written here
        self._held = False

    @classmethod
    def existing(cls, folder: str | Path) -> Self:
        """The store in a folder that holds a system.

        Raises:
            StoreError: the folder or its manifest does not exist.
        """
        store = cls(folder)
        if not store.folder.is_dir():
            raise StoreError(f"no system at {str(folder)!r}: the folder does not exist")
        if not store.manifest_path.exists():
            raise StoreError(f"no system at {str(folder)!r}: the folder holds no manifest.json")
        return store

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.folder / "manifest.json"

    def manifest(self) -> Manifest:
        """The manifest, validated; see `read_manifest` for errors."""
        return read_manifest(self.manifest_path)

    def _remembered(self) -> Manifest:
        """The manifest; from now on its pages are known, and the components it names are taken to be there."""
        manifest = read_manifest(self.manifest_path, self.pages)
        self._references.forget()
        self._references.take(self._references.turned(manifest))
        return manifest

    def open(self) -> Manifest:
        """The manifest; from now on a write refuses to replace one that another process has written meanwhile."""
        for _ in range(10):  # a writer may replace it in between
            before = self.stamp()
            try:
                manifest = self._remembered()
            except CorruptError:
                if self.stamp() == before:
                    raise
                continue
            if self.stamp() == before:
                break
        else:
            raise StoreError(f"{self.folder} is being saved again and again; try once more")
        self._seen = before
        return manifest

    def replace_unread(self) -> None:
        """From now on a write replaces the manifest as it is now, although it cannot be read."""
        self._seen = self.stamp()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the writer's lock for several writes.

        Raises:
            Locked: another process is writing; says which.
            StoreError: another process saved since this store read the manifest.
        """
        if self._held:
            yield
            return
        with writing(self.folder):
            self._held = True
            try:
                self._refuse_lost_update()
                yield
            finally:
                self._held = False

    def write(
        self,
        manifest: Manifest,
        blobs: Mapping[str, Tensors],
        *,
        keep: bool = False,
        retain: int | None = None,
        forget: Collection[Path] = (),
    ) -> int:
        """Save: new components first, then the manifest; returns the number of component files written.

        Args:
            manifest: names every blob it needs.
            blobs: address -> tensors; those already on disk are not written again, but for damaged ones: what is new
                to the manifest is read, and what `damaged` found is remembered.
            keep: make a snapshot of the manifest that is replaced; of one that was neither read nor written here
                there is always one, and a warning.
            retain: how many snapshots stay, the newest; None: all.
            forget: files of snapshots that are deleted with it.

        Raises:
            Locked: another process is writing.
            StoreError: the disk is full or not writable, a blob is missing, or the folder holds something else;
                the system that was there is unchanged.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            foreign = [p.name for p in self.folder.iterdir() if p.name not in _OURS and not is_leftover(p)]
            if foreign and not self.manifest_path.exists():
                raise StoreError(
                    f"{self.folder} holds something that is not a polypath system ({sorted(foreign)[0]}); "
                    "choose an empty folder"
                )
            with self.hold():
                return self._write(manifest, blobs, keep, retain, forget)
        except OSError as error:
            raise StoreError(
                f"{self.folder} could not be written ({error}); what was there before is unchanged"
            ) from error

    def _write(
        self,
        manifest: Manifest,
        blobs: Mapping[str, Tensors],
        keep: bool,
        retain: int | None,
        forget: Collection[Path],
    ) -> int:
        self._refuse_lost_update()
        turn = self._references.turned(manifest)
        found = [sha for sha in turn.new if self.blob_path(sha).exists()]
        broken = {sha for sha in found if sha in blobs and not self.sound(sha)}
        if self.distrusted:
            broken |= self.distrusted & blobs.keys() & manifest.blobs()
        missing = sorted({*turn.new} - {*found} | broken)
        unknown = [sha for sha in missing if sha not in blobs]
        if unknown:
            raise StoreError(f"component {unknown[0][:12]} is neither on disk nor in memory; nothing was saved")
        before, made = self.stamp(), [self.blob_path(sha256) for sha256 in missing if sha256 not in broken]
        plain = manifest.model_dump(mode="json", exclude={*LISTED, "plan"})
        fields = {key: plain.get(key, value) for key, value in vars(manifest).items()}
        sections = sections_of(fields)
        layout = self.pages.laid(sections)
        text = sealed(head_text(fields, sections, layout).encode())
        over = self._seen is None and before not in (None, hashlib.sha256(text).hexdigest())  # somebody else's
        try:
            for sha256 in missing:
                self._write_blob(self.blob_path(sha256), blobs[sha256])
            self.pages.write(layout, made)
            if made:
                # The entries of folders made just now, too, must be there before a manifest counts on them.
                for folder in {self.folder, *(path.parents[1] for path in made)}:
                    sync_folder(folder)
            with self.snapshots.turning(self.manifest_path, keep=keep or over, forget=forget):
                write_atomically(self.manifest_path, lambda file: file.write(text))
        except BaseException as error:
            if self.stamp() == before:  # the disk may be full of them
                for path in made:
                    path.unlink(missing_ok=True)
                raise
            self._seen, self._collected = self.stamp(), None
            if isinstance(error, OSError):
                raise self._saved_but(error) from error
            raise
        self._seen = self.stamp()
        if over:
            self._say_what_was_here()
        known = None if forget else self._collected
        self._collected = None  # until the end: what follows may be interrupted
        self._references.take(turn)
        self.distrusted -= broken
        self.pages.settle(layout)
        try:
            gone = () if retain is None else self.snapshots.prune(retain)
        except OSError as error:
            raise self._saved_but(error) from error
        self._collect(self._references.addresses, set(layout.addresses), known, turn.loose, gone)
        return len(missing)

    def _saved_but(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.folder} is saved, but what was to go could not be deleted ({error}); the next save does it"
        )

    def _say_what_was_here(self) -> None:
        last = self.snapshots.files()[-1].stem.partition("-")[2]
        log.warning(
            "%s held another system, which is snapshot %s now; `polypath rollback %s %s` brings it back",
            self.folder, last, self.folder, last,
        )  # fmt: skip

    def _refuse_lost_update(self) -> None:
        """StoreError where another process saved since this store read or wrote the manifest."""
        if self._seen is not None and self.stamp() not in (None, self._seen):
            raise StoreError(
                f"{self.folder} was saved by another process since this system was read from it; nothing was saved. "
                "Load it again and repeat the change, or save to another folder"
            )

    def stamp(self) -> str | None:
        """sha256 of the manifest as it is now, None where there is none."""
        try:
            return hashlib.sha256(self.manifest_path.read_bytes()).hexdigest()
        except FileNotFoundError:
            return None

    def collect(self) -> None:
        """Delete what a writer left that was killed before it could clean up.

        Raises:
            Locked: another process is writing.
        """
        with self.hold():
            self._collect_now()

    def _collect_now(self, before: set[str] | None = None, gone: Collection[Path] = ()) -> None:
        """Delete what the manifest as it is now does not name; arguments as `_collect` has them."""
        self._collected = None  # until the end: what follows may be interrupted
        known = self._references and self._seen == self.stamp()
        named = self._references.addresses if known else self.manifest().blobs()
        self._collect(named, set(self.pages.named(self.manifest_path)), before if known else None, set(), gone)
        if not known:  # then the next write cannot tell what it leaves behind
            self._collected = None

    def prune(self, keep: int, damaged: Collection[Path] = ()) -> list[Path]:
        """Delete all but the newest snapshots, and what only they named; returns the files of those that went.

        Args:
            keep: how many stay.
            damaged: files of snapshots that go whatever their age.

        Raises:
            Locked: another process is writing.
        """
        with self.hold():
            before, self._collected = self._collected, None  # until the end: what follows may be interrupted
            gone = self.snapshots.prune(keep, damaged)
            if gone:
                self._collect_now(before, gone)
            else:
                self._collected = before
            return gone

    def undo(self) -> None:
        """Put the newest snapshot back as the manifest, as if what came after had never been saved.

        Raises:
            Locked: another process is writing.
            InvalidInput: no snapshot is left.
        """
        with self.hold():
            last = self.snapshots.files()[-1:]
            if not last:
                raise InvalidInput(f"{self.folder}: there is no snapshot to go back to")
            text = last[0].read_bytes()
            write_atomically(self.manifest_path, lambda file: file.write(text))
            self._seen = self.stamp()
            self._references.forget()
            self.pages.forget()
            last[0].unlink()
            self._collect_now()

    def _collect(
        self,
        named: Collection[str],
        pages: set[str],
        before: set[str] | None,
        loose: set[str],
        gone: Collection[Path],
    ) -> None:
        """Delete what neither the manifest nor a snapshot names. Saved by now: a failure here only leaves litter.

        Args:
            named: all addresses in the manifest.
            pages: those of its pages.
            before: pages when nothing was left to delete; None: every file is looked at.
            loose: addresses that the manifest before named and this one does not.
            gone: snapshots that were deleted since the last time.
        """
        try:
            remove_leftovers(self.folder)
            remove_leftovers(self.snapshots.folder)
            if before is None:  # the first time, too: a killed writer may have left something
                remove_leftovers(self.folder / "certificates")
                going = self._unnamed(pages.union(named, self.snapshots.blobs()))
            else:
                old = loose | (before - pages) | self.snapshots.forget(gone, pages)
                old = {sha for sha in old if sha not in pages and sha not in named}
                unnamed = self.snapshots.unnamed(old, pages)
                going = [path(sha) for sha in unnamed for path in (self.blob_path, self.pages.path)]
            for path in going:
                path.unlink(missing_ok=True)
            self._collected = pages
        except OSError as error:
            log.warning("%s: old components could not be deleted (%s)", self.folder, error)

    def _unnamed(self, wanted: set[str]) -> list[Path]:
        """Files of components and pages that nobody names, and halves of such files."""
        found = []
        for room, ending in ((self.folder / "components", ".safetensors"), (self.pages.folder, ".json")):
            for below in os.scandir(room) if room.is_dir() else ():
                for entry in os.scandir(below) if below.is_dir() else ():
                    name = entry.name.removesuffix(ending)
                    if is_leftover(Path(entry.name)) or (name != entry.name and name not in wanted):
                        found.append(Path(entry.path))
        return found

    def why_missing(self, sha256: str) -> str:
        """What to say about a component file that is not there."""
        try:
            named = sha256 in self.manifest().blobs() | self.snapshots.blobs()
        except (OSError, StoreError):
            named = True
        if named:
            return "; restore it from a copy of the system"
        return ": the system was saved again since it was loaded; load it again"

    def size_bytes(self, manifest: Manifest) -> int:
        """Bytes on disk of every blob the manifest names and of the manifest itself."""
        paths = [self.blob_path(sha256) for sha256 in manifest.blobs()] + [self.manifest_path]
        paths += map(self.pages.path, self.pages.named(self.manifest_path))
        return sum(path.stat().st_size for path in paths if path.exists())
