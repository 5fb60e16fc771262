"""Accuracy on the way, of one run or of several methods over seeds, and dots with intervals.

Methods differ in colour, line and marker at once, so that nothing rests on colour alone; the
colours are Okabe and Ito's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fedf2dg.report.figures.style import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    ORANGE,
    SOFT,
    VERMILLION,
    WIDTH,
    in_style,
    plain,
)
from fedf2dg.report.run_record import Measurement
from foundation.scores import share_interval

#: Lines a plot can hold and still be read; more methods make more plots.
MOST_LINES = 7

_LOOKS: tuple[tuple[str, Any, str], ...] = (
    (INK, "-", "o"),
    (VERMILLION, (0, (5, 1.5)), "s"),
    (BLUE, (0, (4, 1, 1, 1)), "^"),
    (GREEN, (0, (1.5, 1)), "D"),
    (ORANGE, (0, (6, 1, 1, 1, 1, 1)), "v"),
    ("#CC79A7", (0, (3, 3)), "P"),
    ("#56B4E9", (0, (8, 2)), "X"),
)
_AXES = {"federated": "round", "distillation": "epoch", "competition": "competition round"}
_WIDTHS = {"federated": 1.0, "distillation": 0.6, "competition": 0.6}
_STAGE_LOOKS = {
    "federated": (COLOURS["federated"], "o"),
    "distilled": (COLOURS["distillation"], "^"),
    "competed": (COLOURS["competition"], "s"),
    "last": (INK, "D"),
    "kept": ("#CC79A7", "P"),
}
_DOTTED: Any = {"color": SOFT, "linewidth": 1.0, "linestyle": (0, (1, 2))}
_PERCENT = "{x:.0f} %"
_MOST_MARKERS = 12
_LETTERS = 34


@in_style
def curves(
    methods: Mapping[str, Sequence[Sequence[Measurement]]], chance: float | None = None
) -> Figure:
    """Draw the accuracy on the way, mean and standard deviation over seeds, one panel per stage.

    Each of at most :data:`MOST_LINES` methods has its runs' measurements. A single one takes the
    colours of the stages, and each panel says where it ends. ``chance`` is the accuracy of
    guessing.
    """
    measured = [m for runs in methods.values() for run in runs for m in run]
    if not measured:
        raise ValueError("no measurements to draw")
    if len(methods) > MOST_LINES:
        raise ValueError(f"{len(methods)} methods in one plot; at most {MOST_LINES} can be told")
    stages = [stage for stage in _AXES if any(m.stage == stage for m in measured)]
    legend = 0.16 * math.ceil(len(methods) / 3) if len(methods) > 1 else 0.0
    figure = Figure(figsize=(WIDTH, 3.9 + legend), layout="constrained")
    ratios = [_WIDTHS[stage] for stage in stages]
    panels = figure.subplots(1, len(stages), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for panel, stage in zip(panels, stages, strict=True):
        title = stage.capitalize()
        for (colour, line, marker), runs in zip(_LOOKS, methods.values(), strict=False):
            x, mean, deviation = _mean_curve(runs, stage)
            if len(methods) == 1:
                colour, title = COLOURS[stage], f"{title}\n{mean[-1]:.1f} %"
            band: Any = {"color": colour, "alpha": 0.13, "linewidth": 0}
            panel.fill_between(x, mean - deviation, mean + deviation, **band)
            every = max(1, math.ceil(len(x) / _MOST_MARKERS))
            panel.plot(x, mean, color=colour, linestyle=line, marker=marker, markevery=every)
        if chance is not None:
            panel.axhline(100 * chance, **_DOTTED)
        panel.set_title(title, color=COLOURS[stage])
        panel.set_xlabel(_AXES[stage])
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        panel.grid(axis="y")
        if stage == "competition":
            panel.set_xlim(left=0.0)
    first = panels[0]
    first.set_ylabel("accuracy")
    first.yaxis.set_major_formatter(_PERCENT)
    low, high = first.get_ylim()
    first.set_ylim(max(low, 0.0), min(high, 101.0))
    if chance is not None:
        said, at = f"guessing {100 * chance:.1f} %", first.get_yaxis_transform()
        first.text(0.01, 100 * chance, f"{said}\n", transform=at, color=SOFT, va="center")
    if len(methods) > 1:
        looks = zip(_LOOKS, methods, strict=False)
        _legend(figure, [(c, s, m, plain(name, _LETTERS)) for (c, s, m), name in looks])
    return figure


@dataclass(frozen=True)
class Dot:
    """A mean in percent or percentage points, with half its interval and the values behind it."""

    mean: float
    reach: float | None = None
    single: Sequence[float] = ()
    filled: bool = True


@in_style
def dots(methods: Mapping[str, Mapping[str, Dot]], axis: str, *, differences: bool) -> Figure:
    """Draw a row of dots for each method, by stage, the first method on top.

    ``differences`` may be negative; else it is shares.
    """
    shown = [s for s in _STAGE_LOOKS if any(s in of_method for of_method in methods.values())]
    height = float(np.clip(1.1 + 0.4 * len(methods), 1.9, 14.0))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(methods)), [plain(name, _LETTERS) for name in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for row in range(1, len(methods), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#000000", alpha=0.03, linewidth=0)
    axes.grid(axis="x")
    step = 0.22 if len(shown) <= 3 else 0.19
    for row, of_method in enumerate(methods.values()):
        for place, stage in enumerate(shown):
            if (dot := of_method.get(stage)) is None:
                continue
            colour, marker = _STAGE_LOOKS[stage]
            y = row + step * (place - (len(shown) - 1) / 2)
            single, fill = [y] * len(dot.single), colour if dot.filled else "white"
            axes.plot(dot.single, single, "|", color=colour, markersize=6, alpha=0.55)
            look: Any = {"color": colour, "marker": marker, "markerfacecolor": fill}
            axes.errorbar(dot.mean, y, xerr=dot.reach, markersize=5.5, **look)
    axes.set_xlabel(axis)
    if differences:
        axes.axvline(0, color="#777777", linewidth=1.0)
    else:
        axes.xaxis.set_major_formatter(_PERCENT)
    looks = [(s, *_STAGE_LOOKS[s]) for s in shown]
    _legend(figure, [(colour, "-", marker, stage) for stage, colour, marker in looks])
    return figure


@in_style
def confidence(bins: NDArray[np.float64], kept: Sequence[tuple[float, float, float]]) -> Figure:
    """Draw how often a model is right where it is so sure, and where it answers only if it is.

    ``bins`` (3, bins) are images, right ones and sums of confidences by equal bins of confidence;
    ``kept`` are thresholds, the shares of images that are answered, and those of these that are
    right.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    sure, abstains = figure.subplots(1, 2)
    count, right, total = bins[:, bins[0] > 0]
    mean, share = 100 * total / count, right / count
    ends = [share_interval(s, int(n)) for s, n in zip(share, count, strict=True)]
    reach = 100 * np.abs(np.array(ends).T - share)
    sure.plot([0, 100], [0, 100], **_DOTTED)
    sure.errorbar(mean, 100 * share, yerr=reach, fmt="o", color=BLUE)
    sure.set(title="Right where it is so sure", xlabel="confidence", ylabel="right")
    thresholds, answered, among = 100 * np.asarray(kept, dtype=float).reshape(-1, 3).T
    abstains.plot(thresholds, among, color=BLUE, marker="o", label="right")
    _, dashes, marker = _LOOKS[1]
    look: Any = {"color": VERMILLION, "linestyle": dashes, "marker": marker}
    abstains.plot(thresholds, answered, label="answered", **look)
    abstains.set(title="If it answers only where it is sure", xlabel="least confidence")
    abstains.legend(loc="lower left")
    for axes in (sure, abstains):
        axes.set(xlim=(-2, 102), ylim=(-2, 104))
        axes.grid()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_PERCENT)
    return figure


def _legend(figure: Figure, lines: Sequence[tuple[str, Any, str, str]]) -> None:
    handles = [
        Line2D([], [], color=colour, linestyle=style, marker=marker, label=label)
        for colour, style, marker, label in lines
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _mean_curve(
    runs: Sequence[Sequence[Measurement]], stage: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions, means and standard deviations in percent where any run was measured."""
    at: dict[float, list[float]] = {}
    for run in runs:
        for point in run:
            if point.stage == stage:
                at.setdefault(round(point.position, 6), []).append(100 * point.accuracy)
    table = [
        (x, np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0)
        for x, values in sorted(at.items())
    ]
    x, mean, deviation = np.asarray(table, dtype=float).reshape(-1, 3).T
    return x, mean, deviation
