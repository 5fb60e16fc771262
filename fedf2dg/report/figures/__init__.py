"""The figures of a run, drawn without a display and without matplotlib's global state.

Each function takes plain values and returns a :class:`matplotlib.figure.Figure`;
:func:`to_svg` and :func:`to_png` render one.
"""

from fedf2dg.report.figures.accuracy import accuracy_curve
from fedf2dg.report.figures.cells import NUMBERS_UP_TO
from fedf2dg.report.figures.heat_maps import confusion_matrices, label_counts
from fedf2dg.report.figures.image_grid import pseudo_image_grid
from fedf2dg.report.figures.rendering import to_png, to_svg
from fedf2dg.report.figures.style import (
    BLUE,
    COLOURS,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    SOFT,
    VERMILLION,
    WIDTH,
    in_style,
)
from fedf2dg.report.figures.traffic import byte_unit, bytes_per_round

__all__ = [
    "BLUE",
    "COLOURS",
    "FAINT",
    "GREEN",
    "INK",
    "NUMBERS_UP_TO",
    "ORANGE",
    "PAPER",
    "SOFT",
    "VERMILLION",
    "WIDTH",
    "accuracy_curve",
    "byte_unit",
    "bytes_per_round",
    "confusion_matrices",
    "in_style",
    "label_counts",
    "pseudo_image_grid",
    "to_png",
    "to_svg",
]
