"""Several clients on the processors of one machine: one after the other, or side by side.

The textbook loop goes from client to client, each with all threads. The product's local engine
gives every processor a client (``Workers``), for training and for inversion. So that what the
processes gain is not taken for what the code gains, the textbook loop is shared out as well.

Always by the wall clock: other processes' time is not this one's.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Comparison, Variant, alternate
from benchmarks.textbook import textbook_inversion, textbook_training
from client_app.site import BFLOAT16_FROM
from client_app.training import train_locally
from foundation import models
from foundation.data import Batches, ImageData, Normalization
from foundation.models import Classifier
from foundation.models.device import reduced_type
from foundation.processes import Workers, cores
from foundation.settings.configuration import RunConfiguration
from generation import InversionSettings, forward_operations
from generation.sharing import Conditions, Order, invert_all
from strategies import get

REPEATS = 5


class Work(Protocol):
    """One client's part of a stage, done by either code; small, hashable and picklable."""

    @property
    def steps(self) -> int: ...

    @property
    def stage(self) -> str: ...

    @property
    def setup(self) -> str: ...

    def textbook(self) -> None: ...

    def product(self) -> None: ...

    def product_side_by_side(self, workers: Workers, clients: int) -> None: ...


def run(size: str, device: torch.device) -> Iterator[Comparison]:
    """Measure every set-up of a size; nothing on a GPU, where clients take turns."""
    if device.type != "cpu":
        return
    for work in SETUPS[size]:
        yield _compare(work, max(2, cores()))


def _compare(work: Work, clients: int) -> Comparison:
    with Workers(clients) as workers:
        ways: dict[str, Callable[[], Any]] = {
            "textbook, one by one": lambda: _in_turn(_textbook, work, clients),
            "textbook, side by side": lambda: _shared_out(workers, _textbook, work, clients),
            "product, one by one": lambda: _in_turn(_product, work, clients),
            "product, side by side": lambda: work.product_side_by_side(workers, clients),
        }
        ways = {way: partial(_per_step, do, clients * work.steps) for way, do in ways.items()}
        times = alternate(ways, REPEATS)
    return Comparison(
        stage=work.stage,
        setup=f"{work.setup}, {clients} clients",
        unit="step of one client",
        variants=[Variant(way, seconds, first) for way, (seconds, first) in times.items()],
    )


def _per_step(do: Callable[[], Any], steps: int) -> float:
    start = time.perf_counter()
    do()
    return (time.perf_counter() - start) / steps


def _in_turn(task: Callable[..., None], work: Work, clients: int) -> None:
    for _ in range(clients):
        task(None, work)


def _shared_out(workers: Workers, task: Callable[..., None], work: Work, clients: int) -> None:
    for client in range(clients):
        workers.submit(str(client), task, work)
    while workers.free < workers.count:
        for event in workers.events():
            if event.error is not None:
                raise event.error


def _textbook(report: Any, work: Work) -> None:
    work.textbook()


def _product(report: Any, work: Work) -> None:
    work.product()


# ---------------------------------------------------------------------------------- local training


@dataclass(frozen=True)
class Training:
    """An epoch of local training under FedAvg, in the precision the product chooses."""

    model: str
    channels: int
    image_size: int
    batch: int
    steps: int
    stage = "training of clients"

    @property
    def setup(self) -> str:
        return (
            f"{self.model}, batches of {self.batch} images of "
            f"{self.channels}x{self.image_size}x{self.image_size}, {self.steps} steps"
        )

    def textbook(self) -> None:
        site = _training_site(self)
        textbook_training(
            site.plain,
            site.data,
            site.normalization,
            crop_and_flip=self.channels == 3,
            batch_size=self.batch,
            learning_rate=site.configuration.learning_rate,
            momentum=site.configuration.momentum,
            weight_decay=site.configuration.weight_decay,
            device=torch.device("cpu"),
        )

    def product(self) -> None:
        site = _training_site(self)
        train_locally(
            site.ours,
            site.batches,
            get("fedavg").client(site.configuration),
            generator=torch.Generator().manual_seed(0),
            epochs=1,
            autocast=site.autocast,
        )

    def product_side_by_side(self, workers: Workers, clients: int) -> None:
        _shared_out(workers, _product, self, clients)


class _TrainingSite:
    """What a client keeps between two rounds."""

    def __init__(self, work: Training) -> None:
        random = np.random.default_rng(0)
        count, side = work.batch * work.steps, work.image_size
        self.data = ImageData(
            random.integers(0, 256, (count, work.channels, side, side), dtype=np.uint8),
            random.integers(0, 10, count),
            tuple("0123456789"),
        )
        self.normalization = Normalization((0.5,) * work.channels, (0.25,) * work.channels)
        self.configuration = RunConfiguration.parse({"strategy": "fedavg"})
        self.plain, ours = (_model(work.model, work.channels, side) for _ in range(2))
        self.ours = ours.to(memory_format=torch.channels_last)
        self.batches = Batches(
            self.data,
            normalization=self.normalization,
            batch_size=work.batch,
            augmentation="crop-flip" if work.channels == 3 else "none",
            channels_last=True,
        )
        forward = forward_operations(ours, (work.channels, side, side))
        self.autocast = reduced_type("auto", torch.device("cpu"), forward, BFLOAT16_FROM)


_training_site = lru_cache(maxsize=1)(_TrainingSite)


# ---------------------------------------------------------------------------------------- inversion


@dataclass(frozen=True)
class Inverting:
    """Inversion of one client's model into common or, with a competition weight, hard samples."""

    model: str
    channels: int
    image_size: int
    images: int
    steps: int
    competition_weight: float = 0.0
    stage = "inversion of clients"

    @property
    def setup(self) -> str:
        kind = "hard" if self.competition_weight else "common"
        return (
            f"{self.model}, {self.images} {kind} samples of "
            f"{self.channels}x{self.image_size}x{self.image_size}, {self.steps} steps"
        )

    @property
    def settings(self) -> InversionSettings:
        # The textbook loop knows no schedule.
        return InversionSettings(
            iterations=self.steps,
            learning_rate=0.1,
            schedule="constant",
            competition_weight=self.competition_weight,
            jitter=0,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.image_size, self.image_size

    @property
    def labels(self) -> Tensor:
        return torch.arange(self.images) % 10

    def textbook(self) -> None:
        local, other = _inverted_models(self)
        textbook_inversion(
            local,
            torch.randn(self.images, *self.shape),
            self.labels,
            [(0, 0)] * self.steps,
            self.settings,
            other,
        )

    def product(self) -> None:
        self._invert(None, 1)

    def product_side_by_side(self, workers: Workers, clients: int) -> None:
        self._invert(workers, clients)

    def _invert(self, workers: Workers | None, clients: int) -> None:
        local, other = _inverted_models(self)
        conditions = Conditions(
            self.shape, self.settings, other, None, "cpu", expected_images=clients * self.images
        )
        orders = (Order(client, local, self.labels, client) for client in range(clients))
        for _ in invert_all(orders, conditions, None, workers):
            pass


@lru_cache(maxsize=1)
def _inverted_models(work: Inverting) -> tuple[Classifier, Classifier]:
    """Return a local and a global model, with statistics as of trained ones."""
    local, other = (_model(work.model, work.channels, work.image_size) for _ in range(2))
    torch.manual_seed(0)
    for model in (local, other):
        with torch.no_grad():
            model.train()(torch.randn(256, *work.shape))
        model.eval()
    return local, other


def _model(name: str, channels: int, image_size: int) -> Classifier:
    return models.build(name, classes=10, channels=channels, image_size=image_size, seed=0)


SETUPS: dict[str, list[Work]] = {
    "tiny": [Training("resnet8", 1, 8, 4, 2), Inverting("resnet8", 1, 8, 4, 2, 10.0)],
    "small": [
        Training("resnet8", 1, 8, 16, 100),
        Training("resnet8", 3, 32, 64, 30),
        Inverting("resnet8", 1, 8, 64, 100),
        Inverting("resnet8", 1, 8, 64, 100, 10.0),
    ],
    "full": [
        Training("resnet8", 1, 8, 16, 500),
        Training("resnet8", 3, 32, 64, 100),
        Training("resnet18", 3, 32, 64, 10),
        Inverting("resnet8", 1, 8, 64, 500),
        Inverting("resnet8", 1, 8, 64, 500, 10.0),
        Inverting("resnet18", 3, 32, 64, 10),
    ],
}
