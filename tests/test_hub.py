"""Systems as model folders: the card, the way to a hub and back, and what must not travel."""

from __future__ import annotations

import fnmatch
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

import polypath as pp
from polypath.core.errors import InvalidInput, StoreError, UnknownName
from polypath.core.examples import Suite
from polypath.store import pages

SETTINGS = {"backbone": {"kind": "mlp", "hidden": [6]}, "epochs": 1, "batch": 8, "threads": 1, "progress": False}


@cache
def learned() -> pp.System:
    suite = pp.data.split("digits", tasks=2, classes_per_task=2, seed=0, per_class=10, test_per_class=5)
    return pp.learn("single", suite, **SETTINGS)


@cache
def with_a_private_task() -> pp.System:
    suite = Suite("two", (tiny.data("open", seed=1), tiny.data("secret", seed=2, private_to="ward")))
    return pp.learn("single", suite, **SETTINGS)


def front_and_body(card: Path) -> tuple[dict[str, Any], str]:
    _, front, body = card.read_text().split("---\n", 2)
    return yaml.safe_load(front), body


class Hub:
    """A hub in a folder: what HfApi and snapshot_download of huggingface_hub do, for one repository."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.private, self.fetched = folder, None, []
        self.missing = RepositoryNotFoundError

    def api(self, token: Any = None) -> Hub:
        self.token = token
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool, repo_type: str) -> None:
        assert exist_ok and repo_type == "model"
        self.private = private
        (self.folder / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(
        self, *, repo_id: str, folder_path: str, revision: Any, commit_message: str, ignore_patterns: list[str],
        delete_patterns: list[str],
    ) -> str:  # fmt: skip
        place = self.folder / repo_id
        for file in [f for f in place.rglob("*") if f.is_file()]:
            if any(fnmatch.fnmatch(str(file.relative_to(place)), pattern) for pattern in delete_patterns):
                file.unlink()
        for file in [f for f in Path(folder_path).rglob("*") if f.is_file()]:
            name = str(file.relative_to(folder_path))
            if not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place / name)
        self.message = commit_message
        return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(self, repo_id: str, *, allow_patterns: list[str], cache_dir: Path, **_: Any) -> str:
        if not (self.folder / repo_id).is_dir():
            raise LocalEntryNotFoundError(f"no {repo_id}")
        place = Path(cache_dir) / "snapshot"
        for file in [f for f in (self.folder / repo_id).rglob("*") if f.is_file()]:
            name = str(file.relative_to(self.folder / repo_id))
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                self.fetched.append(name)
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place / name)
        return str(place)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    import huggingface_hub

    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", made.api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(5)).to(torch.uint8)


def same(first: pp.System, second: pp.System, task: str) -> bool:
    a, b = first.predict(task, images()).probabilities, second.predict(task, images()).probabilities
    return a is not None and b is not None and torch.equal(a, b)


def test_a_folder_with_a_card_loads_as_it_was_saved(tmp_path: Path) -> None:
    learned().save_pretrained(tmp_path / "digits", repo="me/digits", licence="apache-2.0")
    again = pp.System.from_pretrained(tmp_path / "digits")
    assert same(learned(), again, "task1") and same(learned(), pp.load(tmp_path / "digits"), "task2")


def test_the_card_says_tasks_metrics_data_and_use(tmp_path: Path) -> None:
    system = learned()
    system.save_pretrained(tmp_path / "digits", repo="me/digits", licence="apache-2.0")
    front, body = front_and_body(tmp_path / "digits" / "README.md")
    assert front["library_name"] == "polypath" and front["license"] == "apache-2.0" and "single" in front["tags"]
    (index,) = front["model-index"]
    found = {result["task"]["name"]: result["metrics"] for result in index["results"]}
    accuracy = system.entries["task1"].metrics["accuracy"]
    assert {"type": "accuracy", "value": round(accuracy, 6)} in found["task1"]
    licence = system.entries["task1"].facts["licence"]
    for said in ("| task2 |", licence, "`digits`", 'from_pretrained("me/digits")', "Isolation: ", "20 train"):
        assert said in body, said


def test_huggingface_hub_reads_the_front_matter(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    learned().save_pretrained(tmp_path / "digits", repo="me/digits")
    card = ModelCard.load(tmp_path / "digits" / "README.md")
    assert {result.task_name for result in card.data.eval_results} == {"task1", "task2"}


def test_a_card_of_ones_own_is_left_alone_and_ours_is_made_anew(tmp_path: Path) -> None:
    card = learned().save_pretrained(tmp_path / "a") / "README.md"
    learned().save_pretrained(tmp_path / "a", licence="mit")
    assert front_and_body(card)[0]["license"] == "mit"
    card.write_text("# By hand\n")
    learned().save_pretrained(tmp_path / "a")
    assert card.read_text() == "# By hand\n"


def test_of_a_private_task_the_card_says_only_that_it_is_private(tmp_path: Path) -> None:
    system = with_a_private_task()
    system.save_pretrained(tmp_path / "two")
    front, body = front_and_body(tmp_path / "two" / "README.md")
    assert [result["task"]["name"] for result in front["model-index"][0]["results"]] == ["open"]
    assert "* **secret**: private." in body and "| secret | private | private |" in body and "ward" not in body


def test_what_private_tasks_taught_goes_to_no_public_repository(hub: Hub) -> None:
    with pytest.raises(InvalidInput, match=r"group\(s\) ward.*private=True"):
        with_a_private_task().push_to_hub("me/two")
    assert hub.private is None  # nothing was made
    with_a_private_task().push_to_hub("me/two", private=True)
    assert hub.private is True


def test_there_and_back(hub: Hub, tmp_path: Path) -> None:
    said = learned().push_to_hub("me/digits", token="t", message="first")
    assert said == "https://hub/me/digits/commit/1" and hub.token == "t" and hub.message == "first"
    held = sorted(str(f.relative_to(hub.folder / "me/digits")) for f in (hub.folder / "me/digits").rglob("*.*"))
    assert "README.md" in held and "manifest.json" in held and ".lock" not in held
    again = pp.System.from_pretrained("me/digits", cache_dir=tmp_path / "cache")
    assert same(learned(), again, "task1") and again.verify().ok


@pytest.mark.parametrize("wanted", [None, ["task1"]])
def test_a_system_with_pages_travels_with_them(
    wanted: list[str] | None, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE", 2)  # as of 64 entries, where there are more
    learned().push_to_hub("me/digits")
    again = pp.System.from_pretrained("me/digits", cache_dir=tmp_path / "cache", tasks=wanted)
    assert same(learned(), again, "task1") and list((hub.folder / "me/digits/pages").rglob("*.json"))
    monkeypatch.setattr(pages, "PAGE", 64)
    learned().push_to_hub("me/digits")
    assert not list((hub.folder / "me/digits/pages").rglob("*.json"))  # nothing of the version before


def test_pushing_leaves_the_system_where_it_was_saved(hub: Hub, tmp_path: Path) -> None:
    system = pp.load(learned().save(tmp_path / "own"))
    system.push_to_hub("me/digits")
    assert system.store is not None and system.store.folder == tmp_path / "own"


def test_one_task_can_be_fetched_alone(hub: Hub, tmp_path: Path) -> None:
    learned().push_to_hub("me/digits")
    again = pp.System.from_pretrained("me/digits", cache_dir=tmp_path / "cache", tasks=["task1"])
    parts = [name for name in hub.fetched if name.startswith("components")]
    wanted = learned().network.digests(learned().network.reach("task1").components).values()
    assert {Path(name).stem for name in parts} == set(wanted)
    assert same(learned(), again, "task1")
    with pytest.raises(UnknownName, match="task1"):
        pp.System.from_pretrained("me/digits", cache_dir=tmp_path / "cache", tasks=["task3"])


def test_a_removed_task_leaves_the_repository_with_the_next_commit(hub: Hub) -> None:
    import copy

    system = copy.deepcopy(learned())
    system.push_to_hub("me/digits")
    before = {f.stem for f in (hub.folder / "me/digits").rglob("*.safetensors")}
    system.remove("task2")
    system.push_to_hub("me/digits")
    after = {f.stem for f in (hub.folder / "me/digits").rglob("*.safetensors")}
    gone = set(learned().network.digests(learned().network.path("task2").components).values())
    assert gone <= before and not gone & after
    assert "Removed since: task2" in (hub.folder / "me/digits" / "README.md").read_text()


def test_what_is_not_there_is_said(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="owner/name"):
        pp.System.from_pretrained("nowhere")
    with pytest.raises(StoreError, match="could not be fetched"):
        pp.System.from_pretrained("me/none", cache_dir=tmp_path)
