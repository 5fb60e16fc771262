"""How many pseudo images of which classes a method has made of every client's model."""

from collections.abc import Mapping, Sequence

from foundation.seeds import CALIBRATION, derived_seed
from generation import PseudoData, budgets, class_balanced

from .method import Settings, carry_out
from .trained import PseudoRequest, Trained


def order_images(
    trained: Trained,
    settings: Settings,
    kind: str,
    seed: int,
    *,
    repetition: int = 0,
    batch: int = 0,
    losses: Sequence[float] | None = None,
) -> PseudoData:
    """Have a batch made, ``generation.images-per-client`` for each client on the mean.

    ``kind``, ``repetition`` and ``batch`` are those of :class:`PseudoRequest`; ``losses`` say for
    every client how little the global model knows of its images (:func:`generation.budgets`).
    """
    examples = trained.num_examples
    weights = None
    if settings.generation.labels == "balanced":
        weights = _balanced_weights(trained)
    sizes: Mapping[int, float] = examples
    if weights is not None:
        sizes = {client: sum(row) for client, row in weights.items()}
    shared_out = budgets(
        settings.generation.images_per_client * len(examples),
        [sizes[client] for client in examples],
        losses,
    )
    return trained.pseudo_images(
        PseudoRequest(
            kind,
            repetition,
            batch,
            dict(zip(examples, shared_out, strict=True)),
            settings.generation.of_kind(kind, settings.competition),
            seed,
            weights,
        )
    )


def common_images(trained: Trained, settings: Settings) -> PseudoData:
    """Return common samples of the local models; they are made the first time."""

    def make() -> None:
        seed = derived_seed(settings.seed, CALIBRATION)
        trained.store["images"] = order_images(trained, settings, "common", seed)

    carry_out(trained, "images", make, seconds="generation")
    return trained.store["images"]


def _balanced_weights(trained: Trained) -> dict[int, list[float]] | None:
    """Return label weights by client; None where no counts are known and labels are even anyway.

    A client that did not tell its counts is taken to hold its images in even shares.
    """
    known = trained.label_counts()
    if known is None:
        return None
    classes = trained.inputs.classes
    table: list[Sequence[float]] = []
    for client, examples in trained.num_examples.items():
        counts = known.get(client, [])
        table.append(counts if sum(counts) > 0 else [examples / classes] * classes)
    return dict(zip(trained.num_examples, class_balanced(table).tolist(), strict=True))
