"""The figures of a run, drawn without a display and without matplotlib's global state.

Each function takes plain values and returns a :class:`matplotlib.figure.Figure`.
"""

from fedf2dg.report.figures.cells import confusion_matrices, image_grid, label_counts
from fedf2dg.report.figures.curves import MOST_LINES, Dot, confidence, curves, dots
from fedf2dg.report.figures.style import in_style, to_png, to_svg

__all__ = [
    "MOST_LINES",
    "Dot",
    "confidence",
    "confusion_matrices",
    "curves",
    "dots",
    "image_grid",
    "in_style",
    "label_counts",
    "to_png",
    "to_svg",
]
