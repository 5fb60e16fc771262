"""A model that learns batch by batch, from whatever teaches it next."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from foundation.models.batch_norm import freeze_statistics
from foundation.models.freezing import hold_frozen_statistics
from foundation.settings import Statistics

from .training import distillation_loss, finite, steps_of_a_pass

#: Norm that gradients are cut to, as in Co-Boosting's program: a network without normalization
#: layers diverges otherwise.
LARGEST_GRADIENT = 10.0


class Student:
    """A copy of a model, where it is, trained by SGD on soft labels along a cosine of step sizes.

    The cosine has so many `steps`, the first of size `learning_rate`. BatchNorm layers normalise
    with the batch, which moves their running statistics ("update"), or with the running statistics,
    which stay ("frozen").
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int,
        learning_rate: float,
        temperature: float,
        statistics: Statistics,
    ) -> None:
        self._statistics = statistics
        self.model = copy.deepcopy(model).to(memory_format=torch.channels_last)
        self._temperature = temperature
        # Frozen ones, such as those of a pretrained encoder, stay what they are.
        self._trained = [p for p in self.model.parameters() if p.requires_grad]
        # As in FedF²DG's program; Co-Boosting's takes the plain momentum, DENSE's no decay either.
        self._optimizer = torch.optim.SGD(
            self._trained, learning_rate, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, steps)

    def learn(self, images: Tensor, logits: Tensor) -> Tensor:
        """Take one step towards a teacher's logits (n, classes) on images, n at least 2.

        Returns the loss before the step, a scalar on the model's device.
        """
        self.model.train()
        hold_frozen_statistics(self.model)
        if self._statistics == "frozen":
            freeze_statistics(self.model)
        images = images.contiguous(memory_format=torch.channels_last)
        loss = distillation_loss(self.model(images), logits, self._temperature)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # What is below stays as it is, to the last bit.
        nn.utils.clip_grad_norm_(self._trained, LARGEST_GRADIENT)
        self._optimizer.step()
        return loss.detach()

    @contextmanager
    def consulted(self) -> Iterator[nn.Module]:
        """Give the model to ask: in evaluation mode, with gradients for images alone."""
        self.model.eval().requires_grad_(False)
        try:
            yield self.model
        finally:
            for parameter in self._trained:
                parameter.requires_grad_(True)

    def follow_schedule(self) -> None:
        """Go on to the next step size."""
        self._schedule.step()


#: Called with (rows, source of random numbers); gives these rows' images and logits to learn.
Lesson = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]


def pass_over(
    student: Student,
    images: int,
    lesson: Lesson,
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
) -> float:
    """Have a student learn from every one of n images once, n at least 2; return the mean loss.

    Batches have at most `batch_size` images (at least 2). Their random order depends on `seed`
    alone; the rows that the lesson is asked for are on `device`.
    """
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(images, generator=draw).to(device)
    total = torch.zeros((), device=device)
    for rows in order.tensor_split(steps_of_a_pass(images, batch_size)):
        total += student.learn(*lesson(rows, draw)) * len(rows)
    return finite(total.item() / images)
