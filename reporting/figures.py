"""The figures of a run, drawn without a display and without matplotlib's global state.

Each function takes plain values and returns a :class:`matplotlib.figure.Figure`;
:func:`to_svg` and :func:`to_png` render one. Colours are Okabe and Ito's (stages) and one blue
from clear to full (quantities), which colour-blind readers and grey printers can tell apart;
stages also differ in marker and label, so nothing rests on colour alone. Nothing has a background,
and in a page the ink follows the page's colours, so that figures suit light and dark pages.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, ParamSpec
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from reporting.run_record import Measurement

# Okabe and Ito, "Color universal design" (2008).
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
COLOURS = {"federated": BLUE, "distillation": VERMILLION, "competition": GREEN}

WIDTH = 9.0  # inches: text of 9 pt then reads well on a page of 900 px and in a two-column print
_TILE = 1.1  # inches that a generated image may take
NUMBERS_UP_TO = 12  # columns that leave room for a number in each cell

_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)

INK, SOFT, FAINT, PAPER = "#222222", "#555555", "#d9d9d9", "#ffffff"
# White that stays white on a dark page: numbers on full blue.
_WHITE = "#fffffe"
# A page's own colours (see reporting.page), each with what it is where there is no page.
_OF_PAGE = {
    INK: "--ink",
    SOFT: "--soft",
    FAINT: "--line",
    PAPER: "--sheet",
    BLUE.lower(): "--blue",
    VERMILLION.lower(): "--vermillion",
    GREEN.lower(): "--green",
    ORANGE.lower(): "--orange",
}
_COLOUR = re.compile("|".join(_OF_PAGE))
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
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: searchable, and readable to screen readers
    "svg.hashsalt": "fedf2dg",  # the same run gives the same file
}
# The settings of matplotlib are global to the process; one figure at a time may change them.
_SETTINGS = threading.RLock()

P = ParamSpec("P")


@contextmanager
def _styled() -> Iterator[None]:
    """Apply the style of all figures for a while."""
    with _SETTINGS, matplotlib.rc_context(_STYLE):
        yield


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a drawing function use the style of all figures."""

    @wraps(draw)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _styled():
            return draw(*args, **kwargs)

    return drawing


@in_style
def accuracy_curve(measurements: Sequence[Measurement], chance: float | None = None) -> Figure:
    """Draw the accuracy of the global model over the whole run, its stages side by side.

    Parameters
    ----------
    measurements : Sequence[Measurement]
        Sorted by stage, at least one. Each stage has an axis of its own: rounds, epochs of
        distillation, competition rounds.
    chance : float, optional
        Accuracy of guessing, in [0, 1], drawn as a line.

    Returns
    -------
    Figure
        One plot with a band per stage.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not measurements:
        raise ValueError("no measurements to draw")
    stages = {
        stage: [m for m in measurements if m.stage == stage]
        for stage in COLOURS
        if any(m.stage == stage for m in measurements)
    }
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.add_subplot()
    lowest = min([m.accuracy for m in measurements] + ([chance] if chance else [])) * 100
    bottom = float(np.clip(10 * math.floor((lowest - 4) / 10), 0, 80))
    edge = 0.0
    previous: tuple[float, float] | None = None
    ticks: list[tuple[float, str]] = []
    for stage, points in stages.items():
        last = max(point.position for point in points)
        first = min(1.0, points[0].position)
        start = first - 0.6 if stage == "federated" else 0.0
        width = {"federated": 1.0, "distillation": 0.55}.get(stage, min(0.3 + 0.06 * last, 0.9))
        scale = width / max(last - start, 1e-9)
        colour, label = COLOURS[stage], _band_label(stage, last)

        x = [edge + (point.position - start) * scale for point in points]
        y = [point.accuracy * 100 for point in points]
        axes.axvspan(edge, edge + width, color=colour, alpha=0.055, linewidth=0)
        if edge:
            axes.axvline(edge, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        if previous:
            axes.plot(
                [previous[0], x[0]], [previous[1], y[0]], color=colour, linewidth=1.0, alpha=0.5
            )
        axes.plot(x, y, color=colour, linewidth=1.6, zorder=3)
        _markers(axes, points, x, y)
        middle = edge + width / 2
        across = axes.get_xaxis_transform()
        axes.text(
            middle,
            1.02,
            f"{label[0]}\n{y[-1]:.1f} %",
            transform=across,
            ha="center",
            va="bottom",
            color=colour,
            fontweight="bold",
            linespacing=1.4,
        )
        axes.text(middle, -0.1, label[1], transform=across, ha="center", va="top")
        many = max(2, round(width * 14))
        # A competition round is the stretch from one whole number to the next, named in its middle.
        shift = 0.5 if stage == "competition" else 0.0
        ticks += [
            (edge + (tick - shift - start) * scale, f"{tick}")
            for tick in _round_numbers(math.ceil(first), math.ceil(last), many)
            # Next to the last tick of the stage before there is no room for a first one.
            if not previous or tick - shift - start > 0.04 / scale
        ]
        previous = (x[-1], y[-1])
        edge += width
    axes.set_xlim(0, edge)
    if chance is not None:
        axes.axhline(100 * chance, color=SOFT, linewidth=1.0, linestyle=(0, (1, 2)))
        axes.annotate(
            f"chance {100 * chance:.1f} %",
            (0, 100 * chance),
            (4, 3),
            textcoords="offset points",
            ha="left",
            va="bottom",
            color=SOFT,
            fontsize=8.5,
        )
    # A little above, or a mark at 100 % would be cut in half.
    top = 101.0 if max(m.accuracy for m in measurements) <= 1 else None
    axes.set_ylim(bottom, top)
    axes.margins(y=0.05)
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
    axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks])
    axes.set_ylabel("accuracy")
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    handles = [_handle(measurements, kind) for kind in ("federated", "distillation", "retrained")]
    shown = [handle for handle in handles if handle is not None]
    if len(shown) > 1:
        axes.legend(
            handles=shown,
            loc=_free_corner(axes),
            frameon=True,
            framealpha=0.9,
            edgecolor=FAINT,
            fontsize=8.5,
        )
    return figure


@in_style
def label_counts(
    counts: ArrayLike,
    class_names: Sequence[str] = (),
    *,
    row_name: str = "client",
    client_names: Sequence[str] = (),
) -> Figure:
    """Draw how many images of each class each client holds.

    Parameters
    ----------
    counts : array (clients, classes)
        Number of images.
    class_names : Sequence[str] (default: the numbers of the classes)
        Names of all classes.
    row_name : str (default: "client")
        What a row is.
    client_names : Sequence[str] (default: the numbers of the clients)
        Names of all rows.

    Returns
    -------
    Figure
        A heat map, with numbers in the cells where they fit; cells without images are empty.
    """
    table = np.asarray(counts, dtype=float)
    rows, columns = table.shape
    in_cells = columns <= NUMBERS_UP_TO and rows <= 40
    row_height = 0.27 if in_cells else max(0.055, 0.25 - 0.003 * rows)
    figure = Figure(
        figsize=(WIDTH, float(np.clip(row_height * rows + 1.0, 2.0, 9.5))), layout="constrained"
    )
    axes = figure.add_subplot()
    norm = PowerNorm(0.5, vmin=0.0, vmax=max(1.0, float(table.max())))
    colours = _shades()
    axes.imshow(
        np.ma.masked_equal(table, 0.0), cmap=colours, norm=norm, aspect="auto", interpolation="none"
    )
    _cell_borders(axes, rows, columns)
    if in_cells:
        _numbers(axes, table, colours(norm(table)))
    _class_ticks(axes, columns, class_names)
    axes.set_xlabel("class")
    axes.set_ylabel(row_name)
    ticks = _spread(rows, 40 if in_cells else 20)
    axes.set_yticks(ticks, [_name(client_names, tick, 14) for tick in ticks])
    if rows <= 40:
        sums = axes.secondary_yaxis("right")
        sums.set_yticks(range(rows), [f"{int(total):,}" for total in table.sum(axis=1)])
        sums.tick_params(length=0)
        sums.spines["right"].set_visible(False)
        axes.text(1.008, 1.0, "all", transform=axes.transAxes, ha="left", va="bottom")
    bar = figure.colorbar(
        ScalarMappable(norm, colours), ax=axes, label="images of a class", pad=0.02, aspect=30
    )
    bar.outline.set_visible(False)
    return figure


@in_style
def confusion_matrices(
    matrices: Mapping[str, ArrayLike], class_names: Sequence[str] = ()
) -> Figure:
    """Draw confusion matrices side by side on one colour scale.

    Parameters
    ----------
    matrices : Mapping[str, array (classes, classes)]
        Title and counts of each, row = true class, column = predicted class; one to three.
    class_names : Sequence[str] (default: the numbers of the classes)
        Names of all classes.

    Returns
    -------
    Figure
        Colours show each row's shares (of the images of a class); counts stand in the cells
        where they fit.

    Raises
    ------
    ValueError
        If there is no matrix.
    """
    if not matrices:
        raise ValueError("no confusion matrix to draw")
    wide = WIDTH / max(2, len(matrices))
    slanted = 0.05 * min(max(map(len, class_names), default=0), 20)  # long names need height
    figure = Figure(
        figsize=(wide * len(matrices) + 0.5 * (len(matrices) == 1), wide * 0.98 + 0.35 + slanted),
        layout="constrained",
    )
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    norm = Normalize(0.0, 1.0)
    colours = _shades()
    for place, (axes, (title, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        table = np.asarray(matrix, dtype=float)
        sums = table.sum(axis=1, keepdims=True)
        shares = np.divide(table, sums, out=np.zeros_like(table), where=sums > 0)
        axes.imshow(np.ma.masked_equal(shares, 0.0), cmap=colours, norm=norm, interpolation="none")
        _cell_borders(axes, *table.shape)
        if len(table) <= NUMBERS_UP_TO:
            _numbers(axes, table, colours(norm(shares)), 7.5 if len(matrices) > 2 else 8.5)
        _class_ticks(axes, len(table), class_names, room=90 // max(2, len(matrices)))
        ticks = _spread(len(table), 20)
        names = [_name(class_names, tick) for tick in ticks] if place == 0 else [""] * len(ticks)
        axes.set_yticks(ticks, names)
        axes.set_title(title)
        axes.set_xlabel("predicted class")
        if place == 0:
            axes.set_ylabel("true class")
    bar = figure.colorbar(
        ScalarMappable(norm, colours),
        ax=list(panels),
        label="share of the true class",
        format=PercentFormatter(xmax=1, symbol=" %"),
        aspect=30,
        shrink=0.8,
        pad=0.02,
    )
    bar.outline.set_visible(False)
    return figure


@in_style
def pseudo_image_grid(
    tiles: NDArray[np.floating[Any]],
    clients: Sequence[int],
    classes: Sequence[int],
    class_names: Sequence[str] = (),
    client_names: Sequence[str] = (),
) -> Figure:
    """Draw one image per client and class.

    Parameters
    ----------
    tiles : float array (clients, classes, height, width, 3)
        RGB in [0, 1]; NaN where there is no image.
    clients, classes : Sequence[int]
        Which rows and columns these are.
    class_names, client_names : Sequence[str] (default: their numbers)
        Names of all classes and clients.

    Returns
    -------
    Figure
        Images at their own resolution, with empty frames where there is none.
    """
    rows, columns, height, width = tiles.shape[:4]
    gap = max(1, round(0.08 * max(height, width)))
    # Clear between the images, so that they suit any page.
    page = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap, 4), np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = gap + row * (height + gap), gap + column * (width + gap)
            place = page[top : top + height, left : left + width]
            missing = np.isnan(tiles[row, column])
            place[..., :3] = np.where(missing, 0.5, tiles[row, column])
            place[..., 3] = np.where(missing.any(axis=-1), 0.12, 1.0)
    across = min(_TILE * columns, WIDTH - 0.6)
    tall = across * page.shape[0] / page.shape[1] + 0.6
    across += 0.6
    figure = Figure(figsize=(across, tall), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(page, interpolation="none")
    axes.spines[:].set_visible(False)
    middle_x = [gap + width / 2 - 0.5 + place * (width + gap) for place in range(columns)]
    middle_y = [gap + height / 2 - 0.5 + place * (height + gap) for place in range(rows)]
    names = [_name(class_names, label) for label in classes]
    axes.set_xticks(middle_x, names)
    axes.set_yticks(middle_y, [_name(client_names, client) for client in clients])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    if max(len(name) for name in names) > 5:
        for mark in axes.get_xticklabels():
            mark.set(rotation=45, ha="left", va="baseline", rotation_mode="anchor")
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("class")
    axes.set_ylabel("client")
    return figure


@in_style
def bytes_per_round(rounds: Sequence[str], down: Sequence[float], up: Sequence[float]) -> Figure:
    """Draw what the server sent and received in each round, all clients together.

    Parameters
    ----------
    rounds : Sequence[str]
        Names of the rounds.
    down, up : Sequence[float]
        Bytes from the server to the clients, and back.
    """
    size, unit = byte_unit(max([1.0, *down, *up]))
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rounds))
    sent, received = np.asarray(down) / size, np.asarray(up) / size
    if len(rounds) <= 30:
        axes.bar(places - 0.2, sent, 0.38, color=BLUE, label="server to clients")
        axes.bar(
            places + 0.2,
            received,
            0.38,
            color=ORANGE,
            label="clients to server",
            hatch="///",
            edgecolor=PAPER,
            linewidth=0,
        )
    else:
        axes.step(places, sent, color=BLUE, where="mid", label="server to clients")
        axes.step(
            places,
            received,
            color=VERMILLION,
            where="mid",
            linestyle=(0, (4, 2)),
            label="clients to server",
        )
        axes.set_ylim(0, 1.1 * max(1e-9, sent.max(), received.max()))
    ticks = _spread(len(rounds), 20)
    axes.set_xticks(ticks, [rounds[tick] for tick in ticks])
    axes.set_xlabel("round")
    axes.set_ylabel(f"{unit} per round")
    axes.set_xlim(-0.7, max(len(rounds), 4) - 0.3)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2)
    return figure


def byte_unit(value: float) -> tuple[float, str]:
    """Return the decimal unit in which a number of bytes reads well: its size and its name."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if value >= 1000**power:
            return 1000.0**power, unit
    return 1.0, "bytes"


def to_png(figure: Figure, *, dots_per_inch: float = 200.0) -> bytes:
    """Render a figure as the content of a PNG file, on white."""
    content = io.BytesIO()
    with _styled():
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
        Whether its colours are those of :mod:`reporting.page`; else it is a file of its own, on
        white.

    Returns
    -------
    str
        The element; text in it is text, in whatever sans-serif font the page sets.
    """
    content = io.BytesIO()
    with _styled():
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
    return f"var({_OF_PAGE[colour[0]]}, {colour[0]})"


def _band_label(stage: str, last: float) -> tuple[str, str]:
    """Return the title above and the unit below a stage's band."""
    if stage == "federated":
        return "Federated", "round"
    if stage == "distillation":
        return "Distillation", "epoch"
    return "Competition", "competition round"


def _markers(axes: Axes, points: Sequence[Measurement], x: list[float], y: list[float]) -> None:
    """Mark rounds and, unless there are too many of them, epochs."""
    size = 5.5 if len(points) <= 25 else 3.5 if len(points) <= 60 else 0.0
    colour = COLOURS[points[0].stage]
    shape = "o" if points[0].stage == "federated" else "^"
    plain = [i for i, point in enumerate(points) if not point.retrained]
    squares = [i for i, point in enumerate(points) if point.retrained]
    if size and len(plain):
        axes.plot(
            [x[i] for i in plain],
            [y[i] for i in plain],
            shape,
            color=colour,
            markersize=size if shape == "o" else size * 0.8,
            zorder=4,
            clip_on=False,
        )
    axes.plot(
        [x[i] for i in squares],
        [y[i] for i in squares],
        "s",
        color="white",
        markeredgecolor=colour,
        markeredgewidth=1.5,
        markersize=5.5,
        zorder=4,
    )


def _free_corner(axes: Axes) -> Literal["best", "lower right"]:
    """Return "lower right", where a rising curve leaves room, unless this one does not rise."""
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    drawn = [
        np.asarray(line.get_xydata(), dtype=float)
        for line in axes.get_lines()
        if line.get_transform() == axes.transData
    ]
    x, y = np.concatenate(drawn).T
    crossed = np.any((x > 0.6 * right) & (y < low + 0.3 * (high - low)))
    return "best" if crossed else "lower right"


def _handle(measurements: Sequence[Measurement], kind: str) -> Line2D | None:
    """Return the legend's entry for a kind of measurement, or None if it does not occur."""
    if kind == "federated" and any(m.stage == "federated" for m in measurements):
        return Line2D([], [], marker="o", color=BLUE, markersize=5.5, label="federated round")
    if kind == "distillation" and any(
        m.stage != "federated" and not m.retrained for m in measurements
    ):
        return Line2D([], [], marker="^", color=INK, markersize=5, label="distillation epoch")
    if kind == "retrained" and any(m.retrained for m in measurements):
        return Line2D(
            [],
            [],
            marker="s",
            color="white",
            markeredgecolor=GREEN,
            linewidth=0,
            markeredgewidth=1.5,
            label="federated round of the competition",
        )
    return None


def _round_numbers(first: int, last: int, most: int) -> list[int]:
    """Return at most about ``most`` whole numbers with first and last among them."""
    if last <= first:
        return [last]
    steps = (k * 10**power for power in range(9) for k in (1, 2, 5))
    step = next(s for s in steps if (last - first) / s <= most)
    inner = [n for n in range(0, last + 1, step) if first + 0.6 * step <= n <= last - 0.6 * step]
    return [first, *inner, last] if last - first >= 0.6 * step else [last]


def _spread(count: int, most: int) -> list[int]:
    """Return the places 0 … count-1, or evenly spread ones if there are more than ``most``."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if count / s <= most)
    return list(range(0, count, step))


def _name(class_names: Sequence[str], label: int, most: int = 14) -> str:
    """Return the name of a class, cut to ``most`` letters, or its number."""
    name = class_names[label] if 0 <= label < len(class_names) else str(label)
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    name = name if len(name) <= most else name[: most - 1] + "…"
    return name.replace("$", r"\$")  # matplotlib reads $…$ as mathematics


def _class_ticks(
    axes: Axes, count: int, class_names: Sequence[str], letters: int = 14, room: int = 90
) -> None:
    """Name the classes below a picture that is ``room`` letters wide: all of them, else some."""
    names = [_name(class_names, label, letters) for label in range(count)]
    widest = max(len(name) for name in names)
    places = _spread(count, 20)
    slanted = count * (widest + 1) > room
    if slanted and all(name.isdigit() for name in names):
        slanted, places = False, _spread(count, max(2, room // (widest + 2)))
    axes.set_xticks(places, [names[place] for place in places])
    if slanted:
        for mark in axes.get_xticklabels():
            mark.set(rotation=45, ha="right", rotation_mode="anchor")


def _shades() -> Colormap:
    """Return blue from almost clear to full: more is more on light and on dark pages."""
    shades = np.tile(to_rgba("#1768ac"), (256, 1))
    shades[:, 3] = np.linspace(0.12, 1.0, 256)
    return ListedColormap(shades, name="shades").with_extremes(bad=(0, 0, 0, 0))


def _cell_borders(axes: Axes, rows: int, columns: int) -> None:
    """Separate the cells of a small picture by white lines, and drop the frame."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if rows <= 40 and columns <= 40:
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=PAPER, linewidth=0.8)
        axes.tick_params(which="minor", length=0)
    else:
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)


def _numbers(
    axes: Axes, table: NDArray[np.floating[Any]], rgba: NDArray[Any], size: float = 8.5
) -> None:
    """Write each number that is not zero into its cell, white where the cell's colour is full."""
    for (row, column), value in np.ndenumerate(table):
        if value:
            text = f"{int(value)}" if value < 10_000 else f"{value / 1000:.0f}k"
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=size,
                color=_WHITE if rgba[row, column, 3] > 0.75 else INK,
            )
