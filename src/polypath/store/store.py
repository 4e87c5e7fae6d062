"""A system's folder: `manifest.json` and `components/<2>/<sha256>.safetensors`.

Components are content-addressed: equal contents are stored once, and a file's name proves what is in it. A save writes
the components that are new, flushes them, and then replaces the manifest in one rename, so a killed process leaves the
old system or the new one. Nothing on the load path unpickles anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch

from polypath.core.component import digest
from polypath.core.errors import CorruptError, StoreError
from polypath.core.files import write_atomically, write_json
from polypath.store.lock import writing
from polypath.store.manifest import Manifest, read_manifest

Tensors = Mapping[str, torch.Tensor]


class Store:
    """A system's folder, for reading and writing.

    Args:
        folder: the system's folder; need not exist before the first `write`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

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

    def blob_path(self, sha256: str) -> Path:
        """Where the component with this address is."""
        return self.folder / "components" / sha256[:2] / f"{sha256}.safetensors"

    def write(self, manifest: Manifest, blobs: Mapping[str, Tensors]) -> int:
        """Save: new components first, then the manifest; returns the number of component files written.

        Args:
            manifest: names every blob it needs.
            blobs: address -> tensors; those already on disk are not written again.

        Raises:
            Locked: another process is writing.
            StoreError: the disk is full or not writable, a blob is missing, or the folder holds something else;
                the system that was there is unchanged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.manifest_path.exists() and any(
            p.name not in (".lock", "components") for p in self.folder.iterdir()
        ):
            raise StoreError(f"{self.folder} holds something that is not a polypath system; choose an empty folder")
        with writing(self.folder):
            written = 0
            for sha256 in sorted(manifest.blobs()):
                path = self.blob_path(sha256)
                if path.exists():
                    continue
                if sha256 not in blobs:
                    raise StoreError(f"component {sha256[:12]} is neither on disk nor in memory; nothing was saved")
                self._write_blob(path, blobs[sha256])
                written += 1
            write_json(self.manifest_path, manifest.model_dump(mode="json"))
            self._collect(manifest.blobs())
        return written

    def _write_blob(self, path: Path, tensors: Tensors) -> None:
        from safetensors.torch import save

        path.parent.mkdir(parents=True, exist_ok=True)
        ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        data = save(ready, metadata={"polypath": "component"})
        write_atomically(path, lambda file: file.write(data))  # type: ignore[func-returns-value]

    def _collect(self, wanted: set[str]) -> None:
        for path in (self.folder / "components").glob("*/*"):
            stale = path.name.startswith(".") and path.name.endswith(".part")
            if stale or (path.suffix == ".safetensors" and path.stem not in wanted):
                path.unlink(missing_ok=True)

    def tensors(self, sha256: str) -> dict[str, torch.Tensor]:
        """A component's tensors, memory-mapped: pages are read when touched.

        Raises:
            CorruptError: the file is missing, truncated or no component; the message names it.
        """
        from safetensors import SafetensorError, safe_open

        path = self.blob_path(sha256)
        try:
            with safe_open(str(path), framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        except FileNotFoundError:
            raise CorruptError(f"component file {path} is missing; restore it from a copy of the system") from None
        except (OSError, SafetensorError) as error:
            raise CorruptError(
                f"component file {path} cannot be read ({error}); restore it from a copy of the system"
            ) from error

    def damaged(self, manifest: Manifest) -> dict[str, str]:
        """Address -> what is wrong, for every blob whose contents do not have the digest that names it."""
        wrong = {}
        for sha256 in sorted(manifest.blobs()):
            try:
                found = digest(self.tensors(sha256))
            except CorruptError as error:
                wrong[sha256] = str(error)
                continue
            if found != sha256:
                wrong[sha256] = (
                    f"component file {self.blob_path(sha256)} was changed: its contents hash to {found[:12]}"
                )
        return wrong

    def size_bytes(self, manifest: Manifest) -> int:
        """Bytes on disk of every blob the manifest names and of the manifest itself."""
        paths = [self.blob_path(sha256) for sha256 in manifest.blobs()] + [self.manifest_path]
        return sum(path.stat().st_size for path in paths if path.exists())
