"""Bytes between the server and the clients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fedf2dg.report.figures.cells import spread_out
from fedf2dg.report.figures.style import BLUE, FAINT, ORANGE, PAPER, VERMILLION, WIDTH, in_style


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


def byte_unit(value: float) -> tuple[float, str]:
    """Return the decimal unit in which a number of bytes reads well: its size and its name."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if value >= 1000**power:
            return 1000.0**power, unit
    return 1.0, "bytes"
