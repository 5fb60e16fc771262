"""A generator of images: noise, and a class if it is told one, to pixels; and its losses.

The network of DENSE (Zhang et al. 2022) and Co-Boosting (Dai et al. 2024). FedFTG (Zhang et al.
2022) gives half of the first layer's channels to the class.

The losses are pure functions of logits, noise and images. Let z(x) be the logits of the teacher
(the ensemble of local models), s(x) those of the student (the global model), y the class an image
is made for, and C the number of classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundation.models.classifier import Ensemble

from .engine import InversionError, PixelRange, resident_copy
from .objective import jensen_shannon_each
from .statistics_layer import freeze_statistics

#: Numbers of noise that an image is made from, as in the papers' programs for CIFAR-10.
NOISE = 256
# Where a pixel's range is not known, it is taken to be two standard deviations of normalised data.
_USUAL_END = 2.0
# Initial weights of the papers' programs; a generator is made anew for every batch of images.
_DEVIATION = 0.02


def pixel_bounds(pixel_range: PixelRange | None, channels: int) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value of a pixel, (channels, 1, 1) each.

    Without a range: ±2, two standard deviations of normalised images.
    """
    ends = pixel_range or ((-_USUAL_END,) * channels, (_USUAL_END,) * channels)
    low, high = (torch.tensor(end, dtype=torch.float32).view(-1, 1, 1) for end in ends)
    return low, high


class Generator(nn.Module):
    """Maps noise (n, NOISE), and labels where there are classes, to images (n, C, H, W).

    A linear layer to a quarter of the size, then twice nearest-neighbour enlargement and
    convolution; the last hidden layer has `width` channels, the earlier ones twice as many. The
    seed is that of the initial weights; the global random state is left as it was.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        pixel_range: PixelRange | None,
        *,
        classes: int = 0,
        seed: int,
    ) -> None:
        super().__init__()
        channels, height, self._width = shape
        self._sizes = [
            (math.ceil(height / part), math.ceil(self._width / part)) for part in (4, 2, 1)
        ]
        self._classes = classes
        pixels = math.prod(self._sizes[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.from_noise = nn.Linear(NOISE, (width if classes else 2 * width) * pixels)
            self.from_class = nn.Linear(classes, width * pixels) if classes else None
            self.first = nn.BatchNorm2d(2 * width)
            self.middle = _block(2 * width, 2 * width)
            self.last = _block(2 * width, width)
            self.to_pixels = nn.Conv2d(width, channels, 3, padding=1)
            self.apply(_initialise)
        low, high = pixel_bounds(pixel_range, channels)
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images for noise (n, NOISE); labels (n,) are for a conditional generator."""
        hidden = self.from_noise(noise)
        if self.from_class is not None:
            assert labels is not None, "a conditional generator needs labels"
            told = F.one_hot(labels, self._classes).to(noise.dtype)
            hidden = torch.cat([hidden, self.from_class(told)], dim=1)
        features = self.first(hidden.view(len(noise), -1, *self._sizes[0]))
        features = self.middle(F.interpolate(features, self._sizes[1]))
        features = self.last(F.interpolate(features, self._sizes[2]))
        return self.low + (self.high - self.low) * torch.sigmoid(self.to_pixels(features))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, _DEVIATION)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, _DEVIATION)
        nn.init.zeros_(layer.bias)


def hard_sample_weights(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return (1 - p_y)^γ, (n,): what the teacher already takes for its class counts less.

    Logits z are (n, C), labels y (n,), γ is 0 or more. No gradient flows through the weights, which
    are those of the generator's cross-entropy in Dai et al. 2024.
    """
    probabilities = logits.detach().softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return (1.0 - probabilities).clamp_min(0.0) ** gamma


def disagreement(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, *, only_where_wrong: bool = False
) -> Tensor:
    """Return the mean of T²·KL( softmax(z/T) || softmax(s/T) ), a scalar of 0 or more.

    The gradient flows through both logits, (n, C), and its size does not fall with T.
    `only_where_wrong` counts images whose most likely class the two agree on as 0 (Zhang et al.
    2022, DENSE, the loss of the decision boundary).
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        log_target=True,
        reduction="none",
    ).sum(dim=1)
    if only_where_wrong:
        divergence = divergence * (student.argmax(dim=1) != teacher.argmax(dim=1))
    return temperature**2 * divergence.mean()


def similarity(noise: Tensor, images: Tensor) -> Tensor:
    """Return exp(-mean_ij d(e_i, e_j)·d(x_i, x_j)), in (0, 1]: 1 where all images are the same.

    Distances of noise e, (n, k), are mean squares, those of images x mean absolute differences. The
    diversity term that FedFTG's generator minimises (Zhang et al. 2022).
    """
    flat = images.flatten(1)
    apart = torch.cdist(flat, flat, p=1.0) / flat.shape[1]
    # Squared distances by products, as noise has a gradient nowhere here.
    told_apart = torch.cdist(noise.detach(), noise.detach()).square() / noise.shape[1]
    return torch.exp(-(told_apart * apart).mean())


def class_weighted_losses(
    answers: Tensor, student: Tensor, labels: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return FedFTG's two terms: what the clients' models say of images of class y.

        mean over images of Σ_k α_k,y · CE(z_k, y), 0 or more
        mean over images of Σ_k α_k,y · JS( softmax(s), softmax(z_k) ), of its maximum, in [0, 1]

    Answers z_k are (n, K, C), the student's s (n, C), labels (n,), and weights (n, K): α_k,y, the
    share of client k among the real images of class y; rows sum to 1. Zhang et al. 2022
    ("Fine-tuning Global Model via Data-Free Knowledge Distillation for Non-IID Federated Learning")
    have KL( softmax(s) || softmax(z_k) ) in place of the Jensen-Shannon divergence JS. It has no
    largest value: a generator that looks for it leaves the images behind.
    """
    said = F.log_softmax(answers, dim=2)
    entropy = -said.gather(2, labels[:, None, None].expand(-1, answers.shape[1], 1)).squeeze(2)
    apart = jensen_shannon_each(answers, student[:, None, :], 1.0)
    return (weights * entropy).sum(dim=1).mean(), (weights * apart).sum(dim=1).mean()


# Of both papers' programs.
_BETAS = (0.5, 0.999)


@dataclass(frozen=True)
class Terms:
    """Weights of what a generator is trained for, beside the cross-entropy of the wanted class.

    `bn_weight` is that of the distance to the statistics in the members' BatchNorm layers, mean
    over members; `disagreement_weight` that of the disagreement of ensemble and student, which is
    sought; `gamma` is γ of :func:`.hard_sample_weights`.
    """

    bn_weight: float = 0.0
    disagreement_weight: float = 0.0
    disagreement_temperature: float = 1.0
    only_where_wrong: bool = False
    gamma: float = 0.0


class Synthesis:
    """Makes batches of images against one ensemble, the teacher: copied, never changed.

    For each, Adam takes so many `steps` on a :class:`.Generator` of this `width` for images (C, H,
    W).
    """

    def __init__(
        self,
        ensemble: Ensemble,
        terms: Terms,
        *,
        shape: tuple[int, int, int],
        pixel_range: PixelRange | None,
        steps: int,
        learning_rate: float,
        width: int,
        device: torch.device,
    ) -> None:
        self._terms, self._shape, self._pixel_range = terms, shape, pixel_range
        self._steps, self._learning_rate, self._width = steps, learning_rate, width
        self._device = device
        self._deviations: list[Tensor] = []
        self._ensemble = resident_copy(ensemble, device)
        freeze_statistics(self._ensemble, self._deviations if terms.bn_weight > 0 else None)

    def make(
        self, student: nn.Module, labels: Tensor, *, seed: int, weights: Tensor | None = None
    ) -> tuple[Tensor, float]:
        """Make one image for each label, (n,) int64; n is at least 2: the generator has BatchNorm.

        Returned are the images, (n, C, H, W) float32 on the CPU, and the objective before the last
        step. The student, the model to disagree with, is copied. The generator's weights and noise
        depend on `seed` alone; `weights`, (K,), are those of the ensemble's members (None: as they
        were). An :class:`InversionError` says that the objective stopped being a finite number.
        """
        if weights is not None:
            self._ensemble.get_buffer("weights").copy_(weights)
        generator = Generator(self._shape, self._width, self._pixel_range, seed=seed)
        generator = generator.to(self._device).to(memory_format=torch.channels_last)
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn((len(labels), NOISE), generator=draw).to(self._device).requires_grad_()
        optimizer = torch.optim.Adam(
            [*generator.parameters(), noise], self._learning_rate, betas=_BETAS
        )
        targets, rival = labels.to(self._device), resident_copy(student, self._device)
        loss = noise.new_zeros(())
        for _ in range(self._steps):
            loss = self._objective(generator(noise), rival, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if not math.isfinite(value := loss.item()):
            raise InversionError(
                f"the generator's objective became {value}: lower generator-learning-rate, and "
                "check that the local models' weights and BatchNorm statistics are finite"
            )
        with torch.no_grad():
            images = generator(noise)
        return images.cpu().contiguous(), value

    def _objective(self, images: Tensor, rival: nn.Module, labels: Tensor) -> Tensor:
        terms = self._terms
        images = images.contiguous(memory_format=torch.channels_last)
        logits = self._ensemble(images)
        losses = F.cross_entropy(logits, labels, reduction="none")
        loss = (hard_sample_weights(logits, labels, terms.gamma) * losses).mean()
        if self._deviations:
            members = len(self._ensemble.members)  # type: ignore[arg-type]
            loss = loss + terms.bn_weight / members * torch.stack(self._deviations).sum()
            self._deviations.clear()
        if terms.disagreement_weight > 0:
            loss = loss - terms.disagreement_weight * disagreement(
                rival(images),
                logits,
                terms.disagreement_temperature,
                only_where_wrong=terms.only_where_wrong,
            )
        return loss
