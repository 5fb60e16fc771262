"""The preset ``fedf2dg_cifar10``, shrunk to the time that there is, with the accuracy it reaches.

Where Flower is installed it is a run of the local engine. Where it is not, the rounds are federated
averaging in a bare loop (SCAFFOLD's server half is made of Flower's classes), and what follows is
the library's ``post_train``: the same inversion and distillation.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from foundation import models
from foundation.models import cpu_state
from foundation.settings.configuration import RunConfiguration, read_toml
from generation import InversionSettings, invert

from .task import Task
from .without_flower import is_installed

PRESET = Path(__file__).resolve().parents[2] / "presets" / "fedf2dg_cifar10.toml"

# Parts of the time for the rounds, and for the inversion; the rest is distillation, and starting.
_ROUNDS, _INVERSION = 0.4, 0.3
_TOY_SECONDS = 3.0
_TOY = {
    "model": "resnet8",
    "num-clients": 2,
    "min-partition-size": 2,
    "batch-size": 16,
    "generation.images-per-client": 4,
    "distillation.epochs": 1,
    "distillation.batch-size": 4,
}


@dataclass(frozen=True)
class Accuracy:
    """What the shrunk run reached, and where its time went."""

    how: str
    data: str
    settings: dict[str, Any]
    accuracy: dict[str, float | None]
    seconds: dict[str, float | None]
    stage: str = "preset"

    def report(self) -> str:
        reached = ", ".join(
            f"{stage} {value:.2%}" for stage, value in self.accuracy.items() if value is not None
        )
        return f"preset: {self.how}, {self.data}: {reached}"

    def record(self) -> dict[str, Any]:
        return asdict(self)


def shrunk(
    preset: dict[str, Any], seconds: float, images: int, step: float, inversion_step: float
) -> dict[str, Any]:
    """Return what of a preset fits into some time.

    Parameters
    ----------
    preset : dict
        Keys of the run.
    seconds : float
        The time.
    images : int
        Training images of all clients.
    step : float
        Seconds of one step of local training.
    inversion_step : float
        Seconds of one step of the inversion of a client's images.

    Returns
    -------
    dict
        The keys that change: one local epoch, one batch of common samples, no competition, and as
        many rounds and iterations as there is time for, never more than the preset has.
    """
    clients = int(preset["num-clients"])
    # Every client's last batch may be a part of one.
    steps = images / int(preset["batch-size"]) + clients
    rounds = int(_ROUNDS * seconds / (steps * step))
    iterations = int(_INVERSION * seconds / (clients * inversion_step))
    return {
        "local-epochs": 1,
        "num-server-rounds": min(max(1, rounds), int(preset["num-server-rounds"])),
        "generation.batches": 1,
        "generation.iterations": min(max(1, iterations), int(preset["generation.iterations"])),
        # Few iterations need large steps (docs/lab).
        "generation.learning-rate": 1.6,
        "generation.schedule": "cosine",
        "stages": "train,generate,distil",
    }


def shrunk_preset(task: Task) -> Iterator[Accuracy]:
    """Carry out what of the preset fits into the task's time."""
    began = time.monotonic()
    toy = task.size == "toy"
    with tempfile.TemporaryDirectory(prefix="fedf2dg-gpu-") as folder:
        source, told = _data(task.data, Path(folder, "pictures"), toy)
        preset = {**read_toml(PRESET), **(_TOY if toy else {}), **source, "device": task.device}
        configuration = RunConfiguration.parse(preset)
        step, inversion_step = _measured_steps(configuration, task.device)
        images = _images(configuration)
        left = task.seconds - (time.monotonic() - began)
        if toy:
            left = min(left, _TOY_SECONDS)
        settings = shrunk(preset, left, images, step, inversion_step)
        configuration = RunConfiguration.parse(
            {**preset, **settings, "output-dir": str(Path(folder, "run"))}
        )
        run = _as_a_run if is_installed() else _without_flower
        yield run(configuration, told, settings)


def _data(given: Path | None, folder: Path, toy: bool) -> tuple[dict[str, Any], str]:
    if given is not None:
        return {"dataset": "cifar10", "data-dir": str(given)}, "CIFAR-10"
    write_learnable_pictures(folder, each=8 if toy else 500)
    return {"dataset": "folder", "data-dir": str(folder)}, "synthetic pictures"


def write_learnable_pictures(folder: Path, each: int, classes: int = 10, side: int = 32) -> None:
    """Write pictures of classes that can be learned: a pattern of its own each, moved, in noise.

    Parameters
    ----------
    folder : Path
        Gets ``train/CLASS/`` and ``test/CLASS/``, a fifth as many.
    each : int
        Training pictures of a class.
    classes, side : int
        How many classes, and pixels a side.
    """
    random = np.random.default_rng(0)
    coarse = random.uniform(60, 196, (classes, 8, 8, 3))
    patterns = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    for split, count in (("train", each), ("test", max(1, each // 5))):
        for label, pattern in enumerate(patterns):
            target = folder / split / f"class{label}"
            target.mkdir(parents=True)
            for number in range(count):
                moved = np.roll(pattern, random.integers(-6, 7, 2), axis=(0, 1))
                pixels = moved + random.normal(0, 40, pattern.shape)
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                picture.save(target / f"{number}.png", compress_level=1)


def _images(configuration: RunConfiguration) -> int:
    return len(configuration.data_set.load("train"))


def _measured_steps(configuration: RunConfiguration, device: str) -> tuple[float, float]:
    """Return the seconds of a step of local training, and of the inversion, as the run does it."""
    from benchmarks.training import seconds_per_step

    side = 32
    step = seconds_per_step(
        configuration.model, 3, side, configuration.batch_size, 4, device=torch.device(device)
    )
    model = models.build(configuration.model, classes=10, channels=3, image_size=side, seed=0)
    wanted = torch.arange(configuration.generation.images_per_client) % 10
    marks: list[tuple[int, float]] = []
    invert(
        model.eval(),
        wanted,
        (3, side, side),
        InversionSettings(iterations=21),
        seed=0,
        device=device,
        progress=lambda done, _: marks.append((done, time.perf_counter())),
    )
    return step, (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])


def _as_a_run(configuration: RunConfiguration, told: str, settings: dict[str, Any]) -> Accuracy:
    from fedf2dg.simulation.simulate import simulate

    summary = simulate(configuration, "local")
    return Accuracy(
        f"the local engine, {configuration.strategy}",
        told,
        settings,
        summary["accuracy"],
        summary["seconds"],
    )


def _without_flower(
    configuration: RunConfiguration, told: str, settings: dict[str, Any]
) -> Accuracy:
    from benchmarks.bare_loop import federated_averaging
    from post_training.library import post_train

    federation = federated_averaging(configuration)
    description = federation.description
    made = post_train(
        federation.model,
        cpu_state(federation.model),
        dict(enumerate(federation.local_states)),
        {client: site.batches().samples for client, site in enumerate(federation.sites)},
        image_shape=description.image_shape,
        normalization=(description.normalization.mean, description.normalization.std),
        label_counts={
            client: np.bincount(site.data().labels, minlength=description.classes).tolist()
            for client, site in enumerate(federation.sites)
        },
        method="fedf2dg",
        settings={
            name: value
            for name, value in configuration.flat().items()
            if name.startswith(("generation.", "distillation.")) and name != "generation.place"
        },
        device=configuration.device,
        seed=configuration.seed,
        evaluate=lambda model: federation.evaluate(model).accuracy,
    )
    federated = federation.evaluate(federation.model).accuracy
    return Accuracy(
        "a bare loop of federated averaging and the library's post_train",
        told,
        settings,
        {"federated": federated, **made.accuracy},
        {"federated": federation.seconds, **made.seconds},
    )
