"""The path picture: every task a coloured lane through the components it uses, drawn by hand as SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from polypath.core.result import PathPicture

# Ten hues that stay apart on white and on black; more tasks go round the colour circle by the golden angle.
COLOURS = (
    "#3b82f6", "#f97316", "#10b981", "#e0457b", "#8b5cf6", "#b08900", "#06a6c4", "#ef4444", "#65a30d", "#c026d3",
)  # fmt: skip
GAP, CELL, MARGIN, HEAD = 108.0, 40.0, 22.0, 32.0

STYLE = """
.paths text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink,#1f2430)}
.paths .head{fill:var(--muted,#667085);font-size:11px}
.paths .cell{fill:var(--cell,#eef1f6);stroke:var(--line,#d5dae3);stroke-width:1}
.paths .lane{fill:none;stroke-width:1.4;stroke-opacity:.42;stroke-linecap:round}
.paths .t,.paths .t>*{transition:opacity .15s,stroke-opacity .15s}
.paths g.t{cursor:pointer}
.paths.focus rect.t:not(.on),.paths.focus g.t:not(.on)>:not(text){opacity:.18}
.paths.focus g.t:not(.on)>text{opacity:.6}
.paths.focus .lane.on{stroke-opacity:1;stroke-width:2.4}
"""
STANDALONE = """
svg{--back:#fff;--ink:#1f2430;--muted:#667085;--cell:#eef1f6;--line:#d5dae3}
@media (prefers-color-scheme:dark){svg{--back:#12161e;--ink:#e6e9f0;--muted:#98a2b3;--cell:#232a36;--line:#3a4354}}
"""


def task_colour(place: int) -> str:
    """Colour of the task at this place, the same in the picture, its legend and the buttons."""
    if place < len(COLOURS):
        return COLOURS[place]
    return f"hsl({place * 137.508 % 360:.1f} 62% 50%)"


@dataclass(frozen=True)
class _Layout:
    """Where everything lies: steps are columns, components rows, tasks lanes of constant height."""

    picture: PathPicture
    tasks: tuple[str, ...] = field(init=False)
    left: float = field(init=False)
    pitch: float = field(init=False)
    height: float = field(init=False)
    place: dict[str, tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        tasks = tuple(self.picture.tasks)
        most = max((len(step) for step in self.picture.steps), default=1)
        put = object.__setattr__
        put(self, "tasks", tasks)
        put(self, "left", MARGIN + 7.0 * min(22, max((len(t) for t in tasks), default=4)) + 70)
        put(self, "pitch", max(13.0, min(27.0, 420.0 / max(1, most))))
        put(self, "height", max(most * self.pitch, len(tasks) * 15.0, 80.0))
        steps = enumerate(map(self._drawn, self.picture.steps, count()))
        put(self, "place", {name: (s, row) for s, step in steps for row, name in enumerate(step)})

    def _drawn(self, step: Sequence[str], number: int) -> list[str]:
        """The components of a column: as given, or where no tasks share any in the order of the lanes: none cross."""
        used = [(lane, name) for lane, path in enumerate(self.picture.tasks.values()) for name in path[number]]
        lanes = {name: lane for lane, name in used}
        if len(lanes) < len(used):
            return list(step)
        return sorted(step, key=lambda name: lanes.get(name, len(self.picture.tasks)))

    @property
    def width(self) -> float:
        return self.x(len(self.picture.steps) - 1) + CELL + 62 + MARGIN

    @property
    def cell_height(self) -> float:
        return min(20.0, self.pitch - 4)

    def x(self, step: int) -> float:
        """Left edge of a column."""
        return self.left + step * GAP

    def y(self, name: str) -> float:
        """Middle of a component; columns with fewer components are centred."""
        step, row = self.place[name]
        rows = len(self.picture.steps[step])
        return HEAD + self.height / 2 + (row - (rows - 1) / 2) * self.pitch

    def lane(self, place: int) -> float:
        """Height of a task's lane between the columns, which is also that of its label."""
        return HEAD + self.height * (place + 0.5) / len(self.tasks)


def path_picture_svg(
    picture: PathPicture, *, standalone: bool = False, name: str = "paths", focus: Sequence[str] = ()
) -> str:
    """The path picture as one SVG element.

    Each column is a step of the network, each box a component; a task's lane runs from its name on the left into the
    components it uses and joins again behind them. Boxes carry one stripe for every task that uses them, and a hover
    title with name, size and users.

    Args:
        picture: steps, paths and sizes of a result record.
        standalone: write a file of its own (namespace, both colour schemes); else an element for inside a page that
            defines --ink, --muted, --cell and --line.
        name: prefix of ids, unique on the page.
        focus: tasks that stand out; the others fade. Empty: all alike.
    """
    layout = _Layout(picture)
    width, height = layout.width, HEAD + layout.height + MARGIN
    lines = [_lane(layout, place, focus) for place in range(len(layout.tasks))]
    cells = [_cell(layout, component, focus) for step in picture.steps for component in step]
    heads = [
        f'<text class="head" x="{layout.x(s) + CELL / 2:.1f}" y="18" text-anchor="middle">step {s + 1}</text>'
        for s in range(len(picture.steps))
    ]
    size = f'width="{width:.0f}" height="{height:.0f}" ' if standalone else ""
    space = 'xmlns="http://www.w3.org/2000/svg" ' if standalone else ""
    title = f"Paths of {len(layout.tasks)} tasks through {len(picture.steps)} steps"
    description = (
        "Each lane is a task, each column a step of the network, each box a component; a stripe in a box is a task."
    )
    return "".join(
        (
            f'<svg {space}{size}class="paths{" focus" if focus else ""}" viewBox="0 0 {width:.0f} {height:.0f}" ',
            f'role="img" aria-labelledby="{name}-title {name}-desc">',
            f'<title id="{name}-title">{title}</title><desc id="{name}-desc">{description}</desc>',
            f"<style>{STANDALONE if standalone else ''}{STYLE}</style>",
            # A file of its own may be shown on any page, so it brings its background along.
            '<rect width="100%" height="100%" rx="10" fill="var(--back)"/>' if standalone else "",
            f'<text class="head" x="{MARGIN:.0f}" y="18">task</text>',
            *heads,
            *lines,
            *cells,
            "</svg>",
        )
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _curve(x0: float, y0: float, x1: float, y1: float) -> str:
    half = (x0 + x1) / 2
    points = ((half, y0), (half, y1), (x1, y1))
    return f"M{_number(x0)} {_number(y0)}C" + " ".join(f"{_number(x)} {_number(y)}" for x, y in points)


def _on(task: str, focus: Sequence[str]) -> str:
    return " on" if task in focus else ""


def _lane(layout: _Layout, place: int, focus: Sequence[str]) -> str:
    """Label, lane and end of one task; a step it does not use is passed straight."""
    task = layout.tasks[place]
    steps = layout.picture.tasks[task]
    used = [s for s, names in enumerate(steps) if names]
    y, colour = layout.lane(place), task_colour(place)
    start = layout.left - 62
    x, drawn = start, []
    for step in range(used[-1] + 1 if used else 0):
        entry, leave = layout.x(step), layout.x(step) + CELL
        joint = leave + (GAP - CELL) / 2
        if not steps[step]:
            drawn.append(f"M{_number(x)} {_number(y)}H{_number(joint)}")
        for component in steps[step]:
            row = layout.y(component)
            drawn += [_curve(x, y, entry, row), _curve(leave, row, joint, y)]
        x = joint
    parts = sum(len(names) for names in steps)
    title = html.escape(f"{task}: {parts} components in {len(used)} steps", quote=True)
    label = html.escape(task if len(task) <= 22 else task[:21] + "…")
    return (
        f'<g class="t{_on(task, focus)}" data-task="{place}"><title>{title}</title>'
        f'<text x="{MARGIN:.0f}" y="{_number(y + 4)}">{label}</text>'
        f'<circle cx="{_number(start)}" cy="{_number(y)}" r="4.5" fill="{colour}"/>'
        f'<path class="lane{_on(task, focus)}" stroke="{colour}" d="{"".join(drawn)}"/>'
        f'<circle cx="{_number(x)}" cy="{_number(y)}" r="4.5" fill="{colour}"/></g>'
    )


def _cell(layout: _Layout, component: str, focus: Sequence[str]) -> str:
    """One component: a box with a stripe for every task that uses it, at the task's own place in the box."""
    step, _ = layout.place[component]
    users = [
        place for place, task in enumerate(layout.tasks)
        if step < len(layout.picture.tasks[task]) and component in layout.picture.tasks[task][step]
    ]  # fmt: skip
    x, tall = layout.x(step), layout.cell_height
    y = layout.y(component) - tall / 2
    size = layout.picture.sizes.get(component)
    said = component + (f": {size:,} parameters" if size is not None else "")
    said += ", used by " + ", ".join(layout.tasks[place] for place in users) if users else ", not used"
    slot = (CELL - 6) / max(1, len(layout.tasks))
    stripes = "".join(
        f'<rect class="t{_on(layout.tasks[place], focus)}" data-task="{place}" x="{x + 3 + slot * place:.2f}" '
        f'y="{_number(y + 3)}" width="{max(0.6, slot - min(0.8, slot / 4)):.2f}" height="{_number(tall - 6)}" '
        f'fill="{task_colour(place)}"/>'
        for place in users
    )
    return (
        f'<g class="c" data-component="{html.escape(component, quote=True)}">'
        f'<title>{html.escape(said, quote=True)}</title><rect class="cell" x="{_number(x)}" y="{_number(y)}" '
        f'width="{_number(CELL)}" height="{_number(tall)}" rx="4"/>{stripes}</g>'
    )
