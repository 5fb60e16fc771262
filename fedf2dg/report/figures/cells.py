"""Pictures made of cells: counts by client and class, confusion matrices, generated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray

from fedf2dg.report.figures.style import FAINT, INK, PAPER, WHITE, WIDTH, in_style

_TILE = 1.1  # inches that a generated image may take


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
    colours = shades()
    axes.imshow(
        np.ma.masked_equal(table, 0.0), cmap=colours, norm=norm, aspect="auto", interpolation="none"
    )
    cell_borders(axes, rows, columns)
    if in_cells:
        write_numbers(axes, table, colours(norm(table)))
    class_ticks(axes, columns, class_names)
    axes.set_xlabel("class")
    axes.set_ylabel(row_name)
    ticks = spread_out(rows, 40 if in_cells else 20)
    axes.set_yticks(ticks, [shown_name(client_names, tick, 14) for tick in ticks])
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
    colours = shades()
    for place, (axes, (title, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        table = np.asarray(matrix, dtype=float)
        sums = table.sum(axis=1, keepdims=True)
        shares = np.divide(table, sums, out=np.zeros_like(table), where=sums > 0)
        axes.imshow(np.ma.masked_equal(shares, 0.0), cmap=colours, norm=norm, interpolation="none")
        cell_borders(axes, *table.shape)
        if len(table) <= NUMBERS_UP_TO:
            write_numbers(axes, table, colours(norm(shares)), 7.5 if len(matrices) > 2 else 8.5)
        class_ticks(axes, len(table), class_names, room=90 // max(2, len(matrices)))
        ticks = spread_out(len(table), 20)
        names = [shown_name(class_names, t) if place == 0 else "" for t in ticks]
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
    names = [shown_name(class_names, label) for label in classes]
    axes.set_xticks(middle_x, names)
    axes.set_yticks(middle_y, [shown_name(client_names, client) for client in clients])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    if max(len(name) for name in names) > 5:
        for mark in axes.get_xticklabels():
            mark.set(rotation=45, ha="left", va="baseline", rotation_mode="anchor")
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("class")
    axes.set_ylabel("client")
    return figure


NUMBERS_UP_TO = 12  # columns that leave room for a number in each cell


def spread_out(count: int, most: int) -> list[int]:
    """Return the places 0 … count-1, or evenly spread ones if there are more than ``most``."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if count / s <= most)
    return list(range(0, count, step))


def shown_name(class_names: Sequence[str], label: int, most: int = 14) -> str:
    """Return the name of a class, cut to ``most`` letters, or its number."""
    name = class_names[label] if 0 <= label < len(class_names) else str(label)
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    name = name if len(name) <= most else name[: most - 1] + "…"
    return name.replace("$", r"\$")  # matplotlib reads $…$ as mathematics


def class_ticks(
    axes: Axes, count: int, class_names: Sequence[str], letters: int = 14, room: int = 90
) -> None:
    """Name the classes below a picture that is ``room`` letters wide: all of them, else some."""
    names = [shown_name(class_names, label, letters) for label in range(count)]
    widest = max(len(name) for name in names)
    places = spread_out(count, 20)
    slanted = count * (widest + 1) > room
    if slanted and all(name.isdigit() for name in names):
        slanted, places = False, spread_out(count, max(2, room // (widest + 2)))
    axes.set_xticks(places, [names[place] for place in places])
    if slanted:
        for mark in axes.get_xticklabels():
            mark.set(rotation=45, ha="right", rotation_mode="anchor")


def shades() -> Colormap:
    """Return blue from almost clear to full: more is more on light and on dark pages."""
    shades = np.tile(to_rgba("#1768ac"), (256, 1))
    shades[:, 3] = np.linspace(0.12, 1.0, 256)
    return ListedColormap(shades, name="shades").with_extremes(bad=(0, 0, 0, 0))


def cell_borders(axes: Axes, rows: int, columns: int) -> None:
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


def write_numbers(
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
                color=WHITE if rgba[row, column, 3] > 0.75 else INK,
            )
