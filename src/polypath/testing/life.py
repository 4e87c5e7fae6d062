"""Laws of a system's life: a name is only a name, and what is removed is in no file any more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from polypath.core import accounting
from polypath.core.component import digest
from polypath.core.network import Network
from polypath.system import load
from polypath.testing.exam import Candidate, Scratch, require, require_equal_digests

NEW = "called otherwise"


def law_renamed_keeps_every_bit(candidate: Candidate) -> None:
    """Under another name a task has the same components and answers; the old name is nowhere in plan or sources."""
    law = "renamed keeps every bit"
    before = candidate.learned
    old, other = before.tasks
    with Scratch() as folder:
        candidate.twin().save(folder)
        for system in (candidate.twin(), load(folder)):  # all in memory, and nothing yet
            system.rename(old, NEW)
            require(list(system.tasks) == [NEW, other], law, f"the tasks are {list(system.tasks)}")
            told = json.dumps([system.network.plan(), system.sources, list(system.entries)])
            require(json.dumps(old) not in told, law, f"{old!r} is still named in the plan, the sources or the entries")
            system.load_all()
            require_equal_digests(law, candidate.network.digests(), system.network.digests(), "renamed")
            inputs = candidate.inputs(old)
            with torch.no_grad():
                same = torch.equal(system.network.eval()(inputs, NEW), candidate.network(inputs, old))
            require(same, law, "answers are not bit-identical")
        system.save(folder)
        again = load(folder)
        require(again.network.plan() == system.network.plan(), law, "the saved plan is another")
        proof = again.verify()
        require(proof.ok, law, f"verify says {proof.summary()}")
        require(list(json.loads((folder / "manifest.json").read_text())["tasks"]) == [NEW, other], law, "not saved")


def law_removed_is_in_no_file(candidate: Candidate) -> None:
    """After a removal no file of the folder, snapshots included, holds a tensor or an address of what only it had."""
    law = "removed is in no file"
    system = candidate.twin()
    depends = accounting.dependencies(system.network.reaches(), system.network.components())
    task = next(name for name, others in depends.items() if not others)
    with Scratch() as folder:
        system.save(folder)
        system.rename(task, NEW)
        system.save(folder)  # the snapshot knows it by another name
        require(len(system.snapshots()) == 1, law, f"{len(system.snapshots())} snapshots were kept, not 1")
        entry, held = system.entries[NEW], _held(system.network, system.network.reach(NEW).components)
        addresses = {sha for sha in (entry.probe.learned, entry.probe.saved)} if entry.probe else set()
        answers = [value for sha in addresses for value in (system.probe_answer(sha),)]
        removal = system.remove(NEW)
        gone = {*removal.freed, *removal.reset}
        kept = _held(system.network, system.network.components())
        left = {raw for _, raws in kept.values() for raw in raws}
        mine = {raw for name in gone for raw in held[name][1]} | set(_raw(answers))
        addresses |= {sha for name in gone for sha in held[name][0]}
        addresses -= {sha for shas, _ in kept.values() for sha in shas}  # equal contents are stored once
        require(bool(mine - left), law, "the task has nothing of its own, so nothing can be looked for")
        system.save(folder)
        found = [str(path.relative_to(folder)) for path in _files(folder) if _holds(path, mine - left, addresses)]
        require(not found, law, f"values or addresses of {task!r} are still in {found[:5]}")
        require(not system.snapshots(), law, "a snapshot that held it is still there")
        proof = load(folder).verify()
        require(proof.ok, law, f"verify says {proof.summary()}")


def _held(network: Network, names: Iterable[str]) -> dict[str, tuple[set[str], set[bytes]]]:
    """Component -> addresses and telling contents of its tensors and of what only learning needs."""
    parts, state = network.components(), network.state_dict(keep_vars=True)
    out = {}
    for name in names:
        values = {local: state[key] for local, key in parts[name].tensors.items()}
        extra = {local: state[key] for local, key in parts[name].auxiliary.items()}
        shas = {digest(values), *([digest(extra)] if extra else [])}
        out[name] = (shas, set(_raw([*values.values(), *extra.values()])))
    return out


def _raw(tensors: Iterable[torch.Tensor]) -> Iterator[bytes]:
    """Bytes of tensors that no other tensor holds by chance: at least eight, of more than four kinds."""
    for tensor in tensors:
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        if len(raw) >= 8 and len(set(raw)) > 4:
            yield raw


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _holds(path: Path, wanted: set[bytes], addresses: set[str]) -> bool:
    text = path.read_bytes()
    named = any(sha.encode() in text or sha in path.name for sha in addresses)
    return named or any(raw in text for raw in wanted)
