"""Component files of a system's folder, named by the digest of what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from polypath.core.component import digest
from polypath.core.errors import CorruptError
from polypath.core.files import write_atomically
from polypath.store.manifest import Manifest

Tensors = Mapping[str, torch.Tensor]


class Blobs:
    """The `components/` folder of a system; a `Store` is one.

    Args:
        folder: the system's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.distrusted: set[str] = set()  # addresses of files that `damaged` found; the next write replaces them

    def why_missing(self, sha256: str) -> str:
        """What to say about a component file that is not there."""
        raise NotImplementedError

    def blob_path(self, sha256: str) -> Path:
        """Where the component with this address is."""
        return self.folder / "components" / sha256[:2] / f"{sha256}.safetensors"

    def _write_blob(self, path: Path, tensors: Tensors) -> None:
        from safetensors.torch import save

        path.parent.mkdir(parents=True, exist_ok=True)
        ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        data = save(ready, metadata={"polypath": "component"})
        write_atomically(path, lambda file: file.write(data))

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
        except FileNotFoundError:  # which safetensors says of whatever it cannot open
            if (why := _unreadable(path)) is not None:
                raise CorruptError(f"component file {path} cannot be read ({why})") from why
            raise CorruptError(f"component file {path} is missing{self.why_missing(sha256)}") from None
        except (OSError, ValueError, SafetensorError) as error:
            raise CorruptError(
                f"component file {path} cannot be read ({error}); restore it from a copy of the system"
            ) from error

    def proven(self, sha256: str) -> dict[str, torch.Tensor]:
        """A component's tensors, after reading all of them and finding the contents that the address promises.

        Raises:
            CorruptError: as `tensors`, or the contents have another digest.
        """
        found = self.tensors(sha256)
        holds = digest(found)
        if holds != sha256:
            raise CorruptError(
                f"component file {self.blob_path(sha256)} was changed: its contents hash to {holds[:12]}; "
                "restore it from a copy of the system"
            )
        return found

    def sound(self, sha256: str) -> bool:
        """Whether a component file holds what its name promises; reads all of it."""
        try:
            return bool(self.proven(sha256))
        except CorruptError:
            return False

    def damaged(self, manifest: Manifest) -> dict[str, str]:
        """Address -> what is wrong, for every blob whose contents do not have the digest that names it."""
        wrong = {}
        for sha256 in sorted(manifest.blobs()):
            try:
                self.proven(sha256)
            except CorruptError as error:
                wrong[sha256] = str(error)
        self.distrusted = set(wrong)
        return wrong


def _unreadable(path: Path) -> OSError | None:
    """Why a file cannot be opened; None where it is not there."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None
