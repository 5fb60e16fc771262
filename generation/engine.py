"""The inversion loop, and how to run it fast without changing what it computes.

- Weight gradients are never computed: the engine works on a frozen copy of the model.
- Convolutions run on channels_last images, in bfloat16 where the hardware multiplies it natively;
  batch statistics, losses, images and optimizer stay in float32.
- The objective is fused by ``torch.compile`` where that pays. The weights of every model are copied
  into the resident one, and the batch size is a symbol: ten clients cost one compilation.
- On a GPU objective and gradient, compiled or not, are replayed from a CUDA graph: a recording for
  each batch size costs as much as a few steps. The memory of one serves the next.
- Nothing is read back from the device inside the loop but, now and then, the objective.
"""

import copy
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.adam import adam

from foundation import ExpectedError
from foundation.capture import captured
from foundation.errors import log
from foundation.models import release_memory
from foundation.models.device import reduced_type
from foundation.settings import InversionSettings

from .acceleration import (
    BFLOAT16_FROM,
    Compiled,
    choose_compilation,
    forward_operations,
)
from .objective import (
    batch_norm_layers,
    competition,
    l2_penalty,
    record_statistics,
    total_variation,
)
from .statistics_layer import freeze_statistics

#: Called with (done, total); the unit is stated where it is used.
Progress = Callable[[int, int], None]
#: Lowest and highest value of a pixel, for each channel.
PixelRange = tuple[Sequence[float], Sequence[float]]
#: Steps, or seconds on slow machines, between two looks at the objective, which cost a
#: synchronisation with the device each.
CHECK_INTERVAL, CHECK_SECONDS = 20, 5.0
#: Adam's decay rates: both published CIFAR-10 programs'; (0.5, 0.9) is of DeepInversion's for
#: ImageNet.
BETAS = (0.9, 0.999)
#: Of the predictions of two models that are compared.
COMPETITION_TEMPERATURE = 3.0
#: Normalised pixels of real images lie within about ±3; what inversion makes of them, ±30.
LARGEST_PIXEL, LARGEST_LOGIT = 1e3, 1e5


class InversionError(ExpectedError, RuntimeError):
    """Images cannot be generated; the message says why, and what to change."""


class UninvertibleModel(InversionError):
    """One model cannot be inverted, or what comes out is absurd; others may well be."""


@dataclass(frozen=True)
class Inversion:
    """Result of inverting one model; tensors are on the CPU.

    `images` are (n, C, H, W) float32 in the normalised space the model was trained in, `labels`,
    (n,) int64, their wanted classes, and `logits`, (n, classes) float32, the model's prediction in
    evaluation mode. `objective` is the images' own, without jitter, in float32 (nan for no images);
    `iterations` counts optimizer steps.
    """

    images: Tensor
    labels: Tensor
    logits: Tensor
    objective: float
    iterations: int


class Objective:
    """The whole objective of inverting one model, as a function of images and labels.

    The models are used as they are: in evaluation mode and frozen by whoever owns them. The local
    model's layers, hooked or replaced, put the deviation of their statistics into `deviations`.
    `autocast` is the type of convolutions and matrix products; None: that of the weights.
    """

    def __init__(
        self,
        local_model: nn.Module,
        global_model: nn.Module | None,
        settings: InversionSettings,
        deviations: list[Tensor],
        autocast: torch.dtype | None = None,
    ) -> None:
        if settings.competition_weight > 0 and global_model is None:
            raise ValueError("competition_weight > 0 (hard samples) needs the global model")
        self._local_model = local_model
        self._global_model = global_model
        self._settings = settings
        self._deviations = deviations
        self._autocast = autocast

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Objective of images (n, C, H, W) with labels (n,); a scalar."""
        settings = self._settings
        local_logits = self._predict(self._local_model, images)
        loss = F.cross_entropy(local_logits, labels)
        if settings.bn_weight > 0 and self._deviations:
            loss = loss + settings.bn_weight * torch.stack(self._deviations).sum()
        self._deviations.clear()
        if settings.tv_weight > 0:
            loss = loss + settings.tv_weight * total_variation(images, settings.form)
        if settings.l2_weight > 0:
            loss = loss + settings.l2_weight * l2_penalty(images, settings.form)
        if settings.competition_weight > 0:
            assert self._global_model is not None
            global_logits = self._predict(self._global_model, images)
            loss = loss + settings.competition_weight * competition(
                local_logits, global_logits, COMPETITION_TEMPERATURE, settings.form
            )
        return loss

    def predict(self, images: Tensor) -> Tensor:
        """Return the local model's logits (n, classes) for images."""
        logits = self._predict(self._local_model, images)
        self._deviations.clear()
        return logits

    def _predict(self, model: nn.Module, images: Tensor) -> Tensor:
        if self._autocast is None:
            logits: Tensor = model(images)
            return logits
        with torch.autocast(images.device.type, dtype=self._autocast):
            return model(images).float()  # type: ignore[no-any-return]


def resident_copy(
    model: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Copy a model for reading only: frozen, in evaluation mode, channels_last, on a device.

    Convolution and linear weights get the type `dtype`; normalisation layers keep theirs.
    """
    resident = copy.deepcopy(model).to(device)
    resident = resident.to(memory_format=torch.channels_last)
    for module in resident.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    return resident.eval().requires_grad_(False)


class Adam:
    """The step of ``torch.optim.Adam`` on contiguous images, by the function that it calls itself.

    Its class takes three times as long on small images, and would import torch._dynamo, a third of
    what the process of a real client has to do.
    """

    def __init__(self, images: Tensor, settings: InversionSettings) -> None:
        self._images = images
        self._settings = settings
        self._first, self._second = torch.zeros_like(images), torch.zeros_like(images)
        self._steps = torch.zeros((), device=images.device)

    @torch.no_grad()
    def step(self, iteration: int, gradient: Tensor) -> None:
        """Take step ``iteration``, counted from 1; the gradient is laid out as the images are."""
        adam(
            [self._images],
            [gradient],
            [self._first],
            [self._second],
            [],
            [self._steps],
            fused=True,
            lr=self._settings.learning_rate_at(iteration),
            beta1=BETAS[0],
            beta2=BETAS[1],
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )


class InversionEngine:
    """Inverts models of one architecture, one after the other; `model` is any of them.

    Images have the shape (C, H, W). The models are copied, never changed; the global one is needed
    where ``settings.competition_weight`` is above 0. `pixel_range`, in the normalised space, is
    what images are kept within after every step. `expected_images` will be asked for over the
    engine's life: what ``compile="auto"`` weighs the cost of a compilation against.
    """

    def __init__(
        self,
        model: nn.Module,
        image_shape: tuple[int, int, int],
        settings: InversionSettings,
        *,
        global_model: nn.Module | None = None,
        pixel_range: PixelRange | None = None,
        device: str | torch.device = "cpu",
        expected_images: int = 0,
    ) -> None:
        self.image_shape = image_shape
        self.settings = settings
        self.device = torch.device(device)
        self._bounds = _bounds(pixel_range, image_shape[0], self.device)
        if settings.bn_weight > 0 and not batch_norm_layers(model):
            log.warning(
                "The model has no BatchNorm layers, hence no training statistics to match: "
                "inversion goes on with the remaining terms, and its images will be poorer."
            )
        operations = forward_operations(model, image_shape)
        autocast = reduced_type(settings.precision, self.device, operations, BFLOAT16_FROM)
        self.precision = autocast or torch.float32
        # One exact copy for final objective and soft labels, one to run the steps on.
        self._exact = resident_copy(model, self.device)
        self._fast = resident_copy(model, self.device, self.precision)
        exact_global, fast_global = (
            None
            if global_model is None or settings.competition_weight == 0
            else resident_copy(global_model, self.device, dtype)
            for dtype in (torch.float32, self.precision)
        )
        relative = settings.bn_distance == "relative"
        recorded = record_statistics(self._exact, relative=relative)
        self._objective = Objective(self._exact, exact_global, settings, recorded)
        deviations: list[Tensor] = []
        measured = deviations if settings.bn_weight > 0 else None
        freeze_statistics(self._fast, measured, relative=relative)
        if fast_global is not None:
            freeze_statistics(fast_global)
        step_objective = Objective(self._fast, fast_global, settings, deviations, autocast)
        operations *= 2 * settings.iterations * expected_images  # there and back, for all of it
        self.compiled = choose_compilation(settings.compile, self.device, operations)
        #: Images that the device's memory holds at once, as far as is known.
        self._at_once = sys.maxsize
        self._step_objective: Callable[[Tensor, Tensor], Tensor] = (
            Compiled(step_objective.__call__) if self.compiled else step_objective
        )

    def close(self) -> None:
        """Give the device's memory back, and forget what was compiled: there is room for eight."""
        if isinstance(self._step_objective, Compiled):
            self._step_objective.close()
        del self._step_objective, self._objective, self._exact, self._fast
        release_memory(self.device)

    def invert(
        self, model: nn.Module, labels: Tensor, *, seed: int, progress: Progress | None = None
    ) -> Inversion:
        """Optimise one image per label until the model takes it for training data of that class.

        The model, of the engine's architecture, is read, never changed. `labels` are (n,) integers;
        n may be 0. Start and jitter depend on the seed alone: not on the device, nor on what ran
        before. `progress` is called with (iterations done, iterations in all) now and then and at
        the end.

        An :class:`UninvertibleModel` says that the objective stopped being a finite number, or that
        what comes out is absurd; an :class:`InversionError`, that the device's memory does not hold
        one image.
        """
        labels = torch.as_tensor(labels, dtype=torch.int64, device="cpu")
        for resident in (self._exact, self._fast):
            resident.load_state_dict(model.state_dict())
        images, offsets = self.start(len(labels), seed)
        targets = labels.to(self.device)
        if len(labels) == 0:
            with torch.no_grad():
                logits = self._objective.predict(images.new_zeros((1, *self.image_shape)))[:0]
            return Inversion(images.cpu(), labels, logits.cpu(), float("nan"), 0)
        images, logits, objective = self._in_parts(images, targets, offsets, progress)
        if problem := implausible(images, logits):
            raise UninvertibleModel(f"what the inversion made cannot be used: {problem}")
        images, logits = images.contiguous().cpu(), logits.cpu()
        return Inversion(images, labels, logits, objective, len(offsets))

    def _in_parts(
        self,
        images: Tensor,
        targets: Tensor,
        offsets: Sequence[tuple[int, int]],
        progress: Progress | None,
    ) -> tuple[Tensor, Tensor, float]:
        """Optimise as many images at once as the device's memory holds.

        The statistics that are matched are those of a part; the objective is the images' mean.
        """
        count = len(targets)
        while True:
            parts = torch.arange(count, device=targets.device).split(min(self._at_once, count))
            try:
                ends = [
                    self._optimise(
                        images[rows], targets[rows], offsets, _share(progress, part, len(parts))
                    )
                    for part, rows in enumerate(parts)
                ]
            except torch.OutOfMemoryError as error:
                tried, self._at_once = len(parts[0]), len(parts[0]) // 2
                if not self._at_once:
                    raise InversionError(
                        "the device's memory does not hold the inversion of one image"
                    ) from error
                log.warning(
                    "The device's memory does not hold %d images at once: going on with %d.",
                    tried,
                    self._at_once,
                )
                # The error holds the frames that it went through, and they hold what they made.
                traceback.clear_frames(error.__traceback__)
                release_memory(self.device)
                continue
            whole = torch.cat([end[0] for end in ends])
            logits = torch.cat([end[1] for end in ends])
            return whole, logits, sum(end[2] * (len(end[0]) / count) for end in ends)

    def _optimise(
        self,
        images: Tensor,
        targets: Tensor,
        offsets: Sequence[tuple[int, int]],
        progress: Progress,
    ) -> tuple[Tensor, Tensor, float]:
        """Take a step for each offset; return the images, their logits and final objective."""
        optimizer = Adam(images, self.settings)
        looked = time.monotonic()
        with captured(self._gradient, self.device, changes=dict) as gradient_of:
            for iteration, (down, right) in enumerate(offsets, start=1):
                rolled = torch.roll(images, (down, right), dims=(2, 3))
                loss, gradient = gradient_of(rolled, targets)
                back = torch.roll(gradient, (-down, -right), dims=(2, 3))
                optimizer.step(iteration, back.contiguous())
                if self._bounds is not None:
                    images.clamp_(*self._bounds)
                due = iteration % CHECK_INTERVAL == 0 or time.monotonic() - looked > CHECK_SECONDS
                if due or iteration in (1, len(offsets)):
                    looked = time.monotonic()
                    _require_finite(loss, iteration)
                    progress(iteration, len(offsets))
        with torch.no_grad():
            objective = _require_finite(self._objective(images, targets), len(offsets))
            return images, self._objective.predict(images), objective

    def _gradient(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective, a scalar, and its gradient with respect to the images."""
        leaf = images.detach().requires_grad_()
        loss = self._step_objective(leaf, targets)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient

    def start(self, count: int, seed: int) -> tuple[Tensor, list[tuple[int, int]]]:
        """Draw the noise (count, C, H, W) an inversion starts from, and the roll of every step."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn((count, *self.image_shape), generator=generator)
        limit = self.settings.jitter_for(*self.image_shape[1:])
        offsets = torch.randint(
            -limit, limit + 1, (self.settings.iterations, 2), generator=generator
        )
        return images.to(self.device), [(down, right) for down, right in offsets.tolist()]


def _share(progress: Progress | None, part: int, parts: int) -> Progress:
    """Return what one of several equal parts calls to say how far the whole is."""

    def told(done: int, total: int) -> None:
        if progress is not None:
            progress((part * total + done) // parts, total)

    return told


def _bounds(
    pixel_range: PixelRange | None, channels: int, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    if pixel_range is None:
        return None
    low, high = (torch.tensor(ends, dtype=torch.float32) for ends in pixel_range)
    if low.shape != (channels,) or high.shape != (channels,) or not (low < high).all():
        raise ValueError(
            f"pixel_range = {pixel_range!r}: must be two sequences of {channels} numbers, "
            "the first below the second"
        )
    return low.view(-1, 1, 1).to(device), high.view(-1, 1, 1).to(device)


def _require_finite(loss: Tensor, iteration: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise UninvertibleModel(
            f"the objective became {value} at iteration {iteration}: check that the local model's "
            "weights and BatchNorm statistics are finite, or lower the learning rate"
        )
    return value


def implausible(images: Tensor, logits: Tensor) -> str:
    """Say what is wrong with normalised images or soft labels; empty if nothing is.

    Finite but absurd values turn the network that is trained on them into NaN.
    """
    for name, values, largest in (
        ("images", images, LARGEST_PIXEL),
        ("logits", logits, LARGEST_LOGIT),
    ):
        # Not "> largest": NaN is larger than nothing.
        if len(values) and not float(values.abs().max()) <= largest:
            return f"{name!r} holds values beyond ±{largest:g}"
    return ""


def invert(
    local_model: nn.Module,
    labels: Tensor,
    image_shape: tuple[int, int, int],
    settings: InversionSettings | None = None,
    *,
    global_model: nn.Module | None = None,
    pixel_range: PixelRange | None = None,
    seed: int,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Inversion:
    """Turn a trained classifier into images it takes for its training data.

    DeepInversion (Yin et al. 2020) of one model: an :class:`InversionEngine` that is used once. Its
    parameters, results and errors are the engine's.
    """
    engine = InversionEngine(
        local_model,
        image_shape,
        settings or InversionSettings(),
        global_model=global_model,
        pixel_range=pixel_range,
        device=device,
        expected_images=len(labels),
    )
    with closing(engine):
        return engine.invert(local_model, labels, seed=seed, progress=progress)
