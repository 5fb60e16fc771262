"""What pictures made of cells have in common: their colours, borders, numbers and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_rgba
from numpy.typing import NDArray

from fedf2dg.report.figures.style import FAINT, INK, PAPER, WHITE

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
