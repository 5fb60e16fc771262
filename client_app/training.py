"""The one local training loop. Algorithms are hooks on it; none has a copy of its own."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.sgd import sgd

from foundation.capture import Capturable, captured
from foundation.data import Batches
from foundation.models import Classifier, State
from foundation.models.batch_norm import freeze_statistics
from foundation.models.freezing import hold_frozen_statistics
from foundation.seeds import training_generator
from foundation.settings.configuration import RunConfiguration
from strategies import Algorithm, label_loss
from strategies.client import ClientAlgorithm
from strategies.local_loss import ClientLoss

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TrainingResult:
    """Optimizer steps τ of a round of local training, and the mean loss, extra ones included."""

    steps: int
    loss: float
    seconds: float


def symmetric_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 0.1·CE + 1·RCE (Wang et al. 2019, "Symmetric Cross Entropy", their CIFAR-10 values).

    The reverse term takes log 0 of the one-hot label as -4, the paper's A, so that it reads ``4·(1
    - p_y)``; it is robust to wrong labels. Logits are (n, classes), labels (n,) int64.
    """
    probability = F.softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)
    return 0.1 * F.cross_entropy(logits, labels) + 4.0 * (1.0 - probability).mean()


LOSSES: dict[str, Loss] = {
    "cross-entropy": F.cross_entropy,
    "symmetric-cross-entropy": symmetric_cross_entropy,
}


def local_loss(
    declared: Algorithm,
    configuration: RunConfiguration,
    label_counts: Callable[[], Tensor],
    model: Classifier,
) -> Loss:
    """Return the local loss of a round: the algorithm's own, or the one ``local-loss`` names.

    ``label_counts`` returns n_c, (C,), the client's images of every class, on the training device;
    only losses for label skew ask it. ``model`` holds the global parameters, which may become a
    teacher.
    """
    name = declared.loss_name(configuration)
    if name in LOSSES:
        return LOSSES[name]
    return label_loss(name).loss(configuration, label_counts(), model)


def train_locally(
    model: nn.Module,
    batches: Batches,
    algorithm: ClientAlgorithm,
    *,
    generator: torch.Generator,
    loss: Loss = F.cross_entropy,
    epochs: int | None = None,
    autocast: torch.dtype | None = None,
    learning_rate: float | None = None,
    frozen_statistics: bool = False,
) -> TrainingResult:
    """Train ``model`` in place with SGD, as the algorithm's configuration says.

    The model is a classifier with ``embed`` and ``classify``, on the device of the data, and is
    left in train mode; the algorithm's round has begun. The generator is the source of order and
    augmentation: the result depends on nothing else that is random. The loss maps logits (n,
    classes) and labels (n,) to a scalar; a ClientLoss sees the images first. ``epochs`` and
    ``learning_rate`` are those of the configuration if not given. With ``frozen_statistics``,
    BatchNorm layers normalise with their running statistics, which then stay. ``autocast`` is a
    reduced precision of the model's passes; parameters stay, and the loss is in float32.

    A ValueError says that the data gave no batch, or that all parameters are frozen.
    """
    configuration = algorithm.configuration
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("all parameters of the model are frozen: there is nothing to train")
    device = parameters[0].device
    factor = configuration.encoder_factor
    # Scaled before an algorithm sees them, so that its corrections and controls are scaled alike.
    in_encoder = [p for name, p in model.named_parameters() if name.startswith("encoder.")]
    scaled = [p for p in in_encoder if p.requires_grad and factor != 1.0]
    momenta: dict[Tensor, Tensor | None] = {}
    step_size = configuration.learning_rate if learning_rate is None else learning_rate
    model.train()
    hold_frozen_statistics(model)
    if frozen_statistics:
        freeze_statistics(model)
    started = time.perf_counter()
    steps, seen = 0, 0
    # Summed on the device: reading it in the loop would make the device wait for the host.
    total = torch.zeros((), device=device, dtype=torch.float64)

    def take_step(images: Tensor, labels: Tensor) -> None:
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            embedding = model.embed(images)  # type: ignore[operator]
            logits = model.classify(embedding)  # type: ignore[operator]
            extra = algorithm.extra_loss(images, embedding)
            if isinstance(loss, ClientLoss):
                loss.observe(images)
        # On a CPU, autocast would leave a loss in the logits' reduced type.
        value = loss(logits if autocast is None else logits.float(), labels)
        if extra is not None:
            value = value + extra
        for parameter in parameters:
            parameter.grad = None
        value.backward()
        for parameter in scaled:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        algorithm.adjust_gradients(parameters)
        _step(parameters, momenta, configuration, step_size)
        total.add_(value.detach() * len(labels))

    def changes() -> dict[str, list[Tensor]]:
        own = [
            hook.changed_in_place() for hook in (algorithm, loss) if isinstance(hook, Capturable)
        ]
        return {
            "weights": [*parameters],
            "momentum": [value for value in momenta.values() if value is not None],
            "running statistics": [*model.buffers()],
            "loss": [total],
            "memory of a hook": [tensor for tensors in own for tensor in tensors],
        }

    passes = configuration.local_epochs if epochs is None else epochs
    with captured(take_step, device, changes, _obstacle(algorithm, loss)) as step:
        for _ in range(passes):
            for images, labels in batches.epoch(generator):
                step(images, labels)
                steps += 1
                seen += len(labels)
    if steps == 0:
        raise ValueError("the client's data gave no training step: it has too few samples")
    return TrainingResult(steps, float(total) / seen, time.perf_counter() - started)


def train_round(
    model: Classifier,
    batches: Batches,
    declared: Algorithm,
    configuration: RunConfiguration,
    *,
    server_round: int,
    client: int,
    classes: Callable[[], int],
    autocast: torch.dtype | None = None,
    received: Mapping[str, State] | None = None,
) -> TrainingResult:
    """Train a client's model in place for a round, as an algorithm does.

    ``received`` is what the server half sent beside the model; see
    :meth:`.ClientAlgorithm.begin_round`. Only losses for label skew ask how many ``classes``. The
    same round of the same client is always the same.
    """
    algorithm = declared.client(configuration)
    algorithm.begin_round(model, {} if received is None else received)
    return train_locally(
        model,
        batches,
        algorithm,
        generator=training_generator(configuration.seed, server_round, client),
        loss=local_loss(
            declared, configuration, lambda: batches.labels.bincount(minlength=classes()), model
        ),
        learning_rate=configuration.learning_rate_at(server_round),
        autocast=autocast,
        frozen_statistics=configuration.freezes_statistics_at(server_round),
    )


def _obstacle(algorithm: ClientAlgorithm, loss: Loss) -> str:
    """Say which hook must not be recorded with the step; empty if none."""
    for hook in (algorithm, loss):
        if hook not in LOSSES.values() and not getattr(hook, "capturable", False):
            return f"{type(hook).__name__} does not say capturable=True"
    return ""


@torch.no_grad()
def _step(
    parameters: Iterable[nn.Parameter],
    momenta: dict[Tensor, Tensor | None],
    configuration: RunConfiguration,
    learning_rate: float,
) -> None:
    """Take the step of ``torch.optim.SGD``, by the function it calls itself.

    Its class would import torch._dynamo, a third of what a real client's process has to do.
    """
    trained: list[Tensor] = [parameter for parameter in parameters if parameter.grad is not None]
    buffers = [momenta.get(parameter) for parameter in trained] if configuration.momentum else []
    sgd(
        trained,
        [parameter.grad for parameter in trained if parameter.grad is not None],
        buffers,
        lr=learning_rate,
        momentum=configuration.momentum,
        weight_decay=configuration.weight_decay,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        fused=True,
    )
    momenta.update(zip(trained, buffers, strict=False))
