"""Generated images by client and class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedf2dg.report.figures.cells import shown_name
from fedf2dg.report.figures.style import WIDTH, in_style

_TILE = 1.1  # inches that a generated image may take


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
