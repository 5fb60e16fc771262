"""Figures as files and as parts of pages."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from fedf2dg.report.figures.style import OF_PAGE, WIDTH, styled

_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)
_COLOUR = re.compile("|".join(OF_PAGE))


def to_png(figure: Figure, *, dots_per_inch: float = 200.0) -> bytes:
    """Render a figure as the content of a PNG file, on white."""
    content = io.BytesIO()
    with styled():
        FigureCanvasAgg(figure).print_figure(
            content,
            format="png",
            dpi=dots_per_inch,
            facecolor="white",
            metadata={"Software": None},
        )
    return content.getvalue()


def to_svg(figure: Figure, identifier: str, description: str, *, in_page: bool = True) -> str:
    """Render a figure as an ``<svg>`` element that can stand in a page with others.

    Parameters
    ----------
    figure : Figure
        What to render.
    identifier : str
        Put before every id in it, so that two figures of a page share none.
    description : str
        What a screen reader says.
    in_page : bool (default: True)
        Whether its colours are those of :mod:`fedf2dg.report.page`; else it is a file of its own,
        on white.

    Returns
    -------
    str
        The element; text in it is text, in whatever sans-serif font the page sets.
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
    used: set[str] = set()
    for element in root.iter():
        style = element.get("style")
        if in_page and style is not None:
            element.set("style", _COLOUR.sub(_of_page, style))
        own = element.attrib.pop("id", None)
        # Equal images share an id made of their content; the first may keep it.
        if own is not None and own not in used:
            element.set("id", f"{identifier}-{own}")
            used.add(own)
        for name, value in element.items():
            if "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{identifier}-"))
        reference = element.get(link)
        if reference is not None:
            del element.attrib[link]
            inside = reference.startswith("#")
            element.set("href", f"#{identifier}-{reference[1:]}" if inside else reference)
    # The size in points is only a preference: the page decides, the view box keeps the shape.
    width = float(str(root.get("width")).removesuffix("pt"))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    ground = "" if in_page else "; background: white"
    root.set("style", f"--width: {width / 72 / WIDTH:.4f}; stroke-linejoin: round{ground}")
    root.set("role", "img")
    root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode")


def _of_page(colour: re.Match[str]) -> str:
    return f"var({OF_PAGE[colour[0]]}, {colour[0]})"
