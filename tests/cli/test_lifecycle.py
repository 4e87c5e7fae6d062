"""`add`, `update`, `rename`, `remove`, `history`, `diff`, `rollback`, `prune`: what they print, refuse and leave."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

import polypath as pp
from polypath.store import writing

Invoke = Callable[..., Any]
RSN2 = (
    "--set",
    "method.backbone.kind=mlp",
    "--set",
    "method.backbone.hidden=[8]",
    "--set",
    "method.share=0.2",
    "--set",
    "method.epochs=1",
)


def table(path: Path, seed: int, labels: tuple[str, str] = ("no", "yes")) -> None:
    stream = random.Random(seed)
    lines = ["a,b,y"]
    for _ in range(40):
        a, b = stream.gauss(0, 1), stream.gauss(0, 1)
        lines.append(f"{a:.4f},{b:.4f},{labels[a + seed * b > 0]}")
    path.write_text("\n".join(lines) + "\n")


def tasks(path: Path, *names: str) -> Path:
    entries = "".join(f"  - {{name: {name}, dataset: 'csv:{name}.csv', target: y}}\n" for name in names)
    path.write_text(f"tasks:\n{entries}")
    return path


@pytest.fixture(scope="module")
def made(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tables, and the run of a system that knows `one` and `two`."""
    root = tmp_path_factory.mktemp("own")
    for seed, name in enumerate(("one", "two", "three", "four")):
        table(root / f"{name}.csv", seed)
        tasks(root / f"{name}.yaml", name)
    both = tasks(root / "tasks.yaml", "one", "two")
    words = ("--method", "rsn2", "--set", "method.patience=0", "--set", "threads=1", "--set", "precision=32-true")
    done = invoke("train", both, "--out", root / "run", *words, *RSN2)
    assert done.exit_code == 0, done.stderr
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "own"))


def test_a_system_lives(root: Path, invoke: Invoke, fixed: tuple[str, ...]) -> None:
    run = root / "run"
    told = invoke("add", run, root / "three.yaml", root / "four.yaml", *fixed)
    assert told.exit_code == 0, told.stderr
    assert "one" in told.stdout and "bit-identical" in told.stdout and "Added three, four to" in told.stdout
    assert "certificates/000001-added.json" in told.stdout and "polypath rollback" in told.stderr
    scores = json.loads(invoke("evaluate", run, "--json").stdout)
    assert set(scores) == {"one", "two", "three", "four"}
    data, tested = told.stdout.index("Data of"), told.stdout.index("Test metrics")
    assert data < tested < told.stdout.index("bit-identical")
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.stdout[tested:].splitlines()]
    for name in ("three", "four"):
        assert [name, "accuracy", f"{scores[name]['accuracy']:.4f}"] in shown
        assert f"│ {name} " in told.stdout[data:tested]

    found = json.loads(invoke("history", run, "--json").stdout)
    assert [event["tasks"] for event in found["history"]][:2] == [["one", "two"], ["three", "four"]][: len(found)]
    (snapshot,) = found["snapshots"]
    assert snapshot["tasks"] == ["one", "two"] and snapshot["id"] in invoke("history", run).stdout
    diff = json.loads(invoke("diff", run, "--json").stdout)
    assert diff["added"] == ["three", "four"] and diff["before"] == snapshot["id"] and diff["new_bytes"] > 0
    assert "tasks added" in invoke("diff", run, snapshot["id"][:6], "current").stdout
    assert "are the same" in invoke("diff", run, "current", "current").stdout

    done = json.loads(invoke("rename", run, "one", "uno", "--json").stdout)
    assert done["identical"] and done["tasks"] == ["uno", "two", "three", "four"]
    table(root / "two.csv", 7, ("no", "perhaps"))
    update = invoke("update", run, root / "two.yaml", "--json", *fixed)
    assert update.exit_code == 0, update.stderr
    found = json.loads(update.stdout)
    assert found["metrics"] == {"two": json.loads(invoke("evaluate", run, "--json").stdout)["two"]}
    assert found["identical"] and Path(found["certificate"]).exists()
    assert pp.load(run / "system").tasks["two"].target.labels == ("no", "perhaps")

    removed = invoke("remove", run, "three")
    assert removed.exit_code == 0 and "Residue: none" in removed.stdout and "held it and is gone" in removed.stdout
    report = json.loads((run / "system" / "certificates" / "000004-removed.json").read_text())
    assert report["removed"] == ["three"] and report["proof"]["others"].keys() == {"uno", "two", "four"}
    back = invoke("rollback", run, snapshot["id"])
    assert back.exit_code == 0 and "one, two" in back.stdout
    pruned = json.loads(invoke("prune", run, "--keep", 0, "--json").stdout)
    assert len(pruned["deleted"]) == 2 and "000004-removed.json" not in pruned["certificates"]
    assert list(pp.load(run / "system").tasks) == ["one", "two"] and pp.load(run / "system").verify().ok


def test_the_history_is_that_of_a_person_who_was_there(root: Path, invoke: Invoke, fixed: tuple[str, ...]) -> None:
    run = root / "run"

    def rows(command: str = "history") -> list[list[str]]:
        shown = invoke(command, run).stdout.partition("History")[2].partition("Snapshots")[0]
        return [[cell.strip() for cell in line.split("│")[2:-1]] for line in shown.splitlines() if line[:1] == "│"]

    learned = ["learned", "exact", "one, two"]
    assert rows() == [learned]
    for words in (("add", run, root / "three.yaml", *fixed), ("update", run, root / "two.yaml", *fixed)):
        assert invoke(*words).exit_code == 0
    assert "three renamed to newone (rsn2)" in invoke("rename", run, "three", "newone").stdout
    changed = [["added", "exact", "three"], ["updated", "exact", "two"], ["renamed", "–", "three → newone"]]
    assert rows() == [learned, *changed]
    first, *_ = json.loads(invoke("history", run, "--json").stdout)["snapshots"]
    assert invoke("rollback", run, first["id"]).exit_code == 0
    undone = [[f"{what} (undone)", *more] for what, *more in changed]
    back = [f"rolled back to {first['id']}", "–", "one, two"]
    assert rows() == rows("inspect") == [learned, *undone, back]
    snapshots = invoke("history", run).stdout.partition("Snapshots")[2]
    said = [line.split("│")[2].strip() for line in snapshots.splitlines() if line[:1] == "│"]
    assert said == ["learned", "added", "updated", "renamed"]
    found = json.loads(invoke("history", run, "--json").stdout)["history"]
    assert [event["what"] for event in found if not event["undone"]] == ["learned", "rolled back"]
    assert [event["what"] for event in found if event["undone"]] == ["learned", "updated", "learned", "renamed"]
    assert json.loads(invoke("inspect", run, "--full", "--json").stdout)["history"] == found


def test_what_cannot_be_is_said_and_changes_nothing(root: Path, invoke: Invoke, fixed: tuple[str, ...]) -> None:
    run = root / "run"
    kept = tiny.contents(run)
    entry = "{name: three, dataset: 'csv:three.csv', target: y, private_to: lab}"
    (root / "lab.yaml").write_text(f"tasks:\n  - {entry}\n")
    (root / "bad.yaml").write_text("tasks:\n  - {name: x, dataset: 'csv:nowhere.csv', target: y}\n")
    for words, says in (
        (("add", run, root / "one.yaml"), "known already: ['one']; to learn again: polypath update"),
        (("add", run, root / "bad.yaml"), "bad.yaml: line 2: task 'x': "),
        (("add", run, root / "three.yaml", "--set", "method.epoch=3"), "Did you mean 'epochs'"),
        (("add", run, root / "three.yaml", "--set", "suite.seed=3"), "method.KEY"),
        (("add", run, root / "lab.yaml", "--group", "office"), "task 'three' is private to 'lab'"),
        (("update", run, root / "one.yaml", "--further"), "rsn2 cannot go on with a task it has learned"),
        (("add", root / "nothing", root / "three.yaml"), "no system"),
        (("update", run, root / "three.yaml"), "not in the system"),
        (("rename", run, "on", "x"), "Did you mean 'one'"),
        (("rename", run, "one", "two"), "already"),
        (("rename", run, "one", "a/b"), "slash"),
        (("remove", run, "thre"), "unknown task"),
        (("rollback", run, "abc"), "unknown snapshot"),
        (("diff", run), "no snapshot"),
    ):
        result = invoke(*words, *(fixed if words[0] in ("add", "update") else ()))
        assert result.exit_code == 2 and says in result.stderr, (words, result.stderr)
        assert tiny.contents(run) == kept
    with writing(run / "system"):
        result = invoke("add", run, root / "three.yaml", *fixed)
        assert result.exit_code == 2 and "is being written by process" in result.stderr and "since 20" in result.stderr
    assert tiny.contents(run) == kept


def test_ctrl_c_in_the_middle_of_an_add_leaves_the_system(
    root: Path, invoke: Invoke, fixed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from polypath.train.engine import Engine

    run = root / "run"
    kept = tiny.contents(run)
    step = Engine.step

    def stopped(self: Engine, *words: Any, **named: Any) -> Any:
        import signal

        signal.raise_signal(signal.SIGINT)
        return step(self, *words, **named)

    monkeypatch.setattr(Engine, "step", stopped)
    result = invoke("add", run, root / "three.yaml", *fixed)
    assert result.exit_code == 130 and "is what it was before the command" in result.stderr
    monkeypatch.undo()
    assert tiny.contents(run) == kept


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "three.yaml"), "is what it was before the command"),
        (("rename", "two", "zwei"), "is what it was before the command"),
        (("remove", "two"), "was changed; `polypath history"),
    ],
)
def test_ctrl_c_while_a_change_is_saved_says_what_became_of_the_system(
    root: Path,
    invoke: Invoke,
    fixed: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    says: str,
) -> None:
    from polypath.store import Store

    run = root / "run"
    before, write = tiny.contents(run), Store.write

    def stopped(self: Store, *given: Any, **named: Any) -> int:
        import signal

        done = write(self, *given, **named)
        signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(Store, "write", stopped)
    more = (str(root / words[1]), *fixed) if words[0] == "add" else words[1:]
    result = invoke(words[0], run, *more)
    monkeypatch.undo()
    assert result.exit_code == 130 and says in result.stderr, result.stderr
    if words[0] == "remove":  # there is no way back
        assert "two" not in pp.load(run / "system").tasks and list(run.rglob("*-removed.json"))
    else:
        assert tiny.contents(run) == before


def test_a_method_of_ones_own_lies_in_the_current_folder(
    root: Path, invoke: Invoke, fixed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in ("", str(root))])  # as of a script
    code = "from polypath.methods.single import Single\n\nclass Mine(Single):\n    name = 'mine'\n"
    (root / "mymethod.py").write_text(code)
    (root / "yaml.py").write_text("raise RuntimeError('in place of the package')")
    mine = ("--method", "mymethod:Mine", "--set", "method.epochs=1", *fixed)
    mlp = ("--set", 'method.backbone={"kind": "mlp", "hidden": [4]}')
    try:
        done = invoke("train", root / "tasks.yaml", "--out", root / "mine", *mine, *mlp)
        assert done.exit_code == 0, done.stderr
        refused = invoke("add", root / "mine", root / "three.yaml", *fixed)
        assert refused.exit_code == 2 and "name it again: --method package.module:MyMethod" in refused.stderr
        assert invoke("add", root / "mine", root / "three.yaml", *mine).exit_code == 0
    finally:
        sys.modules.pop("mymethod", None)
