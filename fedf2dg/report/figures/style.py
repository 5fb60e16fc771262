"""Colours and text of all figures, without matplotlib's global state.

Colours are Okabe and Ito's (stages) and one blue from clear to full (quantities), which
colour-blind readers and grey printers can tell apart; stages also differ in marker and label, so
nothing rests on colour alone. Nothing has a background, and in a page the ink follows the page's
colours, so that figures suit light and dark pages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito, "Color universal design" (2008).
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
COLOURS = {"federated": BLUE, "distillation": VERMILLION, "competition": GREEN}

WIDTH = 9.0  # inches: text of 9 pt then reads well on a page of 900 px and in a two-column print

INK, SOFT, FAINT, PAPER = "#222222", "#555555", "#d9d9d9", "#ffffff"
# White that stays white on a dark page: numbers on full blue.
WHITE = "#fffffe"
# A page's own colours (see reporting.page), each with what it is where there is no page.
OF_PAGE = {
    INK: "--ink",
    SOFT: "--soft",
    FAINT: "--line",
    PAPER: "--sheet",
    BLUE.lower(): "--blue",
    VERMILLION.lower(): "--vermillion",
    GREEN.lower(): "--green",
    ORANGE.lower(): "--orange",
}
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
def styled() -> Iterator[None]:
    """Apply the style of all figures for a while."""
    with _SETTINGS, matplotlib.rc_context(_STYLE):
        yield


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a drawing function use the style of all figures."""

    @wraps(draw)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with styled():
            return draw(*args, **kwargs)

    return drawing
