"""How the cost of inversion and of a round grows with images, iterations, clients and the model.

The cost of a stage is measured at four points or more, everything else held, and a power of the
quantity is fitted to it: an exponent of 1 is linear growth.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import nn

from benchmarks.measure import now
from benchmarks.simulation import local_engine
from client_app.training import train_locally
from fedf2dg.report.figures import in_style, to_svg
from fedf2dg.report.figures.style import BLUE
from foundation.data import Batches
from foundation.models import Classifier
from foundation.models.resnet import residual_encoder
from foundation.settings.configuration import RunConfiguration
from generation import InversionSettings, forward_operations, generate
from strategies import get

REPEATS = {"tiny": 1, "small": 5, "full": 5}

IMAGES = {"tiny": (2, 4), "small": (16, 32, 64, 128, 256), "full": (32, 64, 128, 256, 512, 1024)}
ITERATIONS = {"tiny": (1, 2), "small": (10, 20, 40, 80), "full": (25, 50, 100, 200, 400)}
CLIENTS = {"tiny": (1, 2), "small": (2, 4, 8, 16), "full": (4, 8, 16, 32, 64)}
WIDTHS = {"tiny": (8, 16), "small": (8, 16, 32, 64), "full": (8, 16, 32, 64, 128)}
FEDERATIONS = {"tiny": (2, 3), "small": (5, 10, 20, 40), "full": (5, 10, 20, 40, 80)}

# Image size of the model-size curves: 8x8 would measure calls, not arithmetic.
SIDE = {"tiny": 8, "small": 32, "full": 32}


@dataclass(frozen=True)
class Growth:
    """Seconds of one stage at several values of one quantity."""

    stage: str
    quantity: str
    setup: str
    values: list[float]
    seconds: list[list[float]]
    """Every repeat at every value."""

    @property
    def medians(self) -> list[float]:
        return [median(repeats) for repeats in self.seconds]

    @property
    def exponent(self) -> float:
        """Slope of log seconds against log quantity, least squares."""
        return float(np.polyfit(np.log(self.values), np.log(self.medians), 1)[0])

    @property
    def last_exponent(self) -> float:
        """Slope between the two largest values, where fixed costs weigh least."""
        (x0, x1), (y0, y1) = np.log(self.values[-2:]), np.log(self.medians[-2:])
        return float((y1 - y0) / (x1 - x0))

    def report(self) -> str:
        points = ", ".join(
            f"{value:.4g}: {seconds:.4g} s"
            for value, seconds in zip(self.values, self.medians, strict=True)
        )
        return (
            f"growth: {self.stage} with {self.quantity} ({self.setup})\n"
            f"  {points}; exponent {self.exponent:.2f}, "
            f"between the last two {self.last_exponent:.2f}"
        )

    def record(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "medians": self.medians,
            "exponent": self.exponent,
            "last_exponent": self.last_exponent,
        }


def run(size: str, device: torch.device) -> Iterator[Growth]:
    """Measure every curve of a size, one after the other."""
    repeats = REPEATS[size]
    images, iterations = IMAGES[size][1], ITERATIONS[size][1]
    small = _model(width=16, channels=1)
    yield _curve(
        "inversion",
        "images",
        f"resnet8, 8x8, one client, {iterations} iterations",
        IMAGES[size],
        lambda count: _generate(small, [count], iterations, device),
        repeats,
    )
    yield _curve(
        "inversion",
        "iterations",
        f"resnet8, 8x8, one client, {images} images",
        ITERATIONS[size],
        lambda count: _generate(small, [images], count, device),
        repeats,
    )
    yield _curve(
        "inversion",
        "clients",
        f"resnet8, 8x8, {images} images of each, {iterations} iterations",
        CLIENTS[size],
        lambda count: _generate(small, [images] * count, iterations, device),
        repeats,
    )
    sizes = {_operations(_model(width, 3), SIDE[size]): _model(width, 3) for width in WIDTHS[size]}
    yield _curve(
        "inversion",
        "operations of the model",
        f"residual networks of width {WIDTHS[size][0]} to {WIDTHS[size][-1]}, 16 images of "
        f"{SIDE[size]}x{SIDE[size]}, 3 iterations",
        list(sizes),
        lambda count: _generate(sizes[count], [16], 3, device, SIDE[size]),
        repeats,
    )
    yield _curve(
        "training",
        "operations of the model",
        f"the same networks, 3 steps of 16 images of {SIDE[size]}x{SIDE[size]}",
        list(sizes),
        lambda count: _train(sizes[count], 3, SIDE[size], device),
        repeats,
    )
    yield _curve(
        "local engine",
        "clients in a round",
        "digits, equal parts of 20 images, resnet8, one epoch in batches of 10",
        FEDERATIONS[size],
        lambda count: _rounds(count, device),
        repeats,
    )


def _curve(
    stage: str,
    quantity: str,
    setup: str,
    values: Sequence[float],
    measure: Callable[[Any], float],
    repeats: int,
) -> Growth:
    measure(values[0])
    seconds: list[list[float]] = [[] for _ in values]
    # Turns rather than blocks: a machine that slows down slows all points down.
    for _ in range(repeats):
        for row, value in zip(seconds, values, strict=True):
            row.append(measure(value))
    return Growth(stage, quantity, setup, [float(value) for value in values], seconds)


def _model(width: int, channels: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, features = residual_encoder(channels=channels, width=width, blocks=(1, 1, 1))
        return Classifier(encoder, features, 10).eval()


def _operations(model: nn.Module, side: int) -> float:
    return forward_operations(model, (3, side, side))


def _generate(
    model: nn.Module, budgets: list[int], iterations: int, device: torch.device, side: int = 8
) -> float:
    channels = next(model.parameters()).shape[1]
    start = now()
    generate(
        lambda client: model,
        budgets=dict(enumerate(budgets)),
        label_counts=None,
        image_shape=(channels, side, side),
        settings=InversionSettings(iterations=iterations, compile="off", precision="float32"),
        classes=10,
        seed=0,
        device=device,
    )
    return now() - start


class _Repeated:
    """The same batch a number of times."""

    def __init__(self, steps: int, side: int, device: torch.device) -> None:
        images = torch.randn(16, 3, side, side, device=device)
        self._batch = (
            images.contiguous(memory_format=torch.channels_last),
            torch.arange(16, device=device) % 10,
        )
        self._steps = steps

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from [self._batch] * self._steps


def _train(model: Classifier, steps: int, side: int, device: torch.device) -> float:
    model = model.to(device).to(memory_format=torch.channels_last)
    configuration = RunConfiguration.parse({"strategy": "fedavg"})
    batches = _Repeated(steps, side, device)
    start = now()
    train_locally(
        model,
        cast(Batches, batches),
        get("fedavg").client(configuration),
        generator=torch.Generator(),
        epochs=1,
    )
    return now() - start


def _rounds(clients: int, device: torch.device) -> float:
    with tempfile.TemporaryDirectory() as folder:
        configuration = RunConfiguration.parse(
            {
                "strategy": "fedavg",
                "num-clients": clients,
                "train-samples": 20 * clients,
                "partition": "iid",
                "batch-size": 10,
                "local-epochs": 1,
                "num-server-rounds": 1,
                "stages": "train",
                "post-training": "none",
                "label-counts": "uniform",
                "device": device.type,
                "output-dir": str(Path(folder, "run")),
            }
        )
        return local_engine(configuration)[0]


def draw(growths: Sequence[Growth]) -> str:
    """Draw all curves as one SVG."""
    return to_svg(
        _figure(growths),
        "growth",
        "Seconds against images, iterations, clients and operations, with the fitted exponents",
        in_page=False,
    )


@in_style
def _figure(growths: Sequence[Growth]) -> Figure:
    columns = min(3, len(growths))
    rows = -(-len(growths) // columns)
    figure = Figure(figsize=(9.0, 2.6 * rows), layout="constrained")
    for axes, growth in zip(
        figure.subplots(rows, columns, squeeze=False).flat, growths, strict=False
    ):
        middles = np.array(growth.medians)
        repeats = np.array(growth.seconds)
        spread = (middles - repeats.min(axis=1), repeats.max(axis=1) - middles)
        axes.errorbar(growth.values, middles, spread, color=BLUE, marker="o", capsize=2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        names = [f"{value:g}" if value < 1e4 else f"{value:.1e}" for value in growth.values]
        axes.set_xticks(growth.values, names)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_title(f"{growth.stage}: exponent {growth.exponent:.2f}")
        axes.set_xlabel(growth.quantity)
        axes.set_ylabel("seconds")
    return figure
