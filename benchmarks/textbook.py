"""The plain, obviously right version of each stage: what the product's fast path is compared with.

Written the way the published scripts work: eager, float32, contiguous, gradients of the weights
computed and thrown away, a number read back from the device in every step.
"""

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from foundation.data import ImageData, Normalization
from generation import InversionSettings
from generation.engine import BETAS, COMPETITION_TEMPERATURE


def textbook_inversion(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    offsets: Sequence[tuple[int, int]],
    settings: InversionSettings,
    global_model: nn.Module | None = None,
) -> tuple[Tensor, list[float]]:
    """Invert a model the way the literature writes it down (corrected form of the objective).

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, weights requiring gradients.
    images : Tensor
        (n, C, H, W), the start.
    labels : Tensor
        (n,) int64.
    offsets : sequence of pairs
        The roll of every step; its length is the number of steps.
    settings : InversionSettings
        Weights of the terms and of Adam.
    global_model : nn.Module or None (default: None)
        For the competition term.

    Returns
    -------
    tuple
        The last images and the objective of every step.
    """
    images = images.clone().requires_grad_()
    optimizer = torch.optim.Adam([images], lr=settings.learning_rate, betas=BETAS)
    inputs: list[tuple[nn.BatchNorm2d, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, args, output: inputs.append((layer, args[0])))
        for layer in model.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    history = []
    for offset in offsets:
        optimizer.zero_grad()
        model.zero_grad()
        inputs.clear()
        rolled = torch.roll(images, offset, dims=(2, 3))
        logits = model(rolled)
        loss = F.cross_entropy(logits, labels)
        for layer, features in inputs:
            assert layer.running_mean is not None and layer.running_var is not None
            mean = features.mean(dim=(0, 2, 3))
            var = features.transpose(0, 1).flatten(1).var(dim=1, unbiased=False)
            deviation = (mean - layer.running_mean).norm() + (var - layer.running_var).norm()
            loss = loss + settings.bn_weight * deviation
        variation = torch.zeros((), device=images.device)
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            height, width = rolled.shape[2:]
            here = rolled[:, :, : height - dy, max(0, -dx) : width - max(0, dx)]
            there = rolled[:, :, dy:, max(0, dx) : width - max(0, -dx)]
            variation = variation + 16 * (here - there).flatten(1).norm(dim=1).mean()
        loss = loss + settings.tv_weight * variation
        loss = loss + settings.l2_weight * 16 * rolled.flatten(1).norm(dim=1).mean()
        if settings.competition_weight > 0:
            assert global_model is not None
            temperature = COMPETITION_TEMPERATURE
            p = F.softmax(logits / temperature, dim=1)
            q = F.softmax(global_model(rolled) / temperature, dim=1)
            m = (p + q) / 2
            divergence = (p * (p / m).log() + q * (q / m).log()).sum(dim=1).mean() / 2
            loss = loss + settings.competition_weight * (1 - divergence / math.log(2.0))
        history.append(loss.item())
        loss.backward()
        optimizer.step()
    for hook in hooks:
        hook.remove()
    return images.detach(), history


def textbook_distillation(
    student: nn.Module,
    images: Tensor,
    logits: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    epochs: int,
    batch_size: int,
    temperature: float,
    weight: float,
    seed: int,
    device: torch.device,
) -> float:
    """Distil as the published script does, evaluating on the test images after every batch.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    images, logits : Tensor
        (n, C, H, W) and (n, classes), the pseudo data.
    test_images, test_labels : Tensor
        What is evaluated after every batch and every epoch.
    epochs, batch_size : int
        Passes over the pseudo data, images per step.
    temperature, weight : float
        Of the distillation loss.
    seed : int
        Of the order of the images.
    device : torch.device
        Where the student is; batches are moved there one by one.

    Returns
    -------
    float
        Accuracy after the last step.
    """
    generator = torch.Generator().manual_seed(seed)
    data = torch.utils.data.TensorDataset(images, logits)
    tests = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(test_images, test_labels), batch_size=64
    )

    def evaluate() -> float:
        student.eval()
        correct = 0
        with torch.no_grad():
            for x, y in tests:
                x, y = x.to(device), y.to(device)
                correct += (student(x).argmax(dim=1) == y).sum().item()
        student.train()
        return correct / len(test_labels)

    accuracy = 0.0
    for _ in range(epochs):
        optimizer = torch.optim.SGD(
            student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True
        )
        loader = torch.utils.data.DataLoader(
            data, batch_size=batch_size, shuffle=True, generator=generator
        )
        student.train()
        for x, z in loader:
            x, z = x.to(device), z.to(device)
            optimizer.zero_grad()
            soft = F.softmax(z / temperature, dim=1)
            guess = F.log_softmax(student(x) / temperature, dim=1)
            loss = weight * temperature**2 * F.kl_div(guess, soft, reduction="batchmean")
            loss.item()
            loss.backward()
            optimizer.step()
            evaluate()
        accuracy = evaluate()
    return accuracy


class _Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Pictures that are transformed one by one when they are asked for."""

    def __init__(self, data: ImageData, normalization: Normalization, crop_and_flip: bool) -> None:
        self.data = data
        size = data.image_size
        augmentation = [
            transforms.RandomCrop(size, padding=4, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
        ]
        self.transform = transforms.Compose(
            [
                *(augmentation if crop_and_flip else []),
                transforms.ToTensor(),
                transforms.Normalize(normalization.mean, normalization.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        pixels = self.data.images[row].transpose(1, 2, 0)
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return self.transform(picture), int(self.data.labels[row])


def textbook_training(
    model: nn.Module,
    data: ImageData,
    normalization: Normalization,
    *,
    crop_and_flip: bool,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    device: torch.device,
) -> list[float]:
    """Train one epoch with a DataLoader and a transform of every single picture.

    Parameters
    ----------
    model : nn.Module
        Trained in place, on the device.
    data : ImageData
        The pictures.
    normalization : Normalization
        Of the pixels.
    crop_and_flip : bool
        Whether pictures are cropped and flipped at random.
    batch_size : int
        Pictures per step.
    learning_rate, momentum, weight_decay : float
        Of SGD.
    device : torch.device
        Batches are moved there one by one.

    Returns
    -------
    list of float
        Loss of every step.
    """
    loader = torch.utils.data.DataLoader(
        _Pictures(data, normalization, crop_and_flip), batch_size=batch_size, shuffle=True
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    model.train()
    losses = []
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
