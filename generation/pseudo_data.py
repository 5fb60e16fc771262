"""Generating for a whole federation: never more models in memory than are being inverted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundation.models import device_of
from foundation.processes import Workers
from foundation.seeds import INVERSION, LABELS, derived_seed
from foundation.settings import InversionSettings

from .engine import Inversion, PixelRange, Progress, UninvertibleModel
from .principle import draw_labels
from .sharing import Conditions, Order, invert_all


@dataclass(frozen=True)
class PseudoData:
    """Generated images with what distillation needs to know of them; all on the CPU.

    Images, (n, C, H, W) float32, are in the normalised space of the models. `labels`, (n,) int64,
    are the classes they were generated for, `sources`, (n,) int64, the clients whose models they
    came from, and `logits`, (n, classes) float32, these models' predictions.
    """

    images: Tensor
    labels: Tensor
    sources: Tensor
    logits: Tensor

    def __post_init__(self) -> None:
        lengths = {len(self.images), len(self.labels), len(self.sources), len(self.logits)}
        if len(lengths) > 1:
            raise ValueError(f"pseudo data whose parts have different lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def concatenate(parts: Iterable["PseudoData"]) -> "PseudoData":
        """Put the images of several generations one after the other (at least one part)."""
        parts = list(parts)
        return PseudoData(
            images=torch.cat([part.images for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
            sources=torch.cat([part.sources for part in parts]),
            logits=torch.cat([part.logits for part in parts]),
        )


@dataclass(frozen=True)
class Generation:
    """What ``generate`` made, clients in ascending order, and how it went.

    `objective` is the mean of the clients' final `objectives`, weighted with their images; nan for
    no images. `iterations` counts the optimizer steps of all. `failures` say why a model cannot be
    inverted.
    """

    data: PseudoData
    objective: float
    objectives: dict[int, float] = field(default_factory=dict)
    iterations: int = 0
    failures: Mapping[int, str] = field(default_factory=dict)


def generate(
    local_model: Callable[[int], nn.Module],
    *,
    budgets: Mapping[int, int],
    label_counts: Mapping[int, Sequence[float]] | None,
    image_shape: tuple[int, int, int],
    settings: InversionSettings,
    classes: int,
    global_model: nn.Module | None = None,
    pixel_range: PixelRange | None = None,
    seed: int,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    workers: Workers | None = None,
    names: Mapping[int, str] | None = None,
) -> Generation:
    """Generate every client's budget of images by inverting its local model.

    ``local_model`` gives the model of a client index, all of one architecture. It is called once
    per client with a budget, in ascending order, when its turn has come, and its result is not
    kept: models can be read from disk one at a time, into the same module. ``budgets`` are the
    images wanted of each client (see ``generation.budgets``), ``label_counts`` each client's label
    distribution, (classes,): uniform for one that is missing, or for all. Labels, starts and jitter
    of client i depend on ``seed`` and i alone. For the others see :class:`InversionEngine` and
    :func:`generation.sharing.invert_all`.

    An UninvertibleModel tells why, if none can be inverted, by the clients' ``names`` where they
    have some.
    """
    told = label_counts or {}
    orders = (
        Order(
            client,
            local_model(client),
            draw_labels(
                budget, told.get(client, [1.0] * classes), derived_seed(seed, LABELS, client)
            ),
            derived_seed(seed, INVERSION, client),
        )
        for client, budget in sorted(budgets.items())
        if budget
    )
    expected = sum(budgets.values())
    conditions = Conditions(image_shape, settings, global_model, pixel_range, device, expected)
    inversions: dict[int, Inversion] = {}
    failures: dict[int, str] = {}
    for client, result in invert_all(orders, conditions, progress, workers):
        if isinstance(result, UninvertibleModel):
            failures[client] = str(result)
        else:
            inversions[client] = result
    failures = dict(sorted(failures.items()))
    if failures and not inversions:
        called = names or {client: f"client {client}" for client in failures}
        reasons = "; ".join(f"{called[client]}: {reason}" for client, reason in failures.items())
        raise UninvertibleModel(f"no local model can be inverted. {reasons}")
    parts = [_nothing(image_shape, classes)]
    for client, inversion in sorted(inversions.items()):
        sources = torch.full((budgets[client],), client, dtype=torch.int64)
        parts.append(PseudoData(inversion.images, inversion.labels, sources, inversion.logits))
    objectives = {client: inversion.objective for client, inversion in sorted(inversions.items())}
    images = sum(budgets[client] for client in objectives)
    mean = sum(objectives[client] * budgets[client] for client in objectives) / max(images, 1)
    return Generation(
        data=PseudoData.concatenate(parts),
        objective=mean if images else float("nan"),
        objectives=objectives,
        iterations=sum(inversion.iterations for inversion in inversions.values()),
        failures=failures,
    )


def quality_losses(
    global_model: nn.Module,
    data: PseudoData,
    clients: int,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 1024,
) -> list[float]:
    """Measure how little the global model knows of each client's images, for the next budgets.

    Returns the mean cross-entropy on each client's images of the last batch; nan for a client
    without any. The model is used in evaluation mode, and left as and where it was.
    """
    training = global_model.training
    home = device_of(global_model)
    sums = torch.zeros(clients, dtype=torch.float64)
    counts = torch.zeros(clients, dtype=torch.float64)
    global_model.to(device).eval()
    try:
        with torch.no_grad():
            for start in range(0, len(data), batch_size):
                rows = slice(start, start + batch_size)
                logits = global_model(data.images[rows].to(device)).cpu().double()
                losses = F.cross_entropy(logits, data.labels[rows], reduction="none")
                sums.index_add_(0, data.sources[rows], losses)
                counts.index_add_(0, data.sources[rows], torch.ones_like(losses))
    finally:
        global_model.to(home).train(training)
    return (sums / counts).tolist()


def _nothing(image_shape: tuple[int, int, int], classes: int) -> PseudoData:
    return PseudoData(
        images=torch.empty((0, *image_shape)),
        labels=torch.empty(0, dtype=torch.int64),
        sources=torch.empty(0, dtype=torch.int64),
        logits=torch.empty((0, classes)),
    )
