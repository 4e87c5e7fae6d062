"""An evolved system drawn by hand as SVG: its layers coloured by who trained them last, and a task's family tree."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from polypath.report.paths import task_colour

MOST_TASKS = 60
"""More tasks than this make a picture that nobody can read: the first so many are drawn."""

COLUMN, ROW, RADIUS, HEAD = 74.0, 24.0, 7.0, 34.0
STYLE = """
.evolved text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink,#1f2430)}
.evolved .head{fill:var(--muted,#667085);font-size:11px}
.evolved .edge{fill:none;stroke-width:1.5;stroke-opacity:.55}
.evolved .root{fill:var(--cell,#eef1f6);stroke:var(--muted,#667085);stroke-width:1.2}
.evolved .dropped{fill:none;stroke:var(--muted,#667085);stroke-width:1.2;stroke-opacity:.7}
.evolved .thin{fill:none;stroke:var(--line,#d5dae3);stroke-width:1}
.evolved .chain{fill:none;stroke:var(--ink,#1f2430);stroke-width:2}
"""


def slots_of(models: Sequence[Mapping[str, Any]], components: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Slots in the order in which models pass them; a slot that only some have stands behind its predecessor."""
    order: list[str] = []
    for model in models:
        before = -1
        for name in model["components"]:
            slot = components[name]["slot"]
            if slot not in order:
                order.insert(before + 1, slot)
            before = order.index(slot)
    return order


def system_svg(record: Mapping[str, Any], colours: Mapping[str, str], name: str = "system") -> str | None:
    """The whole system as one graph (mu2Net, figures 1 and 3).

    A column is a layer of the architecture, a circle a component in the colour of the task that trained it last (grey:
    nobody since the root), a line of a task's colour its model; on the right its name and its validation score.

    Args:
        record: `Result.analysis["evolution"]`.
        colours: task -> colour.
        name: prefix of ids, unique on the page.

    Returns:
        One SVG element, or None where no task has a model.
    """
    models, components = record["models"][:MOST_TASKS], record["components"]
    if not models:
        return None
    slots = slots_of(models, components)
    used = {component for model in models for component in model["components"]}
    columns: list[list[str]] = [[c for c in components if c in used and components[c]["slot"] == s] for s in slots]
    tall = max(len(column) for column in columns)
    left, width, height = 20.0, 20.0 + COLUMN * len(slots) + 190, HEAD + ROW * tall + 14
    at = {
        component: (left + COLUMN * (place + 0.5), HEAD + ROW * (tall / 2 + row - (len(column) - 1) / 2))
        for place, column in enumerate(columns)
        for row, component in enumerate(column)
    }
    parts = [
        f'<text class="head" x="{left + COLUMN * (place + 0.5):.0f}" y="{14 if place % 2 == 0 else 27}" '
        f'text-anchor="middle">{html.escape(slot)}</text>'
        for place, slot in enumerate(slots)
    ]
    for model in models:
        colour = colours[model["task"]]
        points = [at[component] for component in model["components"]]
        edges = "".join(_curve(a, b) for a, b in zip(points, points[1:], strict=False))
        parts.append(f'<path class="edge" stroke="{colour}" d="{edges}"><title>{_said(model)}</title></path>')
        x, y = points[-1]
        label = html.escape(f"{model['task'][:20]}  {model['score']:.3f}")
        parts.append(f'<text x="{x + 14:.1f}" y="{y + 4:.1f}">{label}</text>')
    parts += [_component(component, components[component], at[component], colours, models) for component in at]
    title = f"The layers of {len(models)} tasks' models and who trained them last"
    return _svg(name, title, width, height, parts)


def _said(model: Mapping[str, Any]) -> str:
    shares = ", ".join(f"{task} {share:.0%}" for task, share in model["shares"].items())
    text = f"{model['task']}: {len(model['components'])} layers; trained on {shares or 'nothing'}"
    return html.escape(text, quote=True)


def _component(
    name: str,
    facts: Mapping[str, Any],
    at: tuple[float, float],
    colours: Mapping[str, str],
    models: Sequence[Mapping[str, Any]],
) -> str:
    users = [model["task"] for model in models if name in model["components"]]
    last = facts["last"]
    look = 'class="root"' if last is None else f'fill="{colours.get(last, "var(--muted)")}"'
    said = f"{name}: {facts['parameters']:,} parameters, {'the root' if last is None else 'last trained on ' + last}"
    said += ", used by " + ", ".join(users)
    x, y = at
    return (
        f'<circle {look} cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"><title>{html.escape(said, quote=True)}</title></circle>'
    )


def tree_svg(generations: Sequence[Mapping[str, Any]], task: str, colour: str, name: str = "tree") -> str | None:
    """The family tree of a task: every child of its searches, and the ancestors of the models that were kept.

    A column is a generation, with the models that it began from before the first of each active iteration. A full
    circle is a child that reached its parent, a hollow one a child that was dropped; the bold line leads to the best.

    Args:
        generations: `Result.analysis["evolution"]["generations"]`.
        task: whose.
        colour: of its children.
        name: prefix of ids, unique on the page.

    Returns:
        One SVG element, or None where the task was never active.
    """
    mine = [generation for generation in generations if generation["task"] == task]
    if not mine:
        return None
    at: dict[tuple[int, int], tuple[float, float]] = {}  # (activation, number of a model or a child)
    parents: dict[tuple[int, int], int] = {}
    heads, circles, column, deepest = [], [], -1, 0
    for activation in dict.fromkeys(generation["activation"] for generation in mine):
        inside = [generation for generation in mine if generation["activation"] == activation]
        begun = {number: label for generation in inside for number, label in generation["parents"].items()}
        column += 1
        for row, (number, label) in enumerate(begun.items()):
            at[activation, int(number)] = _place(column, row)
            circles.append(_founder(_place(column, row), int(number), label))
        deepest = max(deepest, len(begun))
        for generation in inside:
            column += 1
            heads.append((column, f"{activation + 1}.{generation['generation'] + 1}"))
            deepest = max(deepest, len(generation["children"]))
            for row, child in enumerate(generation["children"]):
                at[activation, child["number"]] = _place(column, row)
                parents[activation, child["number"]] = child["parent"]
                circles.append(_child(_place(column, row), child, colour))
    chain = _chain(mine, parents)
    lines = [
        f'<path class="{"chain" if key in chain else "thin"}" d="{_curve(at[key[0], parent], at[key])}"/>'
        for key, parent in parents.items()
        if (key[0], parent) in at
    ]
    texts = [f'<text class="head" x="{_place(c, 0)[0]:.0f}" y="16" text-anchor="middle">{t}</text>' for c, t in heads]
    width, height = _place(column, 0)[0] + 40, HEAD + ROW * deepest + 6
    return _svg(name, f"Family tree of {html.escape(task)}", width, height, [*texts, *lines, *circles])


def _chain(mine: Sequence[Mapping[str, Any]], parents: Mapping[tuple[int, int], int]) -> set[tuple[int, int]]:
    """The best of every active iteration and its ancestors in it."""
    last = {generation["activation"]: generation["best"] for generation in mine}
    found: set[tuple[int, int]] = set()
    for activation, number in last.items():
        while number is not None and (activation, number) in parents:
            found.add((activation, number))
            number = parents[activation, number]
    return found


def _place(column: int, row: int) -> tuple[float, float]:
    return 40 + COLUMN * column, HEAD + ROW * (row + 0.4)


def _founder(at: tuple[float, float], number: int, label: str) -> str:
    said = html.escape(f"model {number}: {'the root' if label == 'root' else 'of ' + label}", quote=True)
    x, y = at
    return (
        f'<g><title>{said}</title><rect class="root" x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12"/>'
        f'<text class="head" x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle">{html.escape(label[:14])}</text></g>'
    )


def _child(at: tuple[float, float], child: Mapping[str, Any], colour: str) -> str:
    kept = child["score"] is not None
    said = f"child {child['number']} of {child['parent']}: " + (f"score {child['score']:.4f}" if kept else "dropped")
    look = f'fill="{colour}"' if kept else 'class="dropped"'
    title = f"<title>{html.escape(said, quote=True)}</title>"
    return f'<circle {look} cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="5">{title}</circle>'


def _curve(a: tuple[float, float], b: tuple[float, float]) -> str:
    half = (a[0] + b[0]) / 2
    return f"M{a[0]:.1f} {a[1]:.1f}C{half:.1f} {a[1]:.1f} {half:.1f} {b[1]:.1f} {b[0]:.1f} {b[1]:.1f}"


def _svg(name: str, title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="evolved" viewBox="0 0 {width:.0f} {height:.0f}" style="--w:{width:.0f}" role="img" '
        f'aria-labelledby="{name}-title"><title id="{name}-title">{title}</title><style>{STYLE}</style>'
        f"{''.join(parts)}</svg>"
    )


def colours_of(tasks: Sequence[str]) -> dict[str, str]:
    """Task -> colour, as in the path picture."""
    return {task: task_colour(place) for place, task in enumerate(tasks)}
