"""Candidates from trained weights: heads on the features of a frozen encoder.

The encoder is run once over a folder of photographs. For every seed the training images are divided
over clients, a head is trained by federated averaging on the features, and two results of
post-training are made of it by the product's own functions: its bias corrected from the clients'
predictions, and the head in closed form. Flags are those of :mod:`.candidates`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from foundation.data import DataSet, Normalization
from foundation.data.partitions import partition
from foundation.models import build
from foundation.models.classifier import LinearHead
from foundation.models.closed_form import FeatureSums
from foundation.models.evaluation import features_of
from foundation.models.initial_weights import fitted, pixel_constants, read_weights
from foundation.settings.calibration import HeadSettings
from post_training.calibration.bias import bias_from_predictions
from post_training.closed_form_head import grid_of
from server_app.judgement import STEPS

from .candidates import Flags, Table

Counts = npt.NDArray[np.int64]

MODEL, WEIGHTS = "efficientnet_lite0", "imagenet"
#: Federated averaging of the head: rounds, local epochs, batch and step size.
ROUNDS, EPOCHS, BATCH, RATE = 5, 5, 32, 0.01


def tables(data_dir: str, side: int, clients: int, alpha: float, seeds: int) -> dict[str, Table]:
    """Return a table for every seed, by a name."""
    data = DataSet("folder", data_dir, image_size=side)
    train, test = ((_features(data, split), data.load(split).labels) for split in ("train", "test"))
    name = Path(data_dir).name
    return {
        f"{name}-{side}-{alpha:g}-{seed}": _table(train, test, clients, alpha, seed)
        for seed in range(seeds)
    }


def _features(data: DataSet, split: str) -> Tensor:
    description = data.describe()
    model = build(
        MODEL,
        channels=description.channels,
        image_size=description.image_size,
        classes=description.classes,
    )
    model.load_state_dict(fitted(model, read_weights(WEIGHTS, MODEL)[0], same_classes=False)[0])
    constants = pixel_constants(WEIGHTS, MODEL)
    assert constants is not None
    normalize = Normalization(*constants).apply
    images = torch.tensor(data.load(split).images).split(32)
    return torch.cat([features_of(model.eval(), normalize(part)) for part in images]).double()


def _table(
    train: tuple[Tensor, Counts], test: tuple[Tensor, Counts], clients: int, alpha: float, seed: int
) -> Table:
    (features, labels), (tested, truth) = train, test
    rows = partition(labels, kind="dirichlet", clients=clients, seed=seed, dirichlet_alpha=alpha)
    classes = int(labels.max()) + 1
    counts = np.stack([np.bincount(labels[own], minlength=classes) for own in rows])
    targets = torch.from_numpy(labels)
    torch.manual_seed(seed)
    federated = _averaged(features, targets, rows, classes)
    shares = torch.from_numpy(counts.sum(0)).double()
    predictions = federated.logits(features).softmax(1).sum(0)
    bias = bias_from_predictions(shares, predictions)
    member = F.one_hot(targets, classes).double()
    sums = FeatureSums(features.T @ features, member.T @ features, member.sum(0))
    results = {
        "bias, predictions": LinearHead(federated.weight, federated.bias + bias),
        "head, closed form": grid_of(sums, HeadSettings())[0].head,
    }

    def flags(head: LinearHead) -> Flags:
        return np.asarray(head.logits(tested).argmax(1).numpy() == truth)

    table: Table = {
        "labels": truth,
        "counts": counts,
        "federated": flags(federated),
    }
    for name, head in results.items():
        steps = [_between(federated, head, step) for step in STEPS]
        table[name] = np.stack([flags(step) for step in steps])
    return table


def _between(start: LinearHead, end: LinearHead, step: float) -> LinearHead:
    return LinearHead(
        start.weight + step * (end.weight - start.weight),
        start.bias + step * (end.bias - start.bias),
    )


def _averaged(features: Tensor, labels: Tensor, rows: Sequence[Counts], classes: int) -> LinearHead:
    """Train a head by federated averaging on features."""
    weight, bias = torch.zeros(classes, features.shape[1]).double(), torch.zeros(classes).double()
    sizes = torch.tensor([len(own) for own in rows]).double()
    for _ in range(ROUNDS):
        heads = [_trained(features[own], labels[own], weight, bias) for own in rows]
        shares = sizes / sizes.sum()
        weight = sum(share * head.weight for share, head in zip(shares, heads, strict=True))
        bias = sum(share * head.bias for share, head in zip(shares, heads, strict=True))
    return LinearHead(weight, bias)


def _trained(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> LinearHead:
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer = torch.optim.SGD([weight, bias], RATE, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(features[batch] @ weight.T + bias, labels[batch]).backward()
            optimizer.step()
    return LinearHead(weight.detach(), bias.detach())
