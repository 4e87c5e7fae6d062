"""How a system travels: a task as a file for other programs, a whole system as a model folder, to a hub and back."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from polypath.answering import Answers

PARITY = 1e-4  # relative, float32: another runtime sums products in another order


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        format, task, exit: what it holds; exit is None where the task has but one.
        size_bytes: of the file.
        system_bytes: of all components of the system it comes from.
        difference: largest difference to the system's outputs on the probe inputs, relative to the largest output.
        access: groups that the system asks for; the file itself answers whoever holds it.
    """

    path: Path
    format: str
    task: str
    exit: str | None
    size_bytes: int
    system_bytes: int
    difference: float
    access: tuple[str, ...] = ()

    def summary(self) -> str:
        """Two sentences for people."""
        share = self.size_bytes / self.system_bytes if self.system_bytes else 1.0
        text = (
            f"{self.path}: {self.size_bytes:,} bytes, {share:.0%} of the system's {self.system_bytes:,}. "
            f"Answers like the system: largest relative difference {self.difference:.1g} (allowed: {PARITY:g})."
        )
        if self.access:
            groups = ", ".join(self.access)
            text += f" The task is private to {groups}; the file asks nobody for a token, so keep it accordingly."
        return text


class Portable(Answers):
    """The travelling part of a `System`."""

    def export(
        self,
        task: str,
        path: str | Path,
        *,
        format: Literal["onnx", "torch"] | None = None,
        exit: str | None = None,
        pixels: Literal["uint8", "float"] = "uint8",
        resize: bool = False,
    ) -> Exported:
        """Write one task as a file that answers without polypath; says how large it is and how closely it agrees.

        The file holds the task's path only, with its preprocessing and labels, and takes any number of examples. Its
        answers to probe inputs are compared with the system's before it takes its name; what was at `path` stays where
        anything fails.

        Args:
            task: which task.
            path: the file, ending in `.onnx` or `.pt2`.
            format: `onnx` (needs the extra `[onnx]`) or `torch` (a `torch.export` archive); None follows from `path`.
            exit: which exit, for tasks that have several.
            pixels: how images come, `uint8` 0..255 or `float` 0..1.
            resize: images of any size, stretched inside the graph; for tasks that stretch images.

        Raises:
            UnknownName: no such task or format.
            InvalidInput: a path of another ending, a missing extra, a network that cannot be traced.
            ParityError: the file would not answer like the system (1e-4 relative in float32); nothing is written.
            StoreError: the disk is full or not writable.
        """
        module: Any = importlib.import_module("polypath.export")  # by name: answering imports nothing of this
        made: Exported = module.export_task(self, task, path, format=format, exit=exit, pixels=pixels, resize=resize)
        return made

    # ---- whole systems ----------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, *, repo: str | None = None, licence: str | None = None) -> Path:
        """Save the system with a model card (README.md) made from its manifest; returns the folder.

        A card that somebody wrote by hand is left alone. The folder loads with `polypath.load` like any other.

        Args:
            folder: where to; a system that is there is updated as by `save`.
            repo: `owner/name` under which the card says it is loaded; None: the folder's name.
            licence: of the model, for the card.

        Raises:
            StoreError: as `save`.
        """
        made: Path = importlib.import_module("polypath.hub").save_pretrained(self, folder, repo=repo, licence=licence)
        return made

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """The system in a folder, or in a repository of the Hugging Face hub.

        Args:
            name: a folder, or `owner/name`.
            options: `revision`, `token`, `cache_dir`, `local_files_only` as huggingface_hub takes them; `tasks` fetches
                the components of these tasks only (the others cannot answer); `modules` as in `polypath.load`.

        Raises:
            StoreError: no such folder or repository, or it could not be fetched.
            UnknownName: `tasks` names one that the system does not have.
        """
        made: Self = importlib.import_module("polypath.hub").from_pretrained(name, **options)
        return made

    def push_to_hub(self, repo: str, **options: Any) -> str:
        """Upload the system with its card to the Hugging Face hub in one commit; returns the commit's address.

        Files of components that the system no longer has go with that commit; the history of the repository keeps
        them, as it does for every file.

        Args:
            repo: `owner/name`; made where it does not exist.
            options: `private` (required where private tasks shaped the system), `token`, `revision`, `message`,
                `licence`.

        Raises:
            InvalidInput: the system holds what private tasks taught it and the repository would be public.
        """
        said: str = importlib.import_module("polypath.hub").push_to_hub(self, repo, **options)
        return said
