"""Counts by client and class, and by true and predicted class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from fedf2dg.report.figures.cells import (
    NUMBERS_UP_TO,
    cell_borders,
    class_ticks,
    shades,
    shown_name,
    spread_out,
    write_numbers,
)
from fedf2dg.report.figures.style import WIDTH, in_style


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
