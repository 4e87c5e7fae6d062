"""What a manifest names is kept up from save to save, whatever comes, changes, goes or is named twice."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from polypath.core.changes import continues, differing
from polypath.store import ComponentEntry, ProbeEntry, TaskEntry
from polypath.store.references import References


def sha(number: int) -> str:
    return f"{number:064x}"


def manifest(components: dict[str, ComponentEntry], tasks: dict[str, TaskEntry]) -> Any:
    return SimpleNamespace(components=dict(components), tasks=dict(tasks))


def named(made: Any) -> Counter[str]:
    parts, probes = made.components.values(), [task.probe for task in made.tasks.values() if task.probe]
    found = [part.sha256 for part in parts] + [part.auxiliary for part in parts if part.auxiliary]
    return Counter(found + [probe.learned for probe in probes] + [probe.saved for probe in probes])


@pytest.mark.parametrize("seed", range(20))
def test_references_follow_a_random_life(seed: int) -> None:
    rng = random.Random(seed)
    components: dict[str, ComponentEntry] = {}
    tasks: dict[str, TaskEntry] = {}
    held, before = References(), manifest({}, {})

    def address() -> str:
        return sha(rng.randrange(12))  # few, so that several entries name the same

    for number in range(60):
        for _ in range(rng.randrange(4)):
            traces = address() if rng.random() < 0.5 else None
            entry = ComponentEntry(sha256=address(), kind="own", size_bytes=1, auxiliary=traces)
            components[rng.choice([*components, f"c{number}"])] = entry
            probe = ProbeEntry(seed=0, count=1, learned=address(), saved=address(), machine="m")
            tasks[rng.choice([*tasks, f"t{number}"])] = TaskEntry(probe=probe if rng.random() < 0.8 else None)
        for kept in (components, tasks):
            if kept and rng.random() < 0.4:
                del kept[rng.choice(list(kept))]
        after = manifest(components, tasks)
        turn = held.turned(after)
        assert sorted(turn.new) == sorted(named(after).keys() - named(before).keys())
        assert turn.loose == named(before).keys() - named(after).keys()
        if rng.random() < 0.8:  # else the write failed
            held.take(turn)
            before = after
            assert set(held.addresses) == set(named(after)) and held._counts == named(after)
    held.forget()
    assert not held and set(held.turned(before).new) == set(named(before))


def test_what_differs_is_found_with_and_without_a_common_beginning() -> None:
    one, two, three, other = object(), object(), object(), object()
    old = {"a": one, "b": two}
    assert continues({**old, "c": three}, old=old) and differing({**old, "c": three}, old=old) == ["c"]
    assert differing({"a": other, "b": two, "c": three}, old=old) == ["a", "c"]
    assert not continues({"b": two}, old=old) and differing({"b": two}, old=old) == []
    assert differing({"b": other, "a": one, "c": None}, old=old) == ["b", "c"]
    assert differing({}, old=old) == [] and differing(old, old={}) == ["a", "b"]
