"""What all figures have in common: colours, text, and how they become files and parts of pages.

Colours are Okabe and Ito's (stages) and one blue from clear to full (quantities), which
colour-blind readers and grey printers can tell apart; stages also differ in marker and label.
Nothing has a background, and in a page the ink follows the page's colours, light or dark.
"""

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito, "Color universal design" (2008).
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
COLOURS = {"federated": BLUE, "distillation": VERMILLION, "competition": GREEN}

WIDTH = 9.0  # inches: text of 9 pt then reads well on a page of 900 px and in a two-column print

INK, SOFT, FAINT, PAPER = "#222222", "#555555", "#d9d9d9", "#ffffff"
# White that stays white on a dark page: numbers on full blue.
WHITE = "#fffffe"
# A page's own colours (see fedf2dg.report.templates), each with what it is where there is no page.
OF_PAGE = {
    INK: "--ink",
    SOFT: "--soft",
    FAINT: "--line",
    PAPER: "--sheet",
    BLUE.lower(): "--blue",
    VERMILLION.lower(): "--vermillion",
    GREEN.lower(): "--green",
    ORANGE.lower(): "--orange",
}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.labelsize": 9.0,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.6,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: searchable, and readable to screen readers
    "svg.hashsalt": "fedf2dg",  # the same run gives the same file
}
_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)
_COLOUR = re.compile("|".join(OF_PAGE))
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
# The settings of matplotlib are global to the process; one figure at a time may change them.
_SETTINGS = threading.RLock()

P = ParamSpec("P")


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style of all figures for a while."""
    with _SETTINGS, matplotlib.rc_context(_STYLE):
        yield


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a drawing function use the style of all figures."""

    @wraps(draw)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with styled():
            return draw(*args, **kwargs)

    return drawing


def plain(name: str, most: int) -> str:
    """Return a name in at most so many letters that is no mathematics to matplotlib."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    name = name if len(name) <= most else name[: most - 1] + "…"
    return name.replace("$", r"\$")


def to_png(figure: Figure) -> bytes:
    """Render a figure as the content of a PNG file, on white."""
    content = io.BytesIO()
    with styled():
        plain_file: Any = {"facecolor": "white", "metadata": {"Software": None}}
        FigureCanvasAgg(figure).print_figure(content, dpi=200.0, **plain_file)
    return content.getvalue()


def to_svg(figure: Figure, identifier: str, description: str, *, in_page: bool = True) -> str:
    """Render a figure as an ``<svg>`` element that can stand in a page with others.

    The ``identifier`` stands before every id in it; the ``description`` is what a screen reader
    says. Its text is text, in the page's font, and its colours are those of the page's style; where
    it is not ``in_page`` it is a file of its own, on white.
    """
    content = io.BytesIO()
    with styled():
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_figure(content, format="svg", metadata=nothing)
    root = ElementTree.fromstring(content.getvalue())
    svg, link = f"{{{_SVG}}}", "{http://www.w3.org/1999/xlink}href"
    for parent in root.iter():
        for child in list(parent):
            # A <style> inside a page would style the whole page; metadata names foreign addresses.
            if child.tag in (f"{svg}style", f"{svg}metadata"):
                parent.remove(child)
    # Numbers in the order of the elements: matplotlib's own names are made of coordinates, whose
    # last digits differ from one drawing of the same figure to the next.
    numbers: dict[str, str] = {}
    used: set[str] = set()

    def named(own: str) -> str:
        return numbers.setdefault(own, f"{identifier}-{len(numbers)}")

    for element in root.iter():
        style = element.get("style")
        if in_page and style is not None:
            element.set("style", _COLOUR.sub(lambda c: f"var({OF_PAGE[c[0]]}, {c[0]})", style))
        own = element.attrib.pop("id", None)
        # Equal images share an id made of their content; the first may keep it.
        if own is not None and own not in used:
            element.set("id", named(own))
            used.add(own)
        for name, value in element.items():
            if "url(#" in value:
                element.set(name, _REFERENCE.sub(lambda found: f"url(#{named(found[1])})", value))
        reference = element.attrib.pop(link, None)
        if reference is not None:
            inside = reference.startswith("#")
            element.set("href", f"#{named(reference[1:])}" if inside else reference)
    # The size in points is only a preference: the page decides, the view box keeps the shape.
    width = float(str(root.get("width")).removesuffix("pt"))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    ground = "" if in_page else "; background: white"
    root.set("style", f"--width: {width / 72 / WIDTH:.4f}; stroke-linejoin: round{ground}")
    root.set("role", "img")
    root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode")
