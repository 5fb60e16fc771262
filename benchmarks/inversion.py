"""Model inversion: the textbook loop against the engine, seconds per optimizer step."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from benchmarks.measure import (
    Comparison,
    Timed,
    Variant,
    alternate,
    measure_ceilings,
    now,
    recordings,
)
from benchmarks.textbook import textbook_inversion
from foundation import models
from foundation.settings import Compile, Precision
from generation import InversionEngine, InversionSettings
from generation.acceleration import forward_operations
from generation.engine import CHECK_INTERVAL

REPEATS = 5

Ways = list[tuple[Precision, Compile]]

_PLAIN: Ways = [("float32", "off"), ("bfloat16", "off")]
_COMPILED: Ways = [("float32", "on"), ("bfloat16", "on")]
WAYS: dict[str, list[Ways]] = {
    "tiny": [[("float32", "off")]],
    "small": [[("float32", "off"), ("bfloat16", "on")]],
    "gpu": [_PLAIN],
    # Compiling takes a minute there, and may not end: a part of its own.
    "gpu compiled": [_COMPILED],
    "tiny compiled": [[("float32", "off")]],
    "full": [[way for pair in zip(_PLAIN, _COMPILED, strict=True) for way in pair]],
}
"""Precision and compilation of the engine's variants, on hardware that multiplies bfloat16: those
that are compared with one another, and with the textbook."""

# (model, channels, image size, batch, steps timed)
SETUPS = {
    "tiny": [("resnet8", 1, 8, 4, 2)],
    "small": [("resnet8", 1, 8, 64, 40), ("resnet18", 3, 32, 64, 3)],
    "gpu": [("resnet18", 3, 32, 256, 20)],
    "gpu compiled": [("resnet18", 3, 32, 256, 20)],
    "tiny compiled": [("resnet8", 1, 8, 4, 2)],
    "full": [
        ("resnet8", 1, 8, 64, 100),
        ("resnet20", 3, 32, 64, 20),
        ("resnet18", 3, 32, 64, 20),
        ("resnet18", 3, 32, 256, 20),
    ],
}


def run(size: str, device: torch.device) -> Iterator[Comparison]:
    """Measure every set-up of a size, one after the other."""
    ceilings = measure_ceilings(device)
    for setup in SETUPS[size]:
        for group in WAYS[size]:
            for how in recordings(device):
                yield _compare(
                    *setup,
                    ways_of_engine=possible(group, ceilings),
                    how=how,
                    device=device,
                    ceilings=ceilings,
                )


def possible(ways: Ways, ceilings: dict[str, float]) -> Ways:
    """Float32 in the place of types without a ceiling, which the hardware only emulates."""
    found: Ways = [
        (precision if precision in ceilings else "float32", compilation)
        for precision, compilation in ways
    ]
    return list(dict.fromkeys(found))


def _compare(
    name: str,
    channels: int,
    image_size: int,
    batch: int,
    steps: int,
    *,
    ways_of_engine: Ways,
    how: str,
    device: torch.device,
    ceilings: dict[str, float],
) -> Comparison:
    shape = (channels, image_size, image_size)
    model = models.build(name, classes=10, channels=channels, image_size=image_size, seed=0)
    # Statistics as of a trained model; what the weights are does not change the time.
    torch.manual_seed(0)
    model.train()
    with torch.no_grad():
        model(torch.randn(256, *shape))
    model.eval()
    labels = torch.arange(batch) % 10
    ways: dict[str, Timed] = {
        "textbook": partial(_textbook_step, model, labels, shape, steps, device)
    }
    precisions = {"textbook": "float32"}
    engines: list[InversionEngine] = []
    # What is timed comes behind a look at the objective, and behind the recording.
    before = CHECK_INTERVAL if how else 1
    for precision, compilation in ways_of_engine:
        iterations = before + steps
        settings = InversionSettings(
            iterations=iterations, precision=precision, compile=compilation
        )
        engine = InversionEngine(model, shape, settings, device=device)
        engines.append(engine)
        way = f"{precision}{', compiled' if compilation == 'on' else ''}{how}"
        ways[way] = partial(_engine_step, engine, model, labels, before)
        precisions[way] = precision
    times = alternate(ways, REPEATS)
    for engine in engines:
        engine.close()
    return Comparison(
        stage="inversion",
        setup=f"{name}, {batch} images of {channels}x{image_size}x{image_size}",
        unit="step",
        variants=[
            Variant(way, seconds, first, precisions[way]) for way, (seconds, first) in times.items()
        ],
        # Forward and gradient of the images; gradients of the weights are not needed.
        operations=2 * batch * forward_operations(model, shape),
        ceilings=ceilings,
    )


def _textbook_step(
    model: nn.Module,
    labels: torch.Tensor,
    shape: tuple[int, int, int],
    steps: int,
    device: torch.device,
) -> float:
    model.to(device)
    images = torch.randn((len(labels), *shape), device=device)
    start = now()
    textbook_inversion(model, images, labels.to(device), [(0, 1)] * steps, InversionSettings())
    return (now() - start) / steps


def _engine_step(
    engine: InversionEngine, model: nn.Module, labels: torch.Tensor, before: int
) -> float:
    # Progress is reported when a step has really ended, first after step 1, at last after the last:
    # the time between excludes loading the weights and the final evaluation.
    ended: dict[int, float] = {}
    engine.invert(model, labels, seed=0, progress=lambda done, _: ended.update({done: now()}))
    last = max(ended)
    return (ended[last] - ended[before]) / (last - before)
