"""Another name for a task, everywhere that a system names it; what it is made of stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polypath.core.errors import InvalidInput
from polypath.core.examples import Suite
from polypath.core.task import composed

if TYPE_CHECKING:
    from polypath.system import System

DESCRIPTIONS = ("backbone", "root", "hyperparameters", "score")
"""Settings that are mappings, but not of tasks: a task may be called like one of their keys."""


def rename(system: System, old: str, new: str) -> None:
    """See `System.rename`."""
    network = system.network
    task = network.task_named(old)
    if old == new:
        raise InvalidInput(f"task {old!r} is called so already")
    if new != composed(new):
        raise InvalidInput(f"task name {new!r}: accents composed with their letters (Unicode NFC) are required")
    network.require_free(new)
    task.of({**task.model_dump(), "name": new}, "task")  # a name that no task can have is refused here
    plan = type(network).plan_renamed(network.plan(), old, new)
    # What the network was told of the same settings follows too: another task of the old name has none of it.
    if isinstance(shape := plan.get("config"), Mapping):
        same = {key: _setting(key, value, old, new) for key, value in shape.items() if key in system.config}
        plan = {**plan, "config": {**shape, **same}}
    fresh = type(network).described(plan).eval()
    fresh.build(network.built())
    state = {key: tensor for key, tensor in network.state_dict(keep_vars=True).items() if not tensor.is_meta}
    fresh.receive(state)  # the tensors themselves: not a byte is copied
    system.network = fresh
    system._fused.clear()
    system.entries = _rekeyed(system.entries, old, new)
    system._probed = _rekeyed(system._probed, old, new)
    system._bury([new])  # a removed task's traces keep to themselves when its name is taken
    system.sources = {name: _rekeyed(held, old, new) for name, held in system.sources.items()}
    system.config = {key: _setting(key, value, old, new) for key, value in system.config.items()}
    system.suite_config = _described(system.suite_config, old, new)
    if system.data is not None:
        items = [replace(d, task=d.task.renamed(new)) if d.name == old else d for d in system.data]
        system.data = Suite(system.data.name, tuple(items), system.data.seed, system.suite_config)
    system.note("renamed", (old, new))


def _rekeyed(values: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if key == old else key: value for key, value in values.items()}


def _setting(key: str, value: Any, old: str, new: str) -> Any:
    """A setting of the method; those that are given task by task (paths, weights, groups) follow the task."""
    if key == "groups":
        return [[new if name == old else name for name in group] for group in value]
    if key == "slots":
        return {pattern: _rekeyed(owners, old, new) for pattern, owners in value.items()}
    return _rekeyed(value, old, new) if isinstance(value, Mapping) and key not in DESCRIPTIONS else value


def _described(config: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """The description of the suite. Only a user's own says what its tasks are called; others count them."""
    if config.get("kind") == "own":
        tasks = [{**task, "name": new} if task.get("name") == old else task for task in config.get("tasks", ())]
        return {**config, "tasks": tasks}
    return {**config, "renamed": _followed(config.get("renamed", {}), old, new)} if config else {}


def _followed(renamed: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    first = next((name for name, now in renamed.items() if now == old), old)
    return {**renamed, first: new}
