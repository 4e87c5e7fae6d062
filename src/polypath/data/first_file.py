"""The text of a first tasks.yaml: guesses that are used, and others as comments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polypath.data.discover import Found
from polypath.data.schema import FILE

HEAD = """# yaml-language-server: $schema={schema}
# Tasks for polypath, guessed from what is in this folder: read it, correct it, then
#   polypath train {file} --method {method} --out run --dry-run     what was found, and what it costs
#   polypath train {file} --method {method} --out run               learn
# The first line lets editors complete and check; every setting is described there and in docs/data.md.
name: {name}
seed: 0
"""


def first_file(found: Sequence[Found], name: str, file: str = "tasks.yaml") -> str:
    """YAML with the tasks of the data sets that can share a network; other tasks as comments.

    Args:
        found: what lies in the folder.
        name: of the suite.
        file: how the file will be called.
    """
    used, others = chosen(found)
    method = "hard_sharing"
    text = HEAD.format(schema=FILE, file=file, method=method, name=scalar(name))
    text += "\n".join(_defaults(used)) + "\n\ntasks:\n"
    names: set[str] = set()
    for one in used:
        text += "\n".join(_tasks(one, names)) + "\n"
    if others:
        text += (
            "\n# Tasks with other inputs. Tasks share layers where their inputs have one shape, so these belong in\n"
        )
        text += "# files of their own (or use --method single).\n"
        for one in others:
            lines = _tasks(one, names) if one.tasks else [f"  # {remark}" for remark in one.remarks]
            text += "\n".join(line if line.lstrip().startswith("#") else f"# {line}" for line in lines) + "\n"
    return text


def chosen(found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
    """(data sets that can be learned together, the others): those of the shape with most tasks."""
    counts: dict[str, int] = {}
    for one in found:
        counts[one.shape] = counts.get(one.shape, 0) + len(one.tasks)
    best = max(counts, key=lambda shape: counts[shape])
    used = [one for one in found if one.shape == best and one.tasks]
    return used, [one for one in found if one not in used]


def _defaults(used: Sequence[Found]) -> list[str]:
    """What all tasks have in common; images of several sizes are brought to one."""
    lines = ["defaults:                # settings of every task that does not give its own"]
    settings = [one.settings for one in used if one.settings]
    if used[0].kind == "images":
        sizes = {str(one.get("size")) for one in settings}
        native = settings[0].get("size") if settings and len(sizes) == 1 else None
        channels = {int(one["channels"]) for one in settings if "channels" in one}
        if native is None:
            lines.append("  size: 64               # pixels a side; the images have several sizes")
        else:
            lines.append(f"  # size: 64             # pixels a side; the images have {native[0]} x {native[1]}")
        if len(channels) > 1 or native is None:
            lines.append(f"  channels: {max(channels, default=3)}            # 3: colour, 1: grey")
        if any(one.get("on_error") for one in settings):
            lines.append("  on_error: skip         # images that cannot be read are left out and named; stop: an error")
        lines.append("  # augment: part        # random flips, crops and perspective while training")
    if used[0].kind == "texts":
        lines.append("  length: 128            # words kept of a text")
    if not any("split_column" in task for one in used for task in one.tasks):
        lines.append(
            "  # test: 0.2            # share of the rows for the sealed test; a stored test split is used first"
        )
    # A tenth of what is left for training, four fifths of all, must hold every class.
    small = any(one.rows * 0.8 * 0.1 < one.classes + 1 for one in used)
    lines.append(f"  {'# ' if small else ''}validation: 0.1        # share of the training examples for early stopping")
    return lines


def _tasks(found: Found, names: set[str]) -> list[str]:
    lines = [f"  # {remark}" for remark in found.remarks]
    for task in found.tasks:
        name, number = task["name"], 2
        while name in names:
            name, number = f"{task['name']} {number}", number + 1
        names.add(name)
        for place, (key, value) in enumerate({**task, "name": name}.items()):
            lines.append(f"  {'- ' if place == 0 else '  '}{key}: {scalar(value)}")
        lines.append("    # private_to: GROUP    # only this access group may use the task")
    return lines


def scalar(value: Any) -> str:
    """A plain value as YAML on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
