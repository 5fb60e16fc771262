"""Distillation: the original's form, evaluating after every batch, against ours."""

import copy
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.measure import Comparison, Timed, Variant, alternate, now, synchronise
from benchmarks.textbook import textbook_distillation
from distillation import DistillationSettings, distil
from foundation import models

REPEATS = 5

# (model, channels, image size, pseudo images, test images, epochs). What an evaluation after every
# batch costs depends on how many batches an epoch has, so the full size has the original's counts:
# 100 batches of 256 images and 10,000 test images, with a model that makes it bearable. The small
# one has a quarter of both.
SETUPS = {
    "tiny": [("resnet8", 1, 8, 16, 16, 1)],
    "small": [("resnet8", 1, 8, 640, 360, 3), ("resnet8", 1, 8, 6400, 2500, 1)],
    "gpu": [("resnet18", 3, 32, 2560, 2500, 1)],
    "full": [
        ("resnet8", 1, 8, 640, 360, 10),
        ("resnet8", 1, 8, 25600, 10000, 1),
        ("resnet18", 3, 32, 2560, 10000, 1),
    ],
}


def run(size: str, device: torch.device) -> Iterator[Comparison]:
    """Measure every set-up of a size, one after the other."""
    for setup in SETUPS[size]:
        yield _compare(*setup, device=device)


def _compare(
    name: str,
    channels: int,
    image_size: int,
    images: int,
    test_images: int,
    epochs: int,
    *,
    device: torch.device,
) -> Comparison:
    student = models.build(name, classes=10, channels=channels, image_size=image_size, seed=0)
    torch.manual_seed(0)
    data = torch.randn(images, channels, image_size, image_size)
    logits = 5 * torch.randn(images, 10)
    test_data = torch.randn(test_images, channels, image_size, image_size)
    test_labels = torch.randint(0, 10, (test_images,))
    settings = DistillationSettings(epochs=epochs, batch_size=256)

    def evaluate(_: int, model: torch.nn.Module, __: float) -> None:
        with torch.no_grad():
            for start in range(0, test_images, 1000):
                guesses = model(resident[start : start + 1000]).argmax(dim=1)
                hits.append((guesses == resident_labels[start : start + 1000]).sum())

    resident, resident_labels = test_data.to(device), test_labels.to(device)
    hits: list[torch.Tensor] = []

    def textbook() -> float:
        model = copy.deepcopy(student).to(device)
        start = now()
        textbook_distillation(
            model,
            data,
            logits,
            test_data,
            test_labels,
            epochs=epochs,
            batch_size=settings.batch_size,
            temperature=settings.temperature,
            weight=settings.weight,
            seed=0,
            device=device,
        )
        return (now() - start) / epochs

    def product(evaluated: bool) -> float:
        hits.clear()
        start = now()
        distil(
            student,
            data,
            logits,
            settings,
            seed=0,
            device=device,
            after_epoch=evaluate if evaluated else None,
        )
        synchronise(device)
        return (now() - start) / epochs

    ways: dict[str, Timed] = {
        "textbook": textbook,
        "evaluated every epoch": partial(product, True),
        "not evaluated": partial(product, False),
    }
    times = alternate(ways, REPEATS)
    return Comparison(
        stage="distillation",
        setup=f"{name}, {images} pseudo and {test_images} test images "
        f"of {channels}x{image_size}x{image_size}",
        unit="epoch",
        variants=[Variant(way, seconds, first) for way, (seconds, first) in times.items()],
    )
