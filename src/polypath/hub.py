"""A whole system as a model folder with a card: saved, loaded, pushed to a hub of Hugging Face's kind and fetched back.

The folder is the system's own (`manifest.json`, `pages/`, `components/`) and a README.md beside it; nothing in it is
unpickled.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from polypath.card import MARK, model_card
from polypath.core.errors import InvalidInput, StoreError, UnknownName
from polypath.core.files import write_atomically
from polypath.nn.own import Source, offer
from polypath.snapshot import restored
from polypath.store import Store
from polypath.system import System, load

CARD = "README.md"
HEAD = ["manifest.json", "pages/**", CARD]  # without a tensor
PARTS = [*HEAD, "components/**"]
OTHER = [".lock", ".*.part", "**/.*.part"]  # never part of what is pushed


def save_pretrained(system: System, folder: str | Path, *, repo: str | None = None, licence: str | None = None) -> Path:
    """The folder with the system and its card; see `System.save_pretrained`."""
    place = system.save(folder)
    card = place / CARD
    if not card.exists() or MARK in card.read_text(encoding="utf-8", errors="replace"):  # a card of one's own stays
        text = model_card(system, repo or place.name, licence)
        write_atomically(card, lambda file: file.write(text.encode()))
    return place


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    tasks: Iterable[str] | None = None,
    modules: Mapping[str, Source] | None = None,
) -> System:
    """The system in a folder or in a repository of the hub; see `System.from_pretrained`."""
    if Path(name).exists():
        return load(name, modules=modules)
    text = str(name)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise StoreError(f"no system at {text!r}: no such folder, and a repository is named 'owner/name'")
    given = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    patterns = PARTS
    if tasks is not None:
        for own, module in (modules or {}).items():
            offer(own, module)
        patterns = [*HEAD, *_needed(Path(_fetched(text, HEAD, given)), list(tasks))]
    return load(_fetched(text, patterns, given), modules=modules)


def push_to_hub(
    system: System,
    repo: str,
    *,
    private: bool = False,
    token: str | bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    licence: str | None = None,
) -> str:
    """Upload the system and its card; see `System.push_to_hub`."""
    from huggingface_hub import HfApi

    groups = sorted({group for task in system.tasks for group in system.access(task)})
    groups += sorted({group for group in system.tombstones.values() if group is not None} - set(groups))
    if groups and not private:
        raise InvalidInput(
            f"push_to_hub: this system holds what private tasks taught it (group(s) {', '.join(groups)}), and a public "
            "repository has no access groups; give private=True, or push a system learned without them"
        )
    api = HfApi(token=token)
    folder = Path(tempfile.mkdtemp(prefix="polypath-push-"))
    try:
        _copied(system, folder)
        save_pretrained(load(folder), folder, repo=repo, licence=licence)
        api.create_repo(repo, private=private, exist_ok=True, repo_type="model")
        done = api.upload_folder(
            repo_id=repo,
            folder_path=str(folder),
            revision=revision,
            commit_message=message or f"polypath system: {', '.join(system.tasks)}",
            ignore_patterns=OTHER,
            delete_patterns=["components/**", "pages/**"],  # what the system no longer names goes in the same commit
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return str(getattr(done, "commit_url", done))


def _copied(system: System, folder: Path) -> None:
    """The system as it is now in a folder of its own; what it knows about the folder it was saved in stays as it is."""
    twin = copy.copy(system)
    for key, value in list(vars(twin).items()):
        if isinstance(value, (dict, list)):
            setattr(twin, key, value.copy())
    twin.save(folder)


def _fetched(repo: str, patterns: list[str], given: Mapping[str, Any]) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return str(snapshot_download(repo, allow_patterns=patterns, **given))
    except RepositoryNotFoundError as error:
        raise StoreError(f"no repository {repo!r} on the hub, or none that this token may read") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise StoreError(f"{repo!r} could not be fetched from the hub: {str(error).splitlines()[0]}") from error


def _needed(folder: Path, tasks: list[str]) -> list[str]:
    """The component files that these tasks' paths name."""
    store = Store.existing(folder)
    manifest = store.manifest()
    network = restored(store, manifest, lazily=True)
    for task in tasks:
        if task not in network.tasks:
            raise UnknownName("task", task, network.tasks)
    shas = [manifest.components[name].sha256 for name in network.components_of(tasks)]
    return [str(store.blob_path(sha).relative_to(store.folder)) for sha in shas]
