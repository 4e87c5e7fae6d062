"""What was found in the user's data, shown before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polypath.cli.show import listing

if TYPE_CHECKING:
    from polypath.core.examples import Suite, TaskData

MOST_LABELS = 6  # classes that are counted one by one in the table


def data_table(suite: Suite) -> Any:
    """Inputs, target and splits of every task, with what was left out."""
    found = [about(data) for data in suite]
    rows = []
    for one in found:
        sizes = one["examples"]
        left = [f"{one[key]} {said[one[key] > 1]}" for key, said in LEFT_OUT.items() if one.get(key)]
        rows.append(
            (
                one["name"],
                one["inputs"],
                one["target"],
                *(f"{sizes[split]:,}" if split in sizes else "–" for split in ("train", "val", "test")),
                ", ".join([*left, *one.get("noted", [])]) or "–",
                one["private_to"] or "everybody",
            )
        )
    header = ("task", "inputs", "answers", "train", "validation", "test", "left out or noted", "who may ask")
    return listing(f"Data of {suite.name}", header, rows, notes(found))


LEFT_OUT = {  # what is said of one, and of several
    "missing_labels": ("without a label", "without a label"),
    "unreadable_images": ("unreadable image", "unreadable images"),
    "duplicates_train_test": ("test example also in train", "test examples also in train"),
}


def about(data: TaskData) -> dict[str, Any]:
    """What was found for one task, in plain values."""
    facts = data.facts
    return {
        "name": data.name,
        "dataset": facts.get("dataset"),
        "inputs": _inputs(data),
        "target": _target(data),
        "examples": dict(facts.get("examples", {})),
        "classes": _counts(data),
        "private_to": data.task.private_to,
        **{key: facts[key] for key in (*LEFT_OUT, "unreadable_names", "input_columns", "noted") if key in facts},
    }


def notes(found: list[dict[str, Any]]) -> list[str]:
    """Sentences below the table: files that were left out, tasks without a test."""
    said: list[str] = []
    told: set[tuple[str, ...]] = set()
    for one in found:
        names = tuple(one.get("unreadable_names", ()))
        if names and names not in told:
            told.add(names)
            more = one["unreadable_images"] - len(names)
            said.append(f"Unreadable, left out: {', '.join(names)}" + (f" and {more} more." if more else "."))
    without = [one["name"] for one in found if "test" not in one["examples"]]
    if without:
        said.append(f"Without a test split, so that nothing can be measured: {', '.join(without)}.")
    return said


def _inputs(data: TaskData) -> str:
    spec, preprocess = data.task.inputs, data.task.preprocess
    if spec.kind == "image":
        return f"images {spec.channels} x {spec.height} x {spec.width}"
    if preprocess.kind == "text":
        return f"texts: {len(preprocess.vocabulary):,} words, the first {preprocess.length} of each"
    assert preprocess.kind == "table"
    names = list(preprocess.columns)
    shown = ", ".join(names[:4]) + (f", ... ({len(names)} columns)" if len(names) > 4 else "")
    kinds = preprocess.categories
    return shown + (f"; {len(kinds)} of them categories, {preprocess.width} numbers in all" if kinds else "")


def _target(data: TaskData) -> str:
    target = data.task.target
    if target.kind == "regression":
        values = data.train.targets.double().reshape(len(data.train), -1)
        low, high = values.min(0).values.tolist(), values.max(0).values.tolist()
        return "number " + ", ".join(f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True))
    if target.kind == "multilabel":
        return f"any of {len(target.labels)} labels: {_listed(_counts(data))}"
    return f"{len(target.labels)} classes: {_listed(_counts(data))}"


def _counts(data: TaskData) -> dict[str, int]:
    """Training examples of every label."""
    target, targets = data.task.target, data.train.targets
    if target.kind == "regression":
        return {}
    if target.kind == "multilabel":
        counts = (targets.reshape(len(targets), -1) > 0).sum(0).tolist()
    else:
        counts = targets.bincount(minlength=len(target.labels)).tolist()
    return dict(zip(target.labels, counts, strict=True))


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{label} ({count:,})" for label, count in list(counts.items())[:MOST_LABELS]]
    return ", ".join(shown) + (", ..." if len(counts) > MOST_LABELS else "")
