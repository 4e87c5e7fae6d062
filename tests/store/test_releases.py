"""Systems of every released version open in this one and answer as they did; newer formats say what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import release
import small
import torch

import polypath as pp
from polypath import lifecycle
from polypath.core.errors import CorruptError, NewerFormat
from polypath.nn.evolved import ROOT
from polypath.nn.layered import Layered
from polypath.store import FORMAT_VERSION, Store, manifest
from polypath.store.seal import sealed

SYSTEMS = Path(__file__).parents[1] / "data" / "systems"
KEPT = sorted(path.parent for path in SYSTEMS.glob("*/*/manifest.json"))


def test_every_release_has_its_systems() -> None:
    assert {path.parent.name for path in KEPT} >= {"0.1.0", "0.1.0-format2", "0.1.0-format3"}
    assert {path.name for path in KEPT} == {"part", "rsn2", "mu2net"}
    sizes = [path.stat().st_size for path in SYSTEMS.rglob("*") if path.is_file()]
    assert sum(sizes) < 100_000 * len(KEPT)  # it is in the repository for ever


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: f"{path.parent.name} {path.name}")
def test_a_system_of_an_earlier_release_answers_as_it_did(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "system"))
    recorded = json.loads((folder.parent / f"{folder.name}.answers.json").read_text())
    system = pp.load(copy)
    assert list(system.tasks) == list(recorded)
    for name, expected in recorded.items():
        found = system.predict(name, release.INPUTS[folder.name]).probabilities
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)  # another processor, folded
    proof = system.verify()
    assert not proof.damaged and all(task.replay in ("identical", "close") for task in proof.tasks.values())
    if folder.name == "mu2net":  # in format 2 every model said for whom it was a parent
        assert isinstance(system.network, Layered)
        assert system.network.selected("task0") == {ROOT: 3}  # as pages/ of that system have it
        assert system.save(copy) and pp.load(copy).network.plan() == system.network.plan()
    if folder.name == "rsn2":  # it also lives on: access, a new task, the newest format on disk
        assert system.access("task0") == {"ward"} and system.tombstones == {"task1": None}
        done = lifecycle.add(copy, small.suite(small.task(3)), **small.QUIET)
        assert done.certificate is not None and done.certificate.identical
        assert json.loads((copy / "manifest.json").read_text())["format_version"] == FORMAT_VERSION


def test_an_older_format_is_brought_up_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(KEPT[-1], tmp_path / "system"))
    now = json.loads((copy / "manifest.json").read_text())
    steps: list[int] = []

    def first(values: dict[str, Any]) -> dict[str, Any]:
        steps.append(values["format_version"])
        return {**values, "method": values["learned_with"]}

    def second(values: dict[str, Any]) -> dict[str, Any]:
        steps.append(values["format_version"])
        return {key: value for key, value in values.items() if key != "learned_with"}

    version = FORMAT_VERSION
    monkeypatch.setattr(manifest, "FORMAT_VERSION", version + 2)
    monkeypatch.setattr(manifest, "MIGRATIONS", {**manifest.MIGRATIONS, version: first, version + 1: second})
    old = {**{key: value for key, value in now.items() if key != "method"}, "learned_with": now["method"]}
    text = json.dumps({**old, "format_version": version}).encode()
    (copy / "manifest.json").write_bytes(sealed(text))
    system = pp.load(copy)
    assert steps == [version, version + 1] and system.method == now["method"] and system.verify().ok


def test_a_damaged_system_of_an_older_format_is_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(SYSTEMS / "0.1.0-format2" / "mu2net", tmp_path / "system"))
    values = json.loads((copy / "manifest.json").read_text())
    values["plan"]["models"] = [{"number": 7}]
    (copy / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(CorruptError, match="manifest.json is damaged: it is not what format 2 has"):
        pp.load(copy)


def test_a_newer_format_says_what_to_do(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(KEPT[-1], tmp_path / "system"))
    file = copy / "manifest.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "format_version": FORMAT_VERSION + 1, "polypath": "9.1"}))
    with pytest.raises(NewerFormat, match=r"polypath 9\.1 wrote it.*Upgrade polypath: pip install --upgrade polypath"):
        pp.load(copy)
    file.write_text(json.dumps({**values, "format_version": 0}))
    with pytest.raises(CorruptError, match="version 0, which no polypath ever wrote"):
        Store(copy).manifest()


def test_every_format_has_a_step_to_the_next() -> None:
    assert sorted(manifest.MIGRATIONS) == list(range(1, FORMAT_VERSION))
