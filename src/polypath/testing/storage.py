"""Laws of a system on disk: what is loaded is what was saved, files never change, tasks can go and come back."""

from __future__ import annotations

from pathlib import Path

import torch

from polypath.core import accounting
from polypath.core.component import digest
from polypath.core.errors import InvalidInput
from polypath.store import Store
from polypath.system import System, load
from polypath.testing.exam import (
    Candidate,
    Files,
    Scratch,
    component_files,
    history_of,
    require,
    require_equal_digests,
)


def law_save_and_load(candidate: Candidate) -> None:
    """A loaded system has the plan, digests, history, metrics and answers of the saved one, and verifies."""
    law = "save and load"
    system = candidate.twin()
    with Scratch() as folder:
        system.save(folder / "system")
        again = load(folder / "system")
        require(again.network.plan() == system.network.plan(), law, "plans differ")
        require(history_of(again) == history_of(system), law, "histories differ")
        require(again.entries == system.entries, law, "what is known about the tasks differs")
        require(again.sources == _named(system), law, "sources differ")
        require(again.evaluate(candidate.first) == system.evaluate(candidate.first), law, "metrics differ")
        for task in system.tasks:
            raw = candidate.suite[task].train.inputs()
            found, expected = again.predict(task, raw), system.predict(task, raw)
            require(found.labels == expected.labels, law, f"labels of {task!r} differ")
            _same_bits(law, task, found.probabilities, expected.probabilities)
            _same_bits(law, task, found.values, expected.values)
        again.load_all()
        require_equal_digests(law, system.network.digests(), again.network.digests(), "loaded")
        proof = again.verify()
        drifts = (
            candidate.method.isolation == "drifts"
        )  # then later stages moved earlier tasks before the save, rightly
        wrong = {
            name: task.replay
            for name, task in proof.tasks.items()
            if task.replay != "identical" or (task.drift and not drifts)
        }
        require(proof.ok and not wrong, law, f"verify says {proof.summary()} {wrong}")


def _named(system: System) -> dict[str, dict[str, str | None]]:
    return {name: dict(system.sources.get(name, {})) for name in system.network.components()}


def _same_bits(law: str, task: str, found: torch.Tensor | None, expected: torch.Tensor | None) -> None:
    same = found is None if expected is None else found is not None and torch.equal(found, expected)
    require(same, law, f"answers of {task!r} are not bit-identical")


def law_loaded_continues_identically(candidate: Candidate) -> None:
    """Adding a task gives the same plan, history and digests with and without saving and loading in between."""
    law = "loaded continues identically"
    again, straight = candidate.reloaded.system, candidate.grown
    again.load_all()
    require(again.network.plan() == straight.network.plan(), law, "plans differ")
    require(history_of(again) == history_of(straight), law, "histories differ")
    require_equal_digests(law, straight.network.digests(), again.network.digests(), "with a task added")


def law_store_never_overwrites(candidate: Candidate) -> None:
    """Component files are named by their contents and never written again, whatever happens to the system.

    Adding a task to a saved system and removing one change no file before the save, and after it every file that is
    still there is the same file with the same bytes; files that nothing names are gone.
    """
    law = "store never overwrites"
    grown = candidate.reloaded
    require(grown.after == grown.before, law, "learning changed files before anything was saved")
    grown.system.save(grown.folder)
    _compare_files(law, grown.before, component_files(grown.folder), "adding a task")
    with Scratch() as folder:
        candidate.twin().save(folder)
        system = load(folder)
        before = component_files(folder)
        system.remove(_leaving(law, system))
        require(component_files(folder) == before, law, "removing a task changed files before anything was saved")
        system.save(folder)
        after = component_files(folder)
        _compare_files(law, before, after, "removing a task")
        store = Store.existing(folder)
        manifest = store.manifest()
        wrong = store.damaged(manifest)
        require(not wrong, law, f"contents and names differ: {list(wrong.values())[:3]}")
        stray = {Path(name).stem for name in after} - manifest.blobs()
        require(not stray, law, f"files that nothing names were left: {sorted(stray)[:5]}")


def _compare_files(law: str, before: Files, after: Files, what: str) -> None:
    changed = [Path(name).stem[:12] for name in before.keys() & after.keys() if before[name] != after[name]]
    require(not changed, law, f"{what} wrote {len(changed)} component file(s) again: {changed[:5]}")


def _leaving(law: str, system: System) -> str:
    """The first task that nobody builds on.

    Before that every task that others build on is asked to go: that must be refused, name them, and change nothing.
    """
    network = system.network
    depends = accounting.dependencies(network.paths(), network.components())
    here = [n for n, held in network.tensors(network.components()).items() if not any(t.is_meta for t in held.values())]
    known, digests = list(system.tasks), network.digests(here)
    for task, others in depends.items():
        if not others:
            continue
        try:
            system.remove(task)
        except InvalidInput as error:
            missing = [name for name in others if repr(name) not in str(error)]
            require(not missing, law, f"the refusal to remove {task!r} does not name {missing}: {error}")
        else:
            require(False, law, f"{task!r} was removed although {list(others)} build on it")
        require(list(system.tasks) == known, law, f"after the refusal the system knows {list(system.tasks)}")
    require_equal_digests(law, digests, system.network.digests(here), "after the refusals")
    found = [task for task in known if not depends[task]]
    require(bool(found), law, f"every task is built on by another, so none can be removed: {depends}")
    return found[0]


def law_removed_is_gone(candidate: Candidate) -> None:
    """Removing a task frees or resets what only it used, reports what its data left behind, and touches nobody else.

    A task that others build on cannot be removed alone: that is refused with their names. Asked to cascade, it takes
    them along.
    """
    law = "removed is gone"
    system, before = candidate.twin(), candidate.network
    _cascades(law, candidate)
    task = _leaving(law, system)
    other = next(name for name in before.tasks if name != task)
    alone = set(before.reach(task).components) - {
        name for rest in before.tasks if rest != task for name in before.reach(rest).components
    }
    removal = system.remove(task)
    parts = system.network.components()
    require(removal.removed == (task,), law, f"asked to remove {task!r}, removed {removal.removed}")
    require(task not in system.tasks, law, f"{task!r} is still there")
    require({*removal.freed, *removal.reset} == alone, law, _difference(alone, {*removal.freed, *removal.reset}))
    require(not parts.keys() & set(removal.freed), law, "freed components are still there")
    for name in removal.reset:
        now, then = digest(system.network.tensors([name])[name]), digest(before.tensors([name])[name])
        require(now != then or _never_moved(candidate, name), law, f"{name!r} was reported as reset but is as it was")
    shaped = {n for n in before.reach(task).components if n in parts and n not in removal.reset}
    forgotten = {name for name in shaped if not _never_moved(candidate, name)} - set(removal.residue)
    if candidate.method.isolation == "joint" or next(iter(before.tasks)) == task:
        require(not forgotten, law, f"residue does not name {sorted(forgotten)[:5]}, which {task!r} helped to shape")
    kept = before.path(other).components
    require_equal_digests(law, before.digests(kept), system.network.digests(kept), f"path of {other!r}")
    inputs = candidate.inputs(other)
    with torch.no_grad():
        same = torch.equal(system.network.eval()(inputs, other), before(inputs, other))
    require(same, law, f"outputs of {other!r} changed")


def _cascades(law: str, candidate: Candidate) -> None:
    paths, parts = candidate.network.paths(), candidate.network.components()
    for task, others in accounting.dependencies(paths, parts).items():
        if others:
            system = candidate.twin()
            gone = set(system.remove(task, cascade=True).removed)
            require(gone >= {task, *others}, law, f"{task!r} was removed with {sorted(gone)}, {list(others)} needed it")
            require(not gone & system.tasks.keys(), law, "tasks that were removed in a cascade are still there")
            left = set(system.network.components()) - {n for p in system.network.paths().values() for n in p.components}
            own = [name for name in left if parts[name].kind == "own"]
            require(not own, law, f"components of removed tasks are still there: {sorted(own)[:5]}")


def _difference(expected: set[str], found: set[str]) -> str:
    return (
        f"not freed or reset though only the task used it: {sorted(expected - found)[:5]}; "
        f"freed or reset though others use it: {sorted(found - expected)[:5]}"
    )


def _never_moved(candidate: Candidate, name: str) -> bool:
    """Whether a component is as it was when its task was added, before anything was learned."""
    return name in candidate.unlearned and candidate.unlearned[name] == candidate.network.digests([name])[name]


def law_removed_can_return(candidate: Candidate) -> None:
    """Remove, save, load, learn the task again: it answers, the others are as the isolation says, and all verifies.

    The task is the first that nobody builds on.
    """
    law = "removed can return"
    system = candidate.twin()
    task = _leaving(law, system)
    (other,) = (name for name in system.tasks if name != task)
    system.remove(task)
    with Scratch() as folder:
        system.save(folder)
        again = load(folder)
        require(list(again.tasks) == [other], law, f"after the load the system knows {list(again.tasks)}")
        names = again.network.path(other).components
        again.load_all()
        before = again.network.digests(names)
        known = [candidate.suite[other]] if candidate.method.isolation == "joint" else []
        again.learn(
            [*known, candidate.suite[task]], method=type(candidate.method), progress=False, **candidate.settings
        )
        require(list(again.tasks) == [other, task], law, f"then it knows {list(again.tasks)}")
        again.load_all()
        if candidate.method.isolation == "exact":
            require_equal_digests(law, before, again.network.digests(names), f"path of {other!r}")
        again.save(folder)
        final = load(folder)
        answers = final.predict(task, candidate.suite[task].train.inputs())
        require(len(answers) == len(candidate.suite[task].train), law, f"{task!r} does not answer")
        proof = final.verify()
        require(proof.ok, law, f"verify says {proof.summary()}")
