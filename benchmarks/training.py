"""Local training: the textbook loop against ours, and what each algorithm's hooks cost."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.measure import (
    Comparison,
    Timed,
    Variant,
    alternate,
    measure_ceilings,
    now,
    recordings,
    synchronise,
)
from benchmarks.textbook import textbook_training
from client_app.site import BFLOAT16_FROM
from client_app.training import local_loss, train_locally
from foundation import models
from foundation.data import Batches, ImageData, Normalization
from foundation.models import Classifier, State, cpu_state
from foundation.models.device import reduced_type
from foundation.settings.algorithms import MoonSettings
from foundation.settings.configuration import RunConfiguration
from generation import forward_operations
from strategies import get
from strategies.controls import CORRECTION
from strategies.moon import PREVIOUS

REPEATS = 5

CLASSES = 10

ALGORITHMS = (
    "fedavg",
    "fedprox",
    "scaffold",
    "fedacg",
    "feddyn",
    "moon",
    "fedlc",
    "fedrs",
    "fedntd",
    "fedvls",
)
"""Every local step there is; other strategies differ on the server. The first is plain SGD, which
the others are compared with."""

# (model, channels, image size, batch, steps timed)
SETUPS = {
    "tiny": [("resnet8", 1, 8, 4, 2)],
    "small": [("resnet8", 1, 8, 16, 40), ("resnet8", 3, 32, 64, 8), ("resnet18", 3, 32, 64, 2)],
    "gpu": [("resnet18", 3, 32, 64, 40)],
    "full": [("resnet8", 1, 8, 16, 200), ("resnet8", 3, 32, 64, 50), ("resnet18", 3, 32, 64, 10)],
}

# The hooks' share is largest where the model is small against its batch.
HOOK_SETUPS = {
    "tiny": [("resnet8", 1, 8, 4, 2)],
    "small": [("resnet8", 1, 8, 16, 40), ("resnet8", 3, 32, 64, 8)],
    "gpu": SETUPS["gpu"],
    "full": SETUPS["full"],
}


def run(size: str, device: torch.device) -> Iterator[Comparison]:
    """Measure every set-up of a size, one after the other."""
    ceilings = measure_ceilings(device)
    for setup in SETUPS[size]:
        for how in recordings(device):
            yield _compare(*setup, how=how, device=device, ceilings=ceilings)
    for setup in HOOK_SETUPS[size]:
        yield _compare_hooks(*setup, device=device)


def _pictures(count: int, channels: int, image_size: int) -> ImageData:
    random = np.random.default_rng(0)
    shape = (count, channels, image_size, image_size)
    return ImageData(
        random.integers(0, 256, shape, dtype=np.uint8),
        # A skewed client: half of the classes.
        random.integers(0, CLASSES // 2, count),
        tuple("0123456789"),
    )


def _resident(
    data: ImageData, normalization: Normalization, batch: int, device: torch.device
) -> Batches:
    return Batches(
        data,
        normalization=normalization,
        batch_size=batch,
        augmentation=_augmentation(data),
        device=device,
        channels_last=True,
    )


def _augmentation(data: ImageData) -> str:
    return "crop-flip" if data.channels == 3 else "none"


def _epoch(
    model: Classifier,
    batches: Batches,
    configuration: RunConfiguration,
    received: dict[str, State],
    steps: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> float:
    declared = get(configuration.strategy)
    algorithm = declared.client(configuration)
    algorithm.begin_round(model, received)
    # On a GPU a round of five epochs, with the recording of a step that they share.
    epochs = 5 if device.type == "cuda" else 1
    loss = local_loss(
        declared, configuration, lambda: batches.labels.bincount(minlength=CLASSES), model
    )
    synchronise(device)
    start = now()
    train_locally(
        model,
        batches,
        algorithm,
        generator=torch.Generator().manual_seed(0),
        loss=loss,
        epochs=epochs,
        autocast=autocast,
    )
    return (now() - start) / (steps * epochs)


def seconds_per_step(
    name: str, channels: int, image_size: int, batch: int, steps: int, *, device: torch.device
) -> float:
    """Return what a step of local training takes under FedAvg, in the type the product chooses."""
    batches = _resident(
        _pictures(batch * steps, channels, image_size),
        Normalization((0.5,) * channels, (0.25,) * channels),
        batch,
        device,
    )
    model = models.build(name, classes=CLASSES, channels=channels, image_size=image_size, seed=0)
    autocast = reduced_type(
        "auto",
        device,
        forward_operations(model, (channels, image_size, image_size)),
        BFLOAT16_FROM,
    )
    model = model.to(device).to(memory_format=torch.channels_last)
    configuration = RunConfiguration.parse({"strategy": "fedavg"})
    _epoch(model, batches, configuration, {}, steps, device, autocast)  # warms up
    return _epoch(model, batches, configuration, {}, steps, device, autocast)


def _compare(
    name: str,
    channels: int,
    image_size: int,
    batch: int,
    steps: int,
    *,
    how: str,
    device: torch.device,
    ceilings: dict[str, float],
) -> Comparison:
    data = _pictures(batch * steps, channels, image_size)
    normalization = Normalization((0.5,) * channels, (0.25,) * channels)
    configuration = RunConfiguration.parse({"strategy": "fedavg"})
    plain, ours = (
        models.build(name, classes=CLASSES, channels=channels, image_size=image_size, seed=0).to(
            device
        )
        for _ in range(2)
    )
    ours = ours.to(memory_format=torch.channels_last)
    batches = _resident(data, normalization, batch, device)

    def textbook() -> float:
        start = now()
        textbook_training(
            plain,
            data,
            normalization,
            crop_and_flip=_augmentation(data) == "crop-flip",
            batch_size=batch,
            learning_rate=configuration.learning_rate,
            momentum=configuration.momentum,
            weight_decay=configuration.weight_decay,
            device=device,
        )
        return (now() - start) / steps

    product = partial(_epoch, ours, batches, configuration, {}, steps, device)
    ways: dict[str, Timed] = {"textbook": textbook, f"product, float32{how}": product}
    forward = forward_operations(ours, (channels, image_size, image_size))
    if reduced_type("auto", device, forward, BFLOAT16_FROM) is not None:
        ways[f"product, bfloat16{how}"] = partial(product, torch.bfloat16)
    return Comparison(
        stage="training",
        setup=f"{name}, batches of {batch} images of {channels}x{image_size}x{image_size}, "
        f"augmentation {_augmentation(data)}",
        unit="step",
        variants=[
            Variant(way, seconds, first, "bfloat16" if "bfloat16" in way else "float32")
            for way, (seconds, first) in alternate(ways, REPEATS).items()
        ],
        # Forward, gradient of the features and gradient of the weights.
        operations=3 * batch * forward,
        ceilings=ceilings,
    )


def _compare_hooks(
    name: str, channels: int, image_size: int, batch: int, steps: int, *, device: torch.device
) -> Comparison:
    normalization = Normalization((0.5,) * channels, (0.25,) * channels)
    data = _pictures(batch * steps, channels, image_size)
    batches = _resident(data, normalization, batch, device)
    ways: dict[str, Timed] = {}
    for strategy in ALGORITHMS:
        configuration = RunConfiguration.parse({"strategy": strategy})
        model = models.build(
            name,
            classes=CLASSES,
            channels=channels,
            image_size=image_size,
            projection_dim=configuration.section(MoonSettings).projection_dim
            if get(strategy).projection
            else 0,
            seed=0,
        )
        model = model.to(device).to(memory_format=torch.channels_last)
        # What the server sends from the second round on.
        received: dict[str, State] = {}
        if strategy in ("scaffold", "feddyn"):
            zeros = {key: torch.zeros_like(value) for key, value in model.named_parameters()}
            received[CORRECTION] = {key: value.cpu() for key, value in zeros.items()}
        elif strategy == "moon":
            received[PREVIOUS] = cpu_state(model)
        ways[strategy] = partial(_epoch, model, batches, configuration, received, steps, device)
    return Comparison(
        stage="hooks",
        setup=f"{name}, batches of {batch} images of {channels}x{image_size}x{image_size}",
        unit="step",
        variants=[
            Variant(way, seconds, first)
            for way, (seconds, first) in alternate(ways, REPEATS).items()
        ],
    )
