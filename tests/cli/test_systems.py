"""`inspect`, `evaluate` and `verify`: what they say about a system, and about one that is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polypath.cli.inspect import _exit_table
from polypath.core.component import digest
from polypath.nn.grid import read_paths

Invoke = Callable[..., Any]


def manifest_of(system: Path) -> dict[str, Any]:
    return dict(json.loads((system / "manifest.json").read_text()))


def file_of(system: Path, component: str) -> Path:
    sha: str = manifest_of(system)["components"][component]["sha256"]
    return system / "components" / sha[:2] / f"{sha}.safetensors"


def head_of(system: Path, task: str) -> str:
    (task_id,) = (t["id"] for t in manifest_of(system)["plan"]["tasks"] if t["task"]["name"] == task)
    return f"head.{task_id}"


def test_inspect_json_has_the_shape_of_the_design(system: Path, invoke: Invoke) -> None:
    found = json.loads(invoke("inspect", system, "--json").stdout)
    assert list(found) == ["method", "isolation", "tasks", "totals", "components"]
    assert (found["method"], found["isolation"]) == ("part", "exact")
    keys = ["name", "private_to", "parameters", "added_parameters", "flops", "metrics"]
    assert [list(task) for task in found["tasks"]] == [keys] * 3
    assert found["components"] == 9 * 6 + 3  # nine layers of six modules, three heads
    manifest = manifest_of(system)
    assert found["totals"]["size_bytes"] == sum(part["size_bytes"] for part in manifest["components"].values())


def test_inspect_agrees_with_the_record_of_the_run(finished: tuple[Path, Any], invoke: Invoke) -> None:
    folder = finished[0] / "sequential" / "seed-0"
    record = json.loads((folder / "results.json").read_text())
    found = json.loads(invoke("inspect", folder, "--json").stdout)  # the run's folder stands for its system/
    for task, recorded in zip(found["tasks"], record["tasks"], strict=True):
        assert task["name"] == recorded["name"] and task["metrics"] == recorded["test"]
        for key in ("parameters", "added_parameters", "flops"):
            assert task[key] == recorded[key]
    assert found["totals"] == record["totals"]


def test_inspect_full_adds_sharing_access_history_and_components(system: Path, invoke: Invoke) -> None:
    found = json.loads(invoke("inspect", system, "--json", "--full").stdout)
    assert sum(found["sharing_profile"]) == 9 * 6
    assert sum(users * count for users, count in enumerate(found["sharing_profile"])) == 3 * 9 * 2  # N = 2 a layer
    assert found["access"] == {"task1": [], "task2": [], "task3": []}
    assert [event["tasks"] for event in found["history"]] == [["task1"], ["task2"], ["task3"]]
    files = [path for path in system.rglob("*") if path.suffix in (".safetensors", ".json")]
    assert found["size_on_disk_bytes"] == sum(path.stat().st_size for path in files)
    assert {part["name"] for part in found["component_list"]} == set(manifest_of(system)["components"])


def test_inspect_shows_tables(system: Path, invoke: Invoke) -> None:
    plain = invoke("inspect", system).stdout
    assert "task2" in plain and "Isolation: exact." in plain and "everybody" in plain and "learned" in plain
    assert "layer1.module00" not in plain and "layer1.module00" in invoke("inspect", system, "--full").stdout


def test_inspect_writes_large_metrics_as_people_do() -> None:
    exits = [{"name": name, "parameters": 1, "flops": 1, "ms": None, "metrics": {"mse": 1234567.8}} for name in "ab"]
    (column,) = [one for one in _exit_table({"name": "t", "exits": exits}).columns if str(one.header) == "mse"]
    assert list(map(str, column.cells)) == ["1,234,568"] * 2


def test_paths_are_written_for_another_run(system: Path, invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "paths.json"
    assert json.loads(invoke("inspect", system, "--paths", file, "--json").stdout)["method"] == "part"
    written = {task["task"]["name"]: task["rows"] for task in manifest_of(system)["plan"]["tasks"]}
    assert read_paths(file) == written
    plan = invoke(
        "run", "part/digits", "--smoke", "--dry-run", "--json", "--variant", "parallel", "--seed", 7,
        "--set", f"method.paths_file={file}", "--set", "suite.tasks=3", "--set", "suite.classes_per_task=2",
    )  # fmt: skip
    mine = json.loads(invoke("inspect", system, "--json").stdout)["tasks"]
    planned = json.loads(plan.stdout)["variants"]["parallel"]["tasks"]
    assert [task["added_parameters"] for task in planned] == [task["added_parameters"] for task in mine]
    before = file.read_bytes()
    again = invoke("inspect", system, "--paths", file)
    assert again.exit_code == 2 and "exists already" in again.stderr and file.read_bytes() == before


def test_evaluate_repeats_the_recorded_metrics(finished: tuple[Path, Any], invoke: Invoke) -> None:
    folder = finished[0] / "sequential" / "seed-0"
    record = json.loads((folder / "results.json").read_text())
    found = json.loads(invoke("evaluate", folder / "system", "--json").stdout)
    for task in record["tasks"]:
        assert found[task["name"]] == pytest.approx(task["test"], abs=1e-6)
    assert "accuracy" in invoke("evaluate", folder / "system").stdout


def test_evaluate_on_another_suite(system: Path, invoke: Invoke, tmp_path: Path) -> None:
    suite = {**manifest_of(system)["suite"], "test_per_class": 5}
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    found = json.loads(invoke("evaluate", system, "--data", tmp_path / "suite.json", "--json").stdout)
    assert set(found) == {"task1", "task2", "task3"}
    for metrics in found.values():  # ten test examples: accuracies are tenths
        assert metrics["accuracy"] * 10 == pytest.approx(round(metrics["accuracy"] * 10))


def test_an_untouched_system_verifies(system: Path, invoke: Invoke) -> None:
    result = invoke("verify", system, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["ok"] and found["failing"] == [] and found["damaged"] == {}
    assert {name: task["drift"] for name, task in found["tasks"].items()} == dict.fromkeys(
        ("task1", "task2", "task3"), 0
    )
    assert "replayed" in invoke("verify", system).stdout


def damage_truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def damage_edit(file: Path) -> None:
    """Still a readable file: one value differs, so that only its hash can tell."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    before = digest(tensors)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] += 1
    assert digest(tensors) != before
    save_file(tensors, file)


@pytest.mark.parametrize("damage", [damage_truncate, damage_edit, Path.unlink])
def test_verify_names_the_task_whose_component_is_damaged(
    system: Path, invoke: Invoke, damage: Callable[[Path], Any]
) -> None:
    head = head_of(system, "task2")
    damage(file_of(system, head))
    result = invoke("verify", system, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert not found["ok"] and found["failing"] == ["task2"] and list(found["damaged"]) == [head]
    table = invoke("verify", system)
    assert table.exit_code == 1 and "task2" in table.stdout.splitlines()[-1] and head in table.stdout


def test_a_damaged_component_stops_its_task_and_no_other(system: Path, invoke: Invoke, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), dtype=np.uint8))
    damage_truncate(file_of(system, head_of(system, "task2")))
    bad = invoke("predict", system, "task2", tmp_path / "x.npy")
    assert bad.exit_code == 2 and "component file" in bad.stderr and bad.stdout == ""
    assert invoke("predict", system, "task1", tmp_path / "x.npy").exit_code == 0


@pytest.mark.parametrize("command", ["inspect", "evaluate", "verify"])
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_no_system_there(invoke: Invoke, tmp_path: Path, command: str, as_json: tuple[str, ...]) -> None:
    for folder, said in ((tmp_path / "none", "does not exist"), (tmp_path, "no manifest.json")):
        result = invoke(command, folder, *as_json)
        assert result.exit_code == 2 and said in result.stderr and result.stdout == ""


def test_a_run_of_several_systems_is_not_guessed_from(finished: tuple[Path, Any], invoke: Invoke) -> None:
    result = invoke("verify", finished[0])
    assert result.exit_code == 2 and str(Path("sequential", "seed-1000", "system")) in result.stderr


@pytest.mark.parametrize("command", ["inspect", "evaluate", "verify"])
def test_a_newer_or_damaged_manifest(system: Path, invoke: Invoke, command: str) -> None:
    manifest = manifest_of(system)
    (system / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    newer = invoke(command, system)
    assert newer.exit_code == 2 and "format version 99" in newer.stderr and "Upgrade polypath" in newer.stderr
    (system / "manifest.json").write_text(json.dumps(manifest)[:-50])
    cut = invoke(command, system)
    assert cut.exit_code == 2 and "manifest.json" in cut.stderr
