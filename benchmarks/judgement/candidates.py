"""Candidates of known quality: what comes after training, and what each is worth on the test set.

Every federation gives five results of post-training, made by the product's own code, some of which
help and some of which harm. For each of them and every step λ it is written down which test images
the interpolated model classifies correctly.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from distillation import DistillationSettings, distil
from foundation.data import DataSet, Description
from foundation.models import Classifier, State, build, cpu_state, interpolated, load_state
from foundation.models.classifier import add_to_bias
from foundation.settings.configuration import RunConfiguration
from generation import InversionSettings, PseudoData, generate
from post_training.calibration.bias import bias_from_images, bias_from_predictions
from server_app.judgement import STEPS

Flags = npt.NDArray[np.bool_]
#: Flags of results, and counts, by name.
Table = dict[str, npt.NDArray[Any]]

IMAGES_PER_CLIENT = 64
INVERSION = InversionSettings(iterations=100, learning_rate=1.6, schedule="cosine")
#: Shrinkage of a bias fitted on pseudo images: this times ‖b‖² beside the mean cross-entropy.
PENALTY = 0.3
#: Images of a client whose predictions are averaged.
ASKED = 500
#: Test images at most.
SCORED = 4000


@dataclass(frozen=True)
class Federation:
    """A trained federation and its data.

    Parameters
    ----------
    name : str
        What tables call it.
    model : Classifier
        A module of the models' architecture, to load states into.
    global_state : State
        The federated model.
    local_states : list of State
        The clients' models of the last round.
    rows : list of array of int64
        Each client's rows of the training split.
    data_set : DataSet
        Where the data are.
    seed : int
        Source of all randomness.
    """

    name: str
    model: Classifier
    global_state: State
    local_states: list[State]
    rows: Sequence[npt.NDArray[np.int64]]
    data_set: DataSet
    seed: int

    @property
    def description(self) -> Description:
        """What is known of the data set."""
        return self.data_set.describe()

    def images(self, split: str, rows: npt.NDArray[np.int64] | None = None) -> Tensor:
        """Return normalised images of a split, (n, C, H, W) float32."""
        data = self.data_set.load(split)
        images = data.images if rows is None else data.images[rows]
        return self.description.normalization.apply(torch.tensor(images))

    def loaded(self, state: State) -> Classifier:
        """Return the one module there is, in evaluation mode, with a state."""
        load_state(self.model, state)
        return self.model.eval()

    def label_counts(self) -> npt.NDArray[np.int64]:
        """Return (clients, classes) training labels."""
        labels = self.data_set.load("train").labels
        classes = self.description.classes
        return np.stack([np.bincount(labels[rows], minlength=classes) for rows in self.rows])


def read_run(directory: Path) -> Federation:
    """Read a run: its model after the last round, and the local models that it is made of."""
    named = json.loads((directory / "config.json").read_text())["configuration"]
    configuration = RunConfiguration.parse(named)
    description = configuration.data_set.describe()
    steps = sorted((directory / "checkpoints").glob("*-train-*"))
    last = int(steps[-1].name.rsplit("-", 1)[1])
    files = sorted((directory / "checkpoints" / "local_models").glob(f"*-round-{last:04d}.*"))
    return Federation(
        directory.name,
        _model(configuration.model, description),
        load_file(steps[-1] / "global.safetensors"),
        [load_file(file) for file in files],
        list(configuration.division.parts()),
        configuration.data_set,
        configuration.seed,
    )


def read_base(directory: Path, data_dir: str) -> Federation:
    """Read a folder of ``global``, ``local-NN`` (safetensors) and ``partition.npy`` on CIFAR-10."""
    files = sorted(directory.glob("local-*.safetensors"))
    assignment = np.load(directory / "partition.npy")
    data_set = DataSet("cifar10", data_dir)
    return Federation(
        directory.name,
        _model("resnet8", data_set.describe()),
        load_file(directory / "global.safetensors"),
        [load_file(file) for file in files],
        [np.flatnonzero(assignment == client) for client in range(len(files))],
        data_set,
        0,
    )


def _model(name: str, description: Description) -> Classifier:
    return build(
        name,
        classes=description.classes,
        channels=description.channels,
        image_size=description.image_size,
    )


def results(federation: Federation) -> dict[str, State]:
    """Make the five results of post-training: two biases and three distillations."""
    federated = federation.global_state
    data = made_images(federation)
    default = DistillationSettings(batch_size=64, layers="all")
    head_only = replace(default, learning_rate=0.05, layers="head")
    return {
        "bias from predictions": add_to_bias(federated, "head", _bias_from_predictions(federation)),
        "bias from pseudo images": add_to_bias(
            federated, "head", _bias_from_pseudo(federation, data)
        ),
        "head, own teacher": _distilled(federation, data, head_only),
        "whole network, lr 0.002": _distilled(
            federation, data, replace(default, learning_rate=0.002)
        ),
        "whole network, lr 0.01": _distilled(federation, data, default),
    }


def made_images(federation: Federation) -> PseudoData:
    """Invert every local model: IMAGES_PER_CLIENT images each, of the client's own classes."""
    description = federation.description
    return generate(
        lambda client: federation.loaded(federation.local_states[client]),
        budgets=dict.fromkeys(range(len(federation.local_states)), IMAGES_PER_CLIENT),
        label_counts=dict(enumerate(federation.label_counts().tolist())),
        image_shape=(description.channels, *description.image_size),
        settings=INVERSION,
        classes=description.classes,
        pixel_range=description.normalization.bounds(),
        seed=federation.seed,
    ).data


def _distilled(federation: Federation, data: PseudoData, settings: DistillationSettings) -> State:
    student = federation.loaded(federation.global_state)
    result = distil(student, data.images, data.logits, settings, seed=federation.seed)
    return cpu_state(result.model)


@torch.inference_mode()
def logits(model: Classifier, images: Tensor) -> Tensor:
    """Return (n, classes) float64 logits."""
    return torch.cat([model(batch) for batch in images.split(64)]).double()


def _bias_from_predictions(federation: Federation) -> Tensor:
    """Bias = log(share of the labels) - log(mean prediction): sums over clients, one exchange."""
    model = federation.loaded(federation.global_state)
    counts = federation.label_counts()
    predicted = torch.zeros(counts.shape[1], dtype=torch.float64)
    for client, rows in enumerate(federation.rows):
        asked = np.random.default_rng(federation.seed).permutation(rows)[:ASKED]
        mean = logits(model, federation.images("train", asked)).softmax(1).mean(0)
        predicted += counts[client].sum() * mean
    return bias_from_predictions(torch.tensor(counts.sum(0)), predicted)


def _bias_from_pseudo(federation: Federation, data: PseudoData) -> Tensor:
    z = logits(federation.loaded(federation.global_state), data.images)
    return bias_from_images(z, data.labels, PENALTY * z.shape[1])


def correct_images(federation: Federation) -> Table:
    """Tell for every candidate which test images it classifies correctly.

    Returns
    -------
    dict
        ``"labels"``: (n,) true labels; ``"counts"``: (clients, classes) training labels;
        ``"federated"``: (n,) flags; for every result by name (5, n) flags, λ = 0 first.
    """
    every = federation.data_set.load("test").labels
    scored = np.random.default_rng(0).permutation(len(every))[:SCORED]
    labels, images = every[scored], federation.images("test", scored)

    def flags(state: State) -> Flags:
        predicted = logits(federation.loaded(state), images).argmax(1).numpy()
        return np.asarray(predicted == labels)

    federated = flags(federation.global_state)
    table: Table = {
        "labels": labels,
        "counts": federation.label_counts(),
        "federated": federated,
    }
    for name, result in results(federation).items():
        rows = [flags(interpolated(federation.global_state, result, step)) for step in STEPS[1:]]
        table[name] = np.stack([federated, *rows])
    return table
