"""Pictures made of cells: counts by client and class, confusion matrices, generated images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray

from fedf2dg.report.figures.style import FAINT, INK, PAPER, WHITE, WIDTH, in_style, plain
from foundation.wording import named

NUMBERS_UP_TO = 12  # columns that leave room for a number in each cell
_TILE = 1.1  # inches that a generated image may take
_LETTERS = 14
# Blue from almost clear to full: more is more on light and on dark pages.
_SHADES = np.tile(to_rgba("#1768ac"), (256, 1))
_SHADES[:, 3] = np.linspace(0.12, 1.0, 256)
_COLOURS = ListedColormap(_SHADES, name="shades").with_extremes(bad=(0, 0, 0, 0))


@in_style
def label_counts(
    counts: ArrayLike, class_names: Sequence[str] = (), client_names: Sequence[str] = ()
) -> Figure:
    """Draw how many images of each class (columns) each client (rows) holds.

    Numbers stand in the cells where they fit; cells without images are empty. Who has no name has
    its number.
    """
    table = np.asarray(counts, dtype=float)
    rows, columns = table.shape
    in_cells = columns <= NUMBERS_UP_TO and rows <= 40
    row_height = 0.27 if in_cells else max(0.055, 0.25 - 0.003 * rows)
    height = float(np.clip(row_height * rows + 1.0, 2.0, 9.5))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    norm = PowerNorm(0.5, vmin=0.0, vmax=max(1.0, float(table.max())))
    _heat_map(axes, table, table, norm, 8.5 if in_cells else 0.0)
    _class_ticks(axes, columns, class_names)
    axes.set_xlabel("class")
    axes.set_ylabel("client")
    ticks = _spread_out(rows, 40 if in_cells else 20)
    axes.set_yticks(ticks, [_name(client_names, tick) for tick in ticks])
    if rows <= 40:
        sums = axes.secondary_yaxis("right")
        sums.set_yticks(range(rows), [f"{int(total):,}" for total in table.sum(axis=1)])
        sums.tick_params(length=0)
        sums.spines["right"].set_visible(False)
        axes.text(1.008, 1.0, "all", transform=axes.transAxes, ha="left", va="bottom")
    _scale(figure, [axes], norm, "images of a class")
    return figure


@in_style
def confusion_matrices(
    matrices: Mapping[str, ArrayLike], class_names: Sequence[str] = ()
) -> Figure:
    """Draw one to three confusion matrices, by their titles, side by side on one colour scale.

    Rows are true classes. Colours show the shares of the images of a class; counts stand in the
    cells where they fit.
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
    for place, (axes, (title, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        table = np.asarray(matrix, dtype=float)
        sums = table.sum(axis=1, keepdims=True)
        shares = np.divide(table, sums, out=np.zeros_like(table), where=sums > 0)
        size = 7.5 if len(matrices) > 2 else 8.5
        _heat_map(axes, shares, table, norm, size if len(table) <= NUMBERS_UP_TO else 0.0)
        axes.set_aspect("equal")
        _class_ticks(axes, len(table), class_names, room=90 // max(2, len(matrices)))
        ticks = _spread_out(len(table), 20)
        axes.set_yticks(ticks, [_name(class_names, t) if place == 0 else "" for t in ticks])
        axes.set_title(title)
        axes.set_xlabel("predicted class")
    panels[0].set_ylabel("true class")
    percent = PercentFormatter(xmax=1, symbol=" %")
    _scale(figure, panels, norm, "share of the true class", format=percent, shrink=0.8)
    return figure


@in_style
def image_grid(
    tiles: NDArray[np.floating[Any]], rows: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Draw an image per client (row) and class (column), with empty frames where none is.

    ``tiles``, (rows, columns, height, width, 3), hold RGB in [0, 1], NaN where there is no image.
    """
    height, width = tiles.shape[2:4]
    gap = max(1, round(0.08 * max(height, width)))
    # Clear between the images, so that they suit any page.
    shape = (len(rows) * (height + gap) + gap, len(columns) * (width + gap) + gap, 4)
    page = np.zeros(shape, np.float32)
    for row, column in np.ndindex(len(rows), len(columns)):
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        place = page[top : top + height, left : left + width]
        missing = np.isnan(tiles[row, column])
        place[..., :3] = np.where(missing, 0.5, tiles[row, column])
        place[..., 3] = np.where(missing.any(axis=-1), 0.12, 1.0)
    across = min(_TILE * len(columns), WIDTH - 0.6)
    tall = across * page.shape[0] / page.shape[1] + 0.6
    figure = Figure(figsize=(across + 0.6, tall), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(page, interpolation="none")
    axes.spines[:].set_visible(False)
    names = [plain(name, _LETTERS) for name in columns]
    axes.set_xticks(gap + width / 2 - 0.5 + np.arange(len(columns)) * (width + gap), names)
    middles = gap + height / 2 - 0.5 + np.arange(len(rows)) * (height + gap)
    axes.set_yticks(middles, [plain(name, _LETTERS) for name in rows])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    if max(len(name) for name in names) > 5:
        for mark in axes.get_xticklabels():
            mark.set(rotation=45, ha="left", va="baseline", rotation_mode="anchor")
    axes.xaxis.set_label_position("top")
    axes.set(xlabel="class", ylabel="client")
    return figure


def _heat_map(
    axes: Axes, values: NDArray[Any], counts: NDArray[Any], norm: Normalize, size: float
) -> None:
    """Colour cells by their values, and write their counts in a size (0: not at all)."""
    shown = np.ma.masked_equal(values, 0.0)
    axes.imshow(shown, cmap=_COLOURS, norm=norm, aspect="auto", interpolation="none")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    rows, columns = values.shape
    if rows <= 40 and columns <= 40:
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=PAPER, linewidth=0.8)
        axes.tick_params(which="minor", length=0)
    else:
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)
    full = _COLOURS(norm(values))[..., 3] > 0.75
    for (row, column), count in np.ndenumerate(counts if size else counts[:0]):
        if count:
            text = f"{int(count)}" if count < 10_000 else f"{count / 1000:.0f}k"
            ink = WHITE if full[row, column] else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)


def _scale(
    figure: Figure, panels: Iterable[Axes], norm: Normalize, label: str, **look: Any
) -> None:
    mappable = ScalarMappable(norm, _COLOURS)
    bar = figure.colorbar(mappable, ax=list(panels), label=label, pad=0.02, aspect=30, **look)
    bar.outline.set_visible(False)


def _spread_out(count: int, most: int) -> list[int]:
    """Return the places 0 … count-1, or evenly spread ones if there are more than ``most``."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if count / s <= most)
    return list(range(0, count, step))


def _name(names: Sequence[str], place: int) -> str:
    return plain(named(names, place), _LETTERS)


def _class_ticks(axes: Axes, count: int, class_names: Sequence[str], room: int = 90) -> None:
    """Name the classes below a picture that is ``room`` letters wide: all of them, else some."""
    names = [_name(class_names, label) for label in range(count)]
    widest = max(len(name) for name in names)
    places = _spread_out(count, 20)
    slanted = count * (widest + 1) > room
    if slanted and all(name.isdigit() for name in names):
        slanted, places = False, _spread_out(count, max(2, room // (widest + 2)))
    axes.set_xticks(places, [names[place] for place in places])
    if slanted:
        for mark in axes.get_xticklabels():
            mark.set(rotation=45, ha="right", rotation_mode="anchor")
