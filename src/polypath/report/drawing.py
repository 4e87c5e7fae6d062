"""matplotlib figures as inline SVG that follow the page: its font, its light and dark colours, no ids twice."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that stand for a variable of the page's stylesheet; nothing else draws in these nearly black shades.
INK, MUTED, LINE, PAPER, GREEN = ("#010101", "#010102", "#010103", "#010104", "#010105")
SERIES = tuple(f"#0102{place:02x}" for place in range(1, 9))
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PAPER: "var(--paper)",
    GREEN: "var(--shared)",
    **{colour: f"var(--s{place})" for place, colour in enumerate(SERIES)},
}
SHARE = (-0.025, 1.025)  # limits of an axis from 0 to 1: marks and lines at its ends are drawn whole
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # 7 shapes, 8 colours: 56 series before a look repeats

SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "polypath",  # ids otherwise differ from run to run
    "svg.fonttype": "none",  # text stays text: selectable, and set in the page's font
    "text.parse_math": False,  # a task may be called "cost in $"
    "axes.unicode_minus": True,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside this block: our settings, whatever the user's matplotlibrc says, put back afterwards."""
    import matplotlib

    values: Any = {key: v for key, v in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    values.update(SETTINGS)
    with matplotlib.rc_context(values), warnings.catch_warnings():
        # A name in a script that matplotlib's own font lacks is still drawn: the browser chooses the font.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def canvas(width: float, height: float, margins: tuple[float, float, float, float] | None = None) -> Figure:
    """An empty figure without pyplot and its global state.

    Args:
        width: inches; one inch is 72 units of the SVG.
        height: inches.
        margins: left, right, bottom, top in inches around the axes; None computes them from the labels, which
            takes about as long as drawing does.
    """
    from matplotlib.figure import Figure

    if margins is None:
        return Figure(figsize=(width, height), dpi=72, layout="constrained")
    figure = Figure(figsize=(width, height), dpi=72)
    left, right, bottom, top = margins
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure


def inline(figure: Figure, name: str, title: str) -> str:
    """The figure as one `<svg>` element for use inside an HTML page.

    Args:
        figure: what was drawn, inside `drawing()`.
        name: prefix of every id in it, unique on the page (letters, digits, hyphens).
        title: the text alternative; a screen reader reads it in place of the picture.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    # Not savefig: it draws everything twice where a layout is computed.
    backend: Any = FigureCanvasSVG(figure)
    backend.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None  # matplotlib always writes one
    # <metadata> and <style> speak of the world and of every element of the page: neither belongs inside a page.
    body = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->|<defs>\s*<style\b.*?</defs>", "", body, flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', body))
    body = re.sub(r"<[^>]*>", lambda tag: _page_tag(tag[0], name, used), body)
    body = re.sub(r">\s+<", "><", body)
    units = box[0].split()[2]
    opening = f'<svg class="plot" style="--w:{units}" role="img" aria-labelledby="{name}-title" {box[0]}>'
    return f'{opening}<title id="{name}-title">{html.escape(title)}</title>{body}'


def _page_tag(tag: str, name: str, used: set[str]) -> str:
    """One tag of matplotlib's SVG for the page: own ids, the page's colours and font, two decimals."""
    if tag.startswith("<image"):
        return re.sub(r'\s+id="[^"]*"', "", tag.replace("\n", "").replace("xlink:href", "href"))
    tag = re.sub(r'\s+id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", tag)
    tag = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{name}-\1"', tag)
    tag = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r"\s+", " ", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", tag)
    for colour, variable in VARIABLES.items():
        tag = tag.replace(colour, variable)
    return tag


def short(name: str, length: int = 26) -> str:
    """A name cut to `length` characters for use beside an axis; the tables carry it in full."""
    return name if len(name) <= length else name[: length - 1] + "…"
