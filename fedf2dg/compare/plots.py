"""The figures of a comparison, in the style of a run's report.

Methods differ in colour, line and marker at once, so that nothing rests on colour alone; the
colours are Okabe and Ito's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fedf2dg.report.figures.style import (
    BLUE,
    COLOURS,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    VERMILLION,
    WIDTH,
    in_style,
)
from fedf2dg.report.run_record import Measurement

from .results import Difference, spread

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
_STAGE_LOOKS = {
    "federated": (COLOURS["federated"], "o"),
    "distilled": (COLOURS["distillation"], "^"),
    "competed": (COLOURS["competition"], "s"),
    "last": (INK, "D"),
    "kept": ("#CC79A7", "P"),
}


@in_style
def curves(methods: Mapping[str, Sequence[Sequence[Measurement]]]) -> Figure:
    """Draw accuracy on the way, mean and standard deviation over seeds, one panel per stage.

    Parameters
    ----------
    methods : Mapping[str, Sequence[Sequence[Measurement]]]
        The measurements of each method's runs; at most ``MOST_LINES`` methods.

    Raises
    ------
    ValueError
        If there is nothing to draw, or too much of it.
    """
    if not any(m for runs in methods.values() for m in runs):
        raise ValueError("no measurements to draw")
    if len(methods) > MOST_LINES:
        raise ValueError(f"{len(methods)} methods in one plot; at most {MOST_LINES} can be told")
    series = {
        (name, stage): _mean_curve(runs, stage) for name, runs in methods.items() for stage in _AXES
    }
    stages = [s for s in _AXES if any(len(series[name, s][0]) for name in methods)]
    ratios = [{"federated": 1.0, "distillation": 0.6, "competition": 0.6}[s] for s in stages]
    figure = Figure(figsize=(WIDTH, 3.9 + 0.16 * math.ceil(len(methods) / 3)), layout="constrained")
    panels = figure.subplots(1, len(stages), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for panel, stage in zip(panels, stages, strict=True):
        for (colour, line, marker), name in zip(_LOOKS, methods, strict=False):
            x, mean, deviation = series[name, stage]
            panel.fill_between(
                x, mean - deviation, mean + deviation, color=colour, alpha=0.13, linewidth=0
            )
            panel.plot(
                x,
                mean,
                color=colour,
                linestyle=line,
                linewidth=1.5,
                marker=marker,
                markersize=4.2,
                markevery=max(1, math.ceil(len(x) / 12)),
            )
        panel.set_title(stage.capitalize(), color=COLOURS[stage])
        panel.set_xlabel(_AXES[stage])
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.grid(axis="y", color=FAINT, linewidth=0.7)
        if stage == "competition":
            panel.set_xlim(left=0.0)
    panels[0].set_ylabel("test accuracy")
    panels[0].yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(max(low, 0.0), min(high, 100.0))
    handles = [
        Line2D([], [], color=c, linestyle=s, marker=m, markersize=4.2, label=_plain(name))
        for (c, s, m), name in zip(_LOOKS, methods, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


@in_style
def accuracies(methods: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw the accuracy after each stage: every seed, their mean and standard deviation.

    Parameters
    ----------
    methods : Mapping[str, Mapping[str, Sequence[float]]]
        For each method and stage (of "federated", "distilled", "competed", "last", "kept") one
        value per seed.
    """
    shown = [s for s in _STAGE_LOOKS if any(m.get(s) for m in methods.values())]
    figure, axes = _rows(list(methods))
    for row, stages in enumerate(methods.values()):
        for stage, offset in zip(shown, _offsets(len(shown)), strict=True):
            colour, marker = _STAGE_LOOKS[stage]
            values = np.asarray(stages.get(stage, ()), dtype=float) * 100
            found = spread(list(values))
            if found is None:
                continue
            y = row + offset
            axes.plot(values, np.full(len(values), y), "|", color=colour, markersize=6, alpha=0.55)
            axes.errorbar(
                found.mean,
                y,
                xerr=found.deviation,
                color=colour,
                marker=marker,
                markersize=5.5,
                elinewidth=1.4,
            )
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.set_xlabel("test accuracy")
    _stage_legend(figure, shown)
    return figure


@in_style
def differences(methods: Mapping[str, Mapping[str, Difference]]) -> Figure:
    """Draw differences from the baseline with their confidence intervals.

    Parameters
    ----------
    methods : Mapping[str, Mapping[str, Difference]]
        For each method and stage, of accuracies in [0, 1]. Filled markers: the interval excludes
        zero.
    """
    shown = [s for s in _STAGE_LOOKS if any(m.get(s) for m in methods.values())]
    figure, axes = _rows(list(methods))
    axes.axvline(0, color="#777777", linewidth=1.0)
    for row, stages in enumerate(methods.values()):
        for stage, offset in zip(shown, _offsets(len(shown)), strict=True):
            colour, marker = _STAGE_LOOKS[stage]
            found = stages.get(stage)
            if found is None:
                continue
            reach = None if found.high is None else 100 * (found.high - found.mean)
            axes.errorbar(
                100 * found.mean,
                row + offset,
                xerr=reach,
                color=colour,
                marker=marker,
                markersize=5.5,
                markerfacecolor=colour if found.clear else "white",
                elinewidth=1.4,
            )
    axes.set_xlabel("difference of test accuracy, percentage points")
    _stage_legend(figure, shown)
    return figure


def _offsets(count: int) -> list[float]:
    """Return the places of ``count`` markers in a row of height 1."""
    step = 0.22 if count <= 3 else 0.19
    return [step * (place - (count - 1) / 2) for place in range(count)]


def _rows(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Return an empty plot with one row per method, the first on top."""
    height = float(np.clip(1.1 + 0.4 * len(names), 1.9, 14.0))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#000000", alpha=0.03, linewidth=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    return figure, axes


def _stage_legend(figure: Figure, stages: Sequence[str]) -> None:
    handles = [
        Line2D([], [], color=_STAGE_LOOKS[s][0], marker=_STAGE_LOOKS[s][1], markersize=5.5, label=s)
        for s in stages
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, fontsize=8.5)


def _mean_curve(
    runs: Sequence[Sequence[Measurement]], stage: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions, means and standard deviations in percent where any run was measured."""
    at: dict[float, list[float]] = {}
    for run in runs:
        for point in run:
            if point.stage == stage:
                at.setdefault(round(point.position, 6), []).append(100 * point.accuracy)
    found = [(x, spread(values)) for x, values in sorted(at.items())]
    table = [(x, s.mean, s.deviation or 0.0) for x, s in found if s is not None]
    x, mean, deviation = np.asarray(table, dtype=float).reshape(-1, 3).T
    return x, mean, deviation


def _plain(name: str, most: int = 34) -> str:
    """Return a name that fits beside a plot and is no mathematics to matplotlib."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    name = name if len(name) <= most else name[: most - 1] + "…"
    return name.replace("$", r"\$")
