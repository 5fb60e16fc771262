"""What a run did over its rounds: its accuracy, and the bytes between server and clients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fedf2dg.report.figures.cells import spread_out
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
from fedf2dg.report.run_record import Measurement
from fedf2dg.report.tables import byte_unit


@in_style
def accuracy_curve(measurements: Sequence[Measurement], chance: float | None = None) -> Figure:
    """Draw the accuracy of the global model over the whole run, its stages side by side.

    Parameters
    ----------
    measurements : Sequence[Measurement]
        Sorted by stage, at least one. Each stage has an axis of its own: rounds, epochs of
        distillation, competition rounds.
    chance : float, optional
        Accuracy of guessing, in [0, 1], drawn as a line.

    Returns
    -------
    Figure
        One plot with a band per stage.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not measurements:
        raise ValueError("no measurements to draw")
    stages = {
        stage: [m for m in measurements if m.stage == stage]
        for stage in COLOURS
        if any(m.stage == stage for m in measurements)
    }
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.add_subplot()
    lowest = min([m.accuracy for m in measurements] + ([chance] if chance else [])) * 100
    bottom = float(np.clip(10 * math.floor((lowest - 4) / 10), 0, 80))
    edge = 0.0
    previous: tuple[float, float] | None = None
    ticks: list[tuple[float, str]] = []
    for stage, points in stages.items():
        last = max(point.position for point in points)
        first = min(1.0, points[0].position)
        start = first - 0.6 if stage == "federated" else 0.0
        width = {"federated": 1.0, "distillation": 0.55}.get(stage, min(0.3 + 0.06 * last, 0.9))
        scale = width / max(last - start, 1e-9)
        colour, label = COLOURS[stage], _band_label(stage, last)

        x = [edge + (point.position - start) * scale for point in points]
        y = [point.accuracy * 100 for point in points]
        axes.axvspan(edge, edge + width, color=colour, alpha=0.055, linewidth=0)
        if edge:
            axes.axvline(edge, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        if previous:
            axes.plot(
                [previous[0], x[0]], [previous[1], y[0]], color=colour, linewidth=1.0, alpha=0.5
            )
        axes.plot(x, y, color=colour, linewidth=1.6, zorder=3)
        _markers(axes, points, x, y)
        middle = edge + width / 2
        across = axes.get_xaxis_transform()
        axes.text(
            middle,
            1.02,
            f"{label[0]}\n{y[-1]:.1f} %",
            transform=across,
            ha="center",
            va="bottom",
            color=colour,
            fontweight="bold",
            linespacing=1.4,
        )
        axes.text(middle, -0.1, label[1], transform=across, ha="center", va="top")
        many = max(2, round(width * 14))
        # A competition round is the stretch from one whole number to the next, named in its middle.
        shift = 0.5 if stage == "competition" else 0.0
        ticks += [
            (edge + (tick - shift - start) * scale, f"{tick}")
            for tick in _round_numbers(math.ceil(first), math.ceil(last), many)
            # Next to the last tick of the stage before there is no room for a first one.
            if not previous or tick - shift - start > 0.04 / scale
        ]
        previous = (x[-1], y[-1])
        edge += width
    axes.set_xlim(0, edge)
    if chance is not None:
        axes.axhline(100 * chance, color=SOFT, linewidth=1.0, linestyle=(0, (1, 2)))
        axes.annotate(
            f"chance {100 * chance:.1f} %",
            (0, 100 * chance),
            (4, 3),
            textcoords="offset points",
            ha="left",
            va="bottom",
            color=SOFT,
            fontsize=8.5,
        )
    # A little above, or a mark at 100 % would be cut in half.
    top = 101.0 if max(m.accuracy for m in measurements) <= 1 else None
    axes.set_ylim(bottom, top)
    axes.margins(y=0.05)
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
    axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks])
    axes.set_ylabel("accuracy")
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    handles = [_handle(measurements, kind) for kind in ("federated", "distillation", "retrained")]
    shown = [handle for handle in handles if handle is not None]
    if len(shown) > 1:
        axes.legend(
            handles=shown,
            loc=_free_corner(axes),
            frameon=True,
            framealpha=0.9,
            edgecolor=FAINT,
            fontsize=8.5,
        )
    return figure


@in_style
def bytes_per_round(rounds: Sequence[str], down: Sequence[float], up: Sequence[float]) -> Figure:
    """Draw what the server sent and received in each round, all clients together.

    Parameters
    ----------
    rounds : Sequence[str]
        Names of the rounds.
    down, up : Sequence[float]
        Bytes from the server to the clients, and back.
    """
    size, unit = byte_unit(max([1.0, *down, *up]))
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rounds))
    sent, received = np.asarray(down) / size, np.asarray(up) / size
    if len(rounds) <= 30:
        axes.bar(places - 0.2, sent, 0.38, color=BLUE, label="server to clients")
        axes.bar(
            places + 0.2,
            received,
            0.38,
            color=ORANGE,
            label="clients to server",
            hatch="///",
            edgecolor=PAPER,
            linewidth=0,
        )
    else:
        axes.step(places, sent, color=BLUE, where="mid", label="server to clients")
        axes.step(
            places,
            received,
            color=VERMILLION,
            where="mid",
            linestyle=(0, (4, 2)),
            label="clients to server",
        )
        axes.set_ylim(0, 1.1 * max(1e-9, sent.max(), received.max()))
    ticks = spread_out(len(rounds), 20)
    axes.set_xticks(ticks, [rounds[tick] for tick in ticks])
    axes.set_xlabel("round")
    axes.set_ylabel(f"{unit} per round")
    axes.set_xlim(-0.7, max(len(rounds), 4) - 0.3)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2)
    return figure


def _band_label(stage: str, last: float) -> tuple[str, str]:
    """Return the title above and the unit below a stage's band."""
    if stage == "federated":
        return "Federated", "round"
    if stage == "distillation":
        return "Distillation", "epoch"
    return "Competition", "competition round"


def _markers(axes: Axes, points: Sequence[Measurement], x: list[float], y: list[float]) -> None:
    """Mark rounds and, unless there are too many of them, epochs."""
    size = 5.5 if len(points) <= 25 else 3.5 if len(points) <= 60 else 0.0
    colour = COLOURS[points[0].stage]
    shape = "o" if points[0].stage == "federated" else "^"
    plain = [i for i, point in enumerate(points) if not point.retrained]
    squares = [i for i, point in enumerate(points) if point.retrained]
    if size and len(plain):
        axes.plot(
            [x[i] for i in plain],
            [y[i] for i in plain],
            shape,
            color=colour,
            markersize=size if shape == "o" else size * 0.8,
            zorder=4,
            clip_on=False,
        )
    axes.plot(
        [x[i] for i in squares],
        [y[i] for i in squares],
        "s",
        color="white",
        markeredgecolor=colour,
        markeredgewidth=1.5,
        markersize=5.5,
        zorder=4,
    )


def _free_corner(axes: Axes) -> Literal["best", "lower right"]:
    """Return "lower right", where a rising curve leaves room, unless this one does not rise."""
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    drawn = [
        np.asarray(line.get_xydata(), dtype=float)
        for line in axes.get_lines()
        if line.get_transform() == axes.transData
    ]
    x, y = np.concatenate(drawn).T
    crossed = np.any((x > 0.6 * right) & (y < low + 0.3 * (high - low)))
    return "best" if crossed else "lower right"


def _handle(measurements: Sequence[Measurement], kind: str) -> Line2D | None:
    """Return the legend's entry for a kind of measurement, or None if it does not occur."""
    if kind == "federated" and any(m.stage == "federated" for m in measurements):
        return Line2D([], [], marker="o", color=BLUE, markersize=5.5, label="federated round")
    if kind == "distillation" and any(
        m.stage != "federated" and not m.retrained for m in measurements
    ):
        return Line2D([], [], marker="^", color=INK, markersize=5, label="distillation epoch")
    if kind == "retrained" and any(m.retrained for m in measurements):
        return Line2D(
            [],
            [],
            marker="s",
            color="white",
            markeredgecolor=GREEN,
            linewidth=0,
            markeredgewidth=1.5,
            label="federated round of the competition",
        )
    return None


def _round_numbers(first: int, last: int, most: int) -> list[int]:
    """Return at most about ``most`` whole numbers with first and last among them."""
    if last <= first:
        return [last]
    steps = (k * 10**power for power in range(9) for k in (1, 2, 5))
    step = next(s for s in steps if (last - first) / s <= most)
    inner = [n for n in range(0, last + 1, step) if first + 0.6 * step <= n <= last - 0.6 * step]
    return [first, *inner, last] if last - first >= 0.6 * step else [last]
