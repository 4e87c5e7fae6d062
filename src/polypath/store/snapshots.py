"""Earlier manifests of a system; contents are content-addressed, so one costs itself and what only it names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from polypath.core.errors import CorruptError, InvalidInput, NewerFormat, StoreError, UnknownName, Unreadable
from polypath.core.files import remove_leftovers, write_atomically
from polypath.store.manifest import Event, Manifest, read_manifest
from polypath.store.pages import Pages, addresses_in

_FILE = re.compile(r"(\d{6})-([0-9a-f]{12})\.json")


@dataclass(frozen=True)
class Snapshot:
    """An earlier state of a system.

    Args:
        id: how it is asked for, twelve digits of its manifest's sha256.
        number: position in the order in which they were kept.
        path: the file that holds its manifest.
        event: the last thing that had happened then, or None before anything was learned.
        tasks: what the system knew.
        size_bytes: of the components it names.
        damaged: why it cannot be read, empty where it can. It is deleted with the next removal, for what it holds
            cannot be told, and by `prune` where the file is not what was written.
    """

    id: str
    number: int
    path: Path
    event: Event | None
    tasks: tuple[str, ...]
    size_bytes: int
    damaged: str = ""

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """What a file of `snapshots/` is; of one that cannot be read, only which and why."""
        try:
            return cls.of(path, read_manifest(path))
        except (OSError, StoreError) as error:
            number, _, name = path.stem.partition("-")
            return cls(name, int(number), path, None, (), 0, str(error))

    @classmethod
    def of(cls, path: Path, manifest: Manifest) -> Snapshot:
        """What a file of `snapshots/` is that was read."""
        number, _, name = path.stem.partition("-")
        size = sum(entry.size_bytes for entry in manifest.components.values())
        event = manifest.history[-1] if manifest.history else None
        return cls(name, int(number), path, event, tuple(manifest.tasks), size)


class Snapshots:
    """The `snapshots/` folder of a system.

    Args:
        folder: the system's folder.
        pages: its pages.
    """

    def __init__(self, folder: Path, pages: Pages) -> None:
        self.folder, self._pages = folder / "snapshots", pages
        self._named: dict[str, tuple[frozenset[str], list[str]]] = {}  # file -> addresses in it, its pages

    def files(self) -> list[Path]:
        """Their files, oldest first."""
        return sorted(path for path in self.folder.glob("*.json") if _FILE.fullmatch(path.name) and path.is_file())

    def blobs(self, without: Collection[Path] = ()) -> set[str]:
        """Every address that any of them names, in pages too. Found by its look: a damaged one must not stop a save.

        Args:
            without: files that are passed by.
        """
        files = [path for path in self.files() if path not in without]
        # A file's name holds the digest of its text, so that what was found in it once stays true.
        self._named = {path.name: self._named.get(path.name) or self._look(path) for path in files}
        pages = {page for _, pages in self._named.values() for page in pages}
        return self._pages.addresses(pages).union(*(found for found, _ in self._named.values()))

    def unnamed(self, addresses: set[str], elsewhere: Collection[str]) -> set[str]:
        """Those of the addresses that none of them names.

        Args:
            addresses: few; a manifest names none of them.
            elsewhere: that manifest's pages; what is in them is not looked at.
        """
        left = set(addresses)
        for path in self.files() if left else ():
            head, pages = self._known(path)
            left -= left & head
            for page in pages:
                if left and page not in elsewhere:
                    left -= left & self._pages.addresses((page,))
        return left

    def forget(self, gone: Iterable[Path], elsewhere: Collection[str] = ()) -> set[str]:
        """What files named that `prune` deleted, their pages included.

        Args:
            gone: the files.
            elsewhere: a manifest's pages; of these only the address is found.
        """
        found: set[str] = set()
        for path in gone:
            head, pages = self._named.pop(path.name, (frozenset(), []))
            found |= head | self._pages.addresses(page for page in pages if page not in elsewhere)
        return found

    def _known(self, path: Path) -> tuple[frozenset[str], list[str]]:
        if path.name not in self._named:
            self._named[path.name] = self._look(path)
        return self._named[path.name]

    def _look(self, path: Path) -> tuple[frozenset[str], list[str]]:
        return addresses_in(path.read_bytes()), self._pages.named(path)

    def listed(self) -> list[Snapshot]:
        """All of them, oldest first; one that cannot be read says so and stops nobody."""
        return [Snapshot.read(path) for path in self.files()]

    def last(self) -> Snapshot | None:
        """The newest; None where there is none."""
        files = self.files()
        return Snapshot.read(files[-1]) if files else None

    def damaged(self) -> list[Path]:
        """Files that are not what was written. Reads all of them.

        What a newer polypath wrote is none of them, nor is what cannot be read now and perhaps can be later.
        """
        found = []
        for path in self.files():
            try:
                read_manifest(path)
            except (NewerFormat, Unreadable):
                continue
            except CorruptError:
                found.append(path)
        return found

    def file(self, wanted: str) -> Path:
        """The file of a snapshot.

        Args:
            wanted: its id, or the beginning of it.

        Raises:
            UnknownName: there is none.
            InvalidInput: several begin so.
        """
        ids = {path.stem.partition("-")[2]: path for path in self.files()}
        found = [name for name in ids if wanted and name.startswith(wanted)]
        if not found:
            raise UnknownName("snapshot", wanted, ids)
        if len(found) > 1:
            raise InvalidInput(f"snapshot {wanted!r}: several begin so ({', '.join(found)}); give more digits")
        return ids[found[0]]

    def keep(self, manifest: Path) -> Path | None:
        """Keep what a manifest file holds now; None where the newest snapshot is just that already."""
        text = manifest.read_bytes()
        name = hashlib.sha256(text).hexdigest()[:12]
        last = self.files()[-1:]
        if last and last[0].stem.endswith(name):
            return None
        number = int(last[0].stem.partition("-")[0]) + 1 if last else 1
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{number:06d}-{name}.json"
        try:
            write_atomically(path, lambda file: file.write(text))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    @contextmanager
    def turning(self, manifest: Path, *, keep: bool, forget: Collection[Path]) -> Iterator[None]:
        """Around the replacement of the manifest: the old one kept, others gone; all as before if the block raises.

        A process killed inside leaves the old manifest without the snapshots that were to go, or the new one without
        them: what is to be forgotten is never found again.

        Args:
            manifest: the file about to be replaced.
            keep: whether what it holds becomes a snapshot.
            forget: files of snapshots to be deleted.
        """
        old = manifest.read_bytes() if manifest.exists() else None
        made = self.keep(manifest) if keep and old is not None else None
        aside = {path: path.with_name(f".{path.name}.part") for path in forget}  # litter, should we be killed here
        try:
            for path, hidden in aside.items():
                path.rename(hidden)
            yield
        except BaseException:
            unchanged = not manifest.exists() or manifest.read_bytes() == old
            if unchanged:  # else it was replaced, and what failed came after
                for path, hidden in aside.items():
                    if hidden.exists():
                        hidden.rename(path)
                if made is not None:
                    made.unlink(missing_ok=True)
            raise
        finally:
            for hidden in aside.values():
                hidden.unlink(missing_ok=True)

    def prune(self, keep: int, damaged: Collection[Path] = ()) -> list[Path]:
        """Delete all but the newest, and the damaged; the files that went."""
        remove_leftovers(self.folder)
        old = [path for path in self.files() if path not in damaged]
        gone = [*damaged, *(old[: len(old) - keep] if keep < len(old) else [])]
        for path in gone:
            with suppress(OSError):
                self._known(path)  # for `forget`
            path.unlink(missing_ok=True)
        return gone
