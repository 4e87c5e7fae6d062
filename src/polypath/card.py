"""The model card of a system: front matter for the hub, and what a reader wants to know, from its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polypath.core import accounting
from polypath.core.task import Task

if TYPE_CHECKING:
    from polypath.system import System

MARK = "<!-- made by polypath from the system's manifest; a card without this line is never replaced -->"

PROMISES = {
    "exact": "Learning a task left every earlier one bit-identical; `system.verify()` proves it.",
    "joint": "The tasks were trained together: growing trains the known ones again and needs their data.",
    "drifts": "Learning a task may have changed earlier ones; `system.verify()` measures how far.",
}
EXAMPLES = {
    "image": '["photo.png"]  # files, PIL images or arrays',
    "table": "rows  # an array, a data frame or a list of mappings",
    "text": '["a text"]',
}


def model_card(system: System, name: str, licence: str | None = None) -> str:
    """README.md of a system, Markdown with YAML in front.

    Of a private task the card says that it is there and private: no labels, metrics or facts of its data.

    Args:
        system: what is described.
        name: under which it can be loaded (`owner/name`, or a folder).
        licence: of the model, an SPDX name in lower case as the hub takes it; None says nothing.
    """
    import yaml

    front: dict[str, Any] = {
        "library_name": "polypath",
        "tags": ["polypath", "multi-task-learning", system.method],
        **({"license": licence} if licence else {}),
        "model-index": [{"name": name, "results": _results(system)}],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{MARK}",
        f"# {name}",
        _opening(system),
        f"## Tasks\n\n{_tasks(system)}",
        f"## Data\n\n{_data(system)}",
        f"## How to use it\n\n{_usage(system, name)}",
        f"## How it was learned\n\n{_history(system)}",
    ]
    return "\n\n".join(parts) + "\n"


def is_private(system: System, task: str) -> bool:
    """Whether the card keeps quiet about a task: it, or what shaped it, belongs to an access group."""
    return bool(system.access(task))


def _results(system: System) -> list[dict[str, Any]]:
    found = []
    for name, task in system.tasks.items():
        metrics = _metrics(system, name)
        if metrics:
            kind = "text" if task.inputs.kind == "tokens" else "image" if task.inputs.kind == "image" else "tabular"
            verb = "regression" if task.target.kind == "regression" else "classification"
            found.append(
                {
                    "task": {"type": f"{kind}-{verb}", "name": name},
                    "dataset": {"name": _source(system, name), "type": "polypath"},
                    "metrics": [{"type": metric, "value": round(value, 6)} for metric, value in metrics.items()],
                }
            )
    return found


def _metrics(system: System, task: str) -> dict[str, float]:
    entry = system.entries.get(task)
    return {} if entry is None or is_private(system, task) else dict(entry.metrics)


def _source(system: System, task: str) -> str:
    """Name of the data; paths of the machine it was learned on are shortened to their last part."""
    facts = _facts(system, task)
    named = facts.get("dataset") or system.suite_config.get("dataset") or system.suite_config.get("name") or "own data"
    kind, _, path = str(named).rpartition(":")
    return f"{kind}:{path.rstrip('/').rpartition('/')[2]}" if kind else str(named)


def _facts(system: System, task: str) -> dict[str, Any]:
    entry = system.entries.get(task)
    return {} if entry is None or is_private(system, task) else dict(entry.facts)


def _opening(system: System) -> str:
    sizes = accounting.byte_counts(system.network)
    count = accounting.total_parameters(system.network)
    text = (
        f"One network, {len(system.tasks)} task(s): a polypath system learned with the method `{system.method}`. "
        f"{count:,} parameters in {len(sizes)} components, {sum(sizes.values()):,} bytes; every task is a path "
        "through them."
    )
    promise = PROMISES.get(system.isolation or "")
    return f"{text}\n\n**Isolation: {system.isolation}.** {promise}" if promise else text


def _tasks(system: System) -> str:
    lines = ["| task | input | answers | parameters | test |", "|---|---|---|---|---|"]
    counts = system.network.parameter_counts()
    for name, task in system.tasks.items():
        used = sum(counts[part] for part in system.network.path(name).components)
        if is_private(system, name):
            lines.append(f"| {_cell(name)} | private | private | {used:,} | private |")
            continue
        shown = ", ".join(f"{metric} {value:.4g}" for metric, value in _metrics(system, name).items())
        lines.append(f"| {_cell(name)} | {_input(task)} | {_answers(task)} | {used:,} | {shown or 'not measured'} |")
    return "\n".join(lines) + "\n\nMeasured on test splits that the method could not read."


def _input(task: Task) -> str:
    shape = "x".join(str(side) for side in task.inputs.shape)
    return {"image": f"image {shape}", "features": f"row of {shape} numbers", "tokens": f"text, up to {shape} words"}[
        task.inputs.kind
    ]


def _answers(task: Task) -> str:
    labels = list(getattr(task.target, "labels", ()))
    if not labels:
        return f"{task.target.outputs} number(s)"
    shown = ", ".join(_cell(label) for label in labels[:6]) + (f", ... ({len(labels)})" if len(labels) > 6 else "")
    return f"any of {shown}" if task.target.kind == "multilabel" else shown


def _data(system: System) -> str:
    lines = []
    for name in system.tasks:
        if is_private(system, name):
            lines.append(f"* **{name}**: private.")
            continue
        facts = _facts(system, name)
        said = [f"`{_source(system, name)}`"]
        said += [f"licence: {facts['licence']}"] if facts.get("licence") else ["licence: not recorded"]
        said += [_examples(facts)] if _examples(facts) else []
        said += [str(facts["remark"])] if facts.get("remark") else []
        lines.append(f"* **{name}**: {'; '.join(said)}.")
    gone = [name for name, group in system.tombstones.items() if group is None]
    hidden = len(system.tombstones) - len(gone)
    if system.tombstones:
        names = ", ".join([*gone, *([f"{hidden} private one(s)"] if hidden else [])])
        lines.append(f"\nRemoved since: {names}. Components that others still use may have been shaped by them.")
    return "\n".join(lines)


def _examples(facts: Mapping[str, Any]) -> str:
    held = facts.get("examples")
    if not isinstance(held, Mapping):
        return ""
    return ", ".join(f"{count} {split}" for split, count in held.items()) + " examples"


def _usage(system: System, name: str) -> str:
    public = [task for task in system.tasks if not is_private(system, task)] or list(system.tasks)
    if not public:
        return "Nothing has been learned yet."
    task = system.tasks[public[0]]
    given = EXAMPLES[task.preprocess.kind]
    return (
        "```python\nimport polypath as pp\n\n"
        f'system = pp.System.from_pretrained("{name}")\n'
        f'answer = system.predict("{task.name}", {given.partition("  #")[0]})'
        f"{('  #' + given.partition('  #')[2]) if '  #' in given else ''}\n```\n\n"
        "Inputs are raw: resizing, scaling and label names travel with each task. `system.verify()` hashes every "
        "component and replays recorded answers; `system.export(task, ...)` writes one task as ONNX."
    )


def _history(system: System) -> str:
    lines = []
    for event in system.history:
        hidden = [t for t in event.tasks if _hidden(system, t)]
        names = ", ".join([t for t in event.tasks if t not in hidden]) or "private"
        lines.append(f"* {event.at[:10]}: {event.what} {names}" + (f" ({event.isolation})" if event.isolation else ""))
    return "\n".join(lines) or "Nothing has been learned yet."


def _hidden(system: System, task: str) -> bool:
    return system.tombstones.get(task) is not None


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["MARK", "is_private", "model_card"]
