"""Model inversion and distillation as a library: one torchvision classifier, no federation.

A teacher is trained on scikit-learn's digits. From its weights alone pseudo images are made, and a
student with fresh weights learns from them; it never sees a real image. A second student learns
from as many images of noise, to show that it is the inversion that carries the knowledge.

    python examples/invert_torchvision.py
    python examples/invert_torchvision.py --model mobilenet_v3_small --iterations 300
"""

import argparse
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from distillation import DistillationSettings, distil
from foundation.models import fit_threads
from foundation.processes import threads
from generation import InversionSettings, forward_operations, invert

SHAPE = (3, 32, 32)
CLASSES = 10
# The digits' values 0..16 become -1..1: the lowest and the highest value of a pixel, per channel.
PIXEL_RANGE = ((-1.0,) * 3, (1.0,) * 3)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images and labels and test images and labels, in the shape networks want."""
    data = load_digits()
    pixels = torch.tensor(data.images / 8 - 1, dtype=torch.float32).unsqueeze(1)
    images = F.interpolate(pixels, size=SHAPE[1:], mode="bilinear").expand(-1, *SHAPE)
    train, test = train_test_split(
        torch.arange(len(images)), test_size=0.25, random_state=0, stratify=data.target
    )
    labels = torch.tensor(data.target)
    return images[train].contiguous(), labels[train], images[test].contiguous(), labels[test]


def network(name: str, seed: int) -> nn.Module:
    """Build a torchvision classifier with fresh weights."""
    torch.manual_seed(seed)
    built: nn.Module = torchvision.models.get_model(name, num_classes=CLASSES)
    return built


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Train a model in place, the usual way."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        # Batches of equal size: BatchNorm learns little from a last one of three images.
        for rows in torch.randperm(len(images), generator=generator).tensor_split(
            len(images) // 64
        ):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose class a model names."""
    model.eval()
    return float((model(images).argmax(dim=1) == labels).float().mean())


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train a teacher, invert it, distil two students, and return the test accuracies."""
    parser = argparse.ArgumentParser(description="Data-free distillation of a torchvision model.")
    parser.add_argument("--model", default="shufflenet_v2_x0_5", help="a torchvision classifier")
    parser.add_argument("--epochs", type=int, default=12, help="of the teacher")
    parser.add_argument("--images", type=int, default=200, help="pseudo images to make")
    parser.add_argument("--iterations", type=int, default=100, help="steps of the inversion")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)

    images, labels, test_images, test_labels = digits()
    teacher = network(chosen.model, chosen.seed)
    # A network this small computes faster on one thread than on several that wait for each other.
    fit_threads(forward_operations(teacher, SHAPE), threads())
    started = time.perf_counter()
    results: dict[str, float] = {}

    def tell(who: str, model: nn.Module) -> None:
        results[who] = accuracy(model, test_images, test_labels)
        print(f"{who}: {results[who]:.1%} ({time.perf_counter() - started:.0f} s)", flush=True)

    train(teacher, images, labels, chosen.epochs, chosen.seed)
    tell("teacher", teacher)

    # The inversion is told the teacher, the wanted classes and the range of a pixel; nothing else.
    inverted = invert(
        teacher,
        torch.arange(chosen.images) % CLASSES,
        SHAPE,
        InversionSettings(iterations=chosen.iterations, learning_rate=0.1, schedule="constant"),
        pixel_range=PIXEL_RANGE,
        seed=chosen.seed,
    )
    settings = DistillationSettings(
        epochs=30,
        batch_size=64,
        learning_rate=0.05,
        statistics="update",  # a student with fresh weights remembers none worth keeping
    )
    student = network(chosen.model, chosen.seed + 1)
    distilled = distil(student, inverted.images, inverted.logits, settings, seed=chosen.seed)
    tell("student, from pseudo images", distilled.model)

    generator = torch.Generator().manual_seed(chosen.seed)
    noise = torch.rand(inverted.images.shape, generator=generator) * 2 - 1
    with torch.no_grad():
        answers = teacher(noise)
    distilled = distil(student, noise, answers, settings, seed=chosen.seed)
    tell("student, from noise", distilled.model)
    return results


if __name__ == "__main__":
    main()
