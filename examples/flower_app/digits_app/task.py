"""The model, the data and the training of a plain Flower app."""

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10
BATCH = 32


def make_model() -> nn.Module:
    """Return a small convolutional network for 8x8 images with values from -1 to 1."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, CLASSES),
    )


def load_data(client: int, clients: int) -> tuple[Tensor, Tensor]:
    """Return a client's images and labels: of one or two classes, if there are ten clients."""
    images, labels = _digits()
    train = np.arange(len(labels)) % 5 != 0
    images, labels = images[train], labels[train]
    # In the order of the labels, cut into as many pieces as there are clients.
    mine = np.array_split(np.argsort(labels.numpy(), kind="stable"), clients)[client]
    return images[mine], labels[mine]


def load_test_data() -> tuple[Tensor, Tensor]:
    """Return a fifth of all images, which no client has."""
    images, labels = _digits()
    return images[::5], labels[::5]


def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    return images, torch.tensor(digits.target)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> float:
    """Train in place and return the mean loss of the last epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    model.train()
    loss = torch.zeros(())
    for _ in range(epochs):
        losses = []
        for rows in _batches(len(labels)):
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        loss = torch.stack(losses).mean()
    return float(loss)


def _batches(count: int) -> Iterator[Tensor]:
    yield from torch.randperm(count).split(BATCH)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that the model has right."""
    model.eval()
    return float((model(images).argmax(1) == labels).float().mean())
