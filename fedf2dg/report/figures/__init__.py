"""The figures of a run, drawn without a display and without matplotlib's global state.

Each function takes plain values and returns a :class:`matplotlib.figure.Figure`;
:func:`to_svg` and :func:`to_png` render one.
"""

from fedf2dg.report.figures.cells import confusion_matrices, label_counts, pseudo_image_grid
from fedf2dg.report.figures.curves import accuracy_curve, bytes_per_round
from fedf2dg.report.figures.style import in_style, to_png, to_svg

__all__ = [
    "accuracy_curve",
    "bytes_per_round",
    "confusion_matrices",
    "in_style",
    "label_counts",
    "pseudo_image_grid",
    "to_png",
    "to_svg",
]
