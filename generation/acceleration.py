"""Which precision to compute in and whether to compile: decided from hardware and work."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foundation.errors import log
from foundation.settings import Compile

#: Operations of one image's forward pass from which bfloat16 gains on a CPU.
#: Measured on one thread: with AVX512-BF16, ResNet-8 on 8x8 images gains 2 % and ResNet-18 on 32x32
#: images (1.1e9 operations) a factor of 1.9. With AMX, ResNet-8 on 32x32 images (2.4e7) would gain
#: 1.3 to 1.7, but its objective was up to 26 % from float32's (three untrained models).
BFLOAT16_FROM = {"cpu": 50e6, "cuda": 0.0}
#: Operations of a whole job from which a compilation pays for itself.
#: On a CPU it costs about 30 s for a first run and saves about a third of what a small model takes
#: without: 10 clients with 64 images of 8x8 and 200 iterations (6e11, about 20 s) lose by it.
#: The figure for CUDA is an estimate.
COMPILATION_FROM = {"cpu": 3e12, "cuda": 2e15}


@dataclass(frozen=True)
class Forward:
    """What one image's forward pass takes.

    `operations` are floating-point ones, a multiply-add counts as two; `values` the numbers that
    come out of layers. Counted are convolutions and linear layers, nearly all there is.
    """

    operations: float
    values: int

    @classmethod
    def of(cls, model: nn.Module, image_shape: tuple[int, int, int]) -> "Forward":
        """Count by running one image through the model, in evaluation mode.

        PyTorch's own counter would import torch._dynamo, a third of what a real client's process
        has to do.
        """
        operations, values = 0.0, 0

        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal operations, values
            weight: Tensor = layer.weight  # type: ignore[assignment]
            operations += 2.0 * output.numel() * weight[0].numel()
            values += output.numel()

        layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        hooks = [layer.register_forward_hook(count) for layer in layers]
        parameter = next(model.parameters(), torch.empty(0))
        image = torch.zeros((1, *image_shape), device=parameter.device, dtype=parameter.dtype)
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                model(image)
        finally:
            model.train(training)
            for hook in hooks:
                hook.remove()
        return cls(operations, values)


def forward_operations(model: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """Return the floating-point operations of one image's forward pass."""
    return Forward.of(model, image_shape).operations


def choose_compilation(wish: Compile, device: torch.device, operations: float) -> bool:
    """Whether to compile the objective, for a whole job."""
    if wish == "auto":
        return operations >= COMPILATION_FROM.get(device.type, float("inf"))
    return wish == "on"


class Compiled:
    """A compiled objective that returns to the plain one where no compiler works."""

    def __init__(self, objective: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._plain = objective
        self._fast: Callable[[Tensor, Tensor], Tensor] | None = torch.compile(objective)
        self._proven = False

    def close(self) -> None:
        """Forget what was compiled, also for others in this process."""
        self._fast = None
        torch.compiler.reset()

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Objective of images with labels; a scalar."""
        if self._fast is None or len(labels) == 1:
            return self._plain(images, labels)
        if self._proven:
            return self._fast(images, labels)
        return self._first(images, labels)

    def _first(self, images: Tensor, labels: Tensor) -> Tensor:
        assert self._fast is not None
        try:
            # Forward and backward are compiled separately: try both before anything depends on it.
            trial = images.detach().clone().requires_grad_()
            for sized in (trial, labels):
                torch._dynamo.maybe_mark_dynamic(sized, 0)
            torch.autograd.grad(self._fast(trial, labels), trial)
        except Exception as error:  # whatever a missing or broken compiler raises
            reason = str(error).strip() or type(error).__name__
            log.warning(
                "The objective cannot be compiled here (%s): going on without, slower.",
                reason.splitlines()[0],
            )
            self._fast = None
            return self._plain(images, labels)
        self._proven = True
        return self._fast(images, labels)
