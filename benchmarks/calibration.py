"""Every way to calibrate, on trained federations: ``python -m benchmarks.calibration --base …``.

Nothing is trained: the last round's models are read, the clients' answers are computed from their
training images, and pseudo images are made once. Each way is run by the product's own code, as
``post-training=calibration`` would. Printed are the accuracy on training images (those that no
client holds, if there are enough; equally many of every class; what to choose settings by), on the
test images, the mean cross-entropy there, and the seconds after answers and images are there.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from foundation.models import State
from foundation.models.class_statistics import class_sums
from foundation.models.classifier import LinearHead
from foundation.models.evaluation import features_of
from foundation.settings.configuration import RunConfiguration
from generation import PseudoData
from post_training import ClassStatistics, Inputs, Settings, StatisticsRequest, methods
from post_training.library import TrainedModels
from questions.class_statistics import ClientStatistics, added

from .judgement.candidates import Federation, made_images, read_base, read_run

#: Settings of ``calibration`` by the name that tables give them.
WAYS: dict[str, dict[str, object]] = {
    "bias, pseudo, λ = 0": {"from": "pseudo", "penalty": 0.0},
    "bias, pseudo, λ = 0.1": {"from": "pseudo", "penalty": 0.1},
    "bias, pseudo, λ = 0.3": {"from": "pseudo", "penalty": 0.3},
    "bias, pseudo, λ = 1": {"from": "pseudo", "penalty": 1.0},
    "bias, predictions": {"from": "predictions"},
    "bias, predictions, twice": {"from": "predictions", "exchanges": 2},
    "head, pseudo": {"of": "head", "from": "pseudo"},
    "head, means, pseudo covariance": {"of": "head", "from": "means"},
    "head, means, spread": {"of": "head", "from": "means", "covariance": "spread"},
    "head, moments": {"of": "head", "from": "moments"},
    "head, covariances": {"of": "head", "from": "covariances"},
}
#: Fewest images of a class whose features are told, the default of class-statistics-minimum.
MINIMUM = 5


class Answers:
    """The clients of a federation, who answer from their training images.

    Parameters
    ----------
    federation : Federation
        Its models and rows.
    share : float
        Of every client's images, drawn by the seed.
    """

    def __init__(self, federation: Federation, share: float) -> None:
        self._federation = federation
        random = np.random.default_rng(federation.seed)
        self._rows = [
            random.permutation(rows)[: math.ceil(share * len(rows))] for rows in federation.rows
        ]
        self._given: dict[tuple[float, ...], ClassStatistics] = {}
        #: Seconds spent on answering, which the clients would do at the same time.
        self.seconds = 0.0

    @cached_property
    def _labels(self) -> npt.NDArray[np.int64]:
        return self._federation.data_set.load("train").labels

    def __call__(self, request: StatisticsRequest) -> ClassStatistics:
        """Answer all that can be asked at once, and remember it by the model."""
        started = time.perf_counter()
        # Until it is answered last, nothing but the bias changes.
        key = tuple(request.state["head.bias"].tolist())
        if key not in self._given:
            self._given[key] = added(
                tuple(range(len(self._rows))), [self._one(request.state, r) for r in self._rows]
            )
        given = self._given[key]
        self.seconds += time.perf_counter() - started
        return ClassStatistics(
            clients=given.clients,
            images=given.images,
            label_counts=given.label_counts,
            predictions=given.predictions if request.predictions else None,
            feature_sums=given.feature_sums if request.means else None,
            feature_counts=given.feature_counts if request.means else None,
            moment=given.moment if request.moment else None,
            class_moments=given.class_moments if request.class_moments else None,
            mean_products=given.mean_products if request.means else None,
            means_added=given.means_added if request.means else 0,
        )

    def _one(self, state: State, rows: npt.NDArray[np.int64]) -> ClientStatistics:
        federation = self._federation
        labels = torch.from_numpy(self._labels[rows])
        counts = labels.bincount(minlength=federation.description.classes)
        images = federation.images("train", rows)
        sums = class_sums(
            federation.loaded(state),
            zip(images.split(256), labels.split(256), strict=True),
            counts,
            predictions=True,
            means=True,
            moment=True,
            class_moments=True,
            minimum=MINIMUM,
        )
        return ClientStatistics(len(rows), sums, counts.tolist())


def scored(state: State, features: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy in % and the mean cross-entropy of a state's head on features."""
    logits = LinearHead.of(state).logits(features)
    right = float((logits.argmax(1) == labels).double().mean())
    return 100 * right, float(F.cross_entropy(logits, labels))


def sample(federation: Federation, split: str, per_class: int) -> tuple[Tensor, Tensor]:
    """Return features of images of a split and their labels, equally many of each class.

    Of the training images those are taken that no client holds, if there are enough.
    """
    labels = federation.data_set.load(split).labels
    order = np.random.default_rng(1).permutation(len(labels))
    if split == "train":
        free = order[~np.isin(order, np.concatenate(federation.rows))]
        if np.bincount(labels[free], minlength=federation.description.classes).min() >= per_class:
            order = free
    rows = np.concatenate(
        [order[labels[order] == c][:per_class] for c in range(federation.description.classes)]
    )
    model = federation.loaded(federation.global_state)
    return features_of(model, federation.images(split, rows)), torch.from_numpy(labels[rows])


def pseudo_images(federation: Federation, folder: Path | None) -> PseudoData:
    """Make images as the judgement study does, or read those of a run before."""
    file = None if folder is None else folder / f"{federation.name}.safetensors"
    if file is not None and file.exists():
        return PseudoData(**load_file(file))
    data = made_images(federation)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({field.name: getattr(data, field.name) for field in fields(data)}, file)
    return data


def table(
    federation: Federation, data: PseudoData, *, share: float, per_class: int, ways: Sequence[str]
) -> None:
    """Print one line for every way."""
    answers = Answers(federation, share)
    shape = (federation.description.channels, *federation.description.image_size)
    trained = TrainedModels(
        federation.model,
        federation.global_state,
        dict(enumerate(federation.local_states)),
        {client: len(rows) for client, rows in enumerate(federation.rows)},
        Inputs(
            shape, federation.description.classes, federation.description.normalization.bounds()
        ),
        counts=dict(enumerate(federation.label_counts().tolist())),
        ask=answers,
    )
    chosen_by, test = (sample(federation, split, per_class) for split in ("train", "test"))
    print(f"\n{federation.name}: {len(federation.local_states)} clients", flush=True)
    print("| | training images | test | cross-entropy | seconds |\n|---|---|---|---|---|")

    def line(name: str, seconds: float) -> None:
        fitted, _ = scored(trained.global_state, *chosen_by)
        accuracy, loss = scored(trained.global_state, *test)
        print(
            f"| {name} | {fitted:.1f} | {accuracy:.1f} | {loss:.2f} | {seconds:.2f} |", flush=True
        )

    line("federated", 0.0)
    for name in ways:
        trained.global_state = federation.global_state
        trained.begin_method()
        trained.store["images"] = data
        trained.commit("images")
        keys = {f"calibration.{key}": value for key, value in WAYS[name].items()}
        configuration = RunConfiguration.parse({**keys, "seed": federation.seed})
        before, asking = trained.seconds.get("calibrated", 0.0), answers.seconds
        methods()["calibration"].run(trained, Settings.of(configuration))
        spent = trained.seconds["calibrated"] - before
        line(name, spent - (answers.seconds - asking))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--run", type=Path, action="append", default=[], help="a run's directory")
    parser.add_argument("--base", type=Path, action="append", default=[])
    parser.add_argument("--data-dir", default="", help="CIFAR-10, for the bases")
    parser.add_argument("--images", type=Path, help="folder that keeps the pseudo images")
    parser.add_argument("--share", type=float, default=1.0, help="of a client's images answer")
    parser.add_argument("--per-class", type=int, default=200, help="images that score, per class")
    parser.add_argument("--ways", default=";".join(WAYS), help="some of them, separated by ;")
    arguments = parser.parse_args()
    federations = [read_run(run) for run in arguments.run]
    federations += [read_base(base, arguments.data_dir) for base in arguments.base]
    for federation in federations:
        table(
            federation,
            pseudo_images(federation, arguments.images),
            share=arguments.share,
            per_class=arguments.per_class,
            ways=arguments.ways.split(";"),
        )


if __name__ == "__main__":
    main()
