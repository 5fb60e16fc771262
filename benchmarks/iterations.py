"""How many steps of the inversion a distilled accuracy takes, by schedule and learning rate.

For every seed ten clients train under FedAvg on four fifths of the embedded digits' *training*
images; every setting inverts the same local models from the same noise, and is distilled in the
same way. Accuracies are those on the fifth that was held out: the test set is not touched, so that
settings may be chosen by this benchmark.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch

from benchmarks.measure import now
from client_app.training import train_locally
from distillation import DistillationSettings, distil
from foundation.data import Batches, DataSet, ImageData, stratified_split
from foundation.data.partitions import partition
from foundation.models import Classifier, State, StateLayout, build, cpu_state, load_state
from foundation.models.aggregation import combine, sample_weights
from foundation.models.evaluation import Evaluator
from foundation.seeds import MODEL, derived_seed, training_generator
from foundation.settings import Schedule
from foundation.settings.configuration import RunConfiguration
from generation import InversionSettings, budgets, generate
from strategies import get

CLIENTS = 10
HELD_OUT = 0.2
SPLIT_SEED = 12345

Setting = tuple[int, Schedule, float]
"""(iterations, schedule, learning rate)."""

SETTINGS: dict[str, list[Setting]] = {
    "tiny": [(2, "constant", 0.1), (1, "cosine", 0.8)],
    "small": [
        (200, "constant", 0.1),
        (100, "constant", 0.1),
        (50, "constant", 0.1),
        (100, "cosine", 0.8),
        (50, "cosine", 0.8),
    ],
    "full": [
        (iterations, schedule, rate)
        for iterations in (200, 100, 50, 25)
        for schedule in cast(tuple[Schedule, ...], ("constant", "cosine"))
        for rate in (0.1, 0.2, 0.4, 0.8, 1.6)
    ],
}
SEEDS = {"tiny": range(100, 101), "small": range(100, 103), "full": range(100, 106)}


@dataclass(frozen=True)
class Federated:
    """What a federation leaves behind: its last round's local models, and the global one."""

    seed: int
    local: list[State]
    label_counts: list[list[float]]
    final: State
    accuracy: float
    evaluator: Evaluator


@dataclass(frozen=True)
class Reached:
    """One setting, over seeds; accuracies in [0, 1], seconds for generating all images."""

    iterations: int
    schedule: str
    learning_rate: float
    accuracies: list[float]
    objectives: list[float]
    seconds: list[float]


@dataclass(frozen=True)
class Reaching:
    """All settings of a size; the first is what the others are compared with."""

    setup: str
    federated: list[float]
    reached: list[Reached]

    def record(self) -> dict[str, Any]:
        return {"stage": "iterations", **asdict(self)}

    def report(self) -> str:
        first = np.array(self.reached[0].accuracies)
        lines = [
            f"iterations: {self.setup}",
            f"  federated {100 * np.mean(self.federated):.1f} %",
            f"  {'setting':28}{'distilled':>10}{'paired difference':>28}{'objective':>11}{'s':>7}",
        ]
        for each in self.reached:
            paired = 100 * (np.array(each.accuracies) - first)
            spread = f"{paired.mean():+.1f} ({paired.min():+.1f} to {paired.max():+.1f})"
            lines.append(
                f"  {f'{each.iterations} {each.schedule} {each.learning_rate:g}':28}"
                f"{100 * np.mean(each.accuracies):>8.1f} %"
                f"{spread:>28}"
                f"{np.mean(each.objectives):>11.2f}{np.mean(each.seconds):>7.1f}"
            )
        return "\n".join(lines)


def run(size: str, device: torch.device) -> Iterator[Reaching]:
    """Measure every setting of a size on every seed of it."""
    configuration = RunConfiguration.parse(
        {"strategy": "fedavg"}
        | ({"num-server-rounds": 1, "local-epochs": 1} if size == "tiny" else {})
    )
    federations = [federate(configuration, seed, device) for seed in SEEDS[size]]
    yield Reaching(
        setup=f"digits, {CLIENTS} clients, Dirichlet {configuration.dirichlet_alpha:g}, FedAvg, "
        f"{configuration.num_server_rounds} rounds, {len(federations)} seeds from {SEEDS[size][0]}",
        federated=[each.accuracy for each in federations],
        reached=[reach(configuration, federations, each, device) for each in SETTINGS[size]],
    )


def federate(configuration: RunConfiguration, seed: int, device: torch.device) -> Federated:
    """Train under FedAvg, as a run of the product with this configuration does."""
    description = DataSet("digits").describe()
    everything = DataSet("digits").load("train")
    kept, held_out = stratified_split(everything.labels, HELD_OUT, SPLIT_SEED)
    labels = everything.labels[kept]
    parts = partition(
        labels,
        kind="dirichlet",
        clients=CLIENTS,
        seed=seed,
        dirichlet_alpha=configuration.dirichlet_alpha,
        min_samples=configuration.min_partition_size,
    )
    model = _model(derived_seed(seed, MODEL)).to(device)
    layout, state = StateLayout.of(model), cpu_state(model)
    algorithm = get("fedavg").client(configuration)
    batches = [
        Batches(
            ImageData(everything.images[kept][rows], labels[rows], everything.class_names),
            normalization=description.normalization,
            batch_size=configuration.batch_size,
            augmentation=description.augmentation,
            device=device,
            channels_last=True,
            drop_singleton=True,
        )
        for rows in parts
    ]
    for server_round in range(1, configuration.num_server_rounds + 1):
        local = []
        for client, own in enumerate(batches):
            load_state(model, state)
            algorithm.begin_round(model, {})
            generator = training_generator(seed, server_round, client)
            train_locally(model, own, algorithm, generator=generator)
            local.append(cpu_state(model))
        weights = sample_weights([len(rows) for rows in parts])
        state = combine(state, iter(local), layout, weights=weights, server_learning_rate=1.0)
    evaluator = Evaluator(
        ImageData(everything.images[held_out], everything.labels[held_out], everything.class_names),
        description.normalization,
        device,
    )
    return Federated(
        seed,
        local,
        [np.bincount(labels[part], minlength=10).astype(float).tolist() for part in parts],
        state,
        evaluator(load_state(model, state)).accuracy,
        evaluator,
    )


def reach(
    configuration: RunConfiguration,
    federations: list[Federated],
    setting: Setting,
    device: torch.device,
) -> Reached:
    """Generate and distil under one setting, on every seed."""
    iterations, schedule, rate = setting
    bounds = DataSet("digits").describe().normalization.bounds()
    accuracies, objectives, seconds = [], [], []
    for federated in federations:
        started = now()
        generated = generate(
            lambda client, local=federated.local: load_state(_model(), local[client]).eval(),  # type: ignore[misc]
            budgets=dict(
                enumerate(
                    budgets(
                        configuration.generation.images_per_client * CLIENTS,
                        [int(sum(row)) for row in federated.label_counts],
                        None,
                    )
                )
            ),
            label_counts=dict(enumerate(federated.label_counts)),
            image_shape=(1, 8, 8),
            settings=InversionSettings(
                iterations=iterations, schedule=schedule, learning_rate=rate
            ),
            pixel_range=bounds,
            classes=10,
            seed=federated.seed,
            device=device,
        )
        seconds.append(now() - started)
        distilled = distil(
            load_state(_model(), federated.final),
            generated.data.images,
            generated.data.logits,
            DistillationSettings(
                epochs=configuration.distillation.epochs,
                weight=0.1,
                batch_size=64,
                statistics="frozen",
            ),
            seed=federated.seed,
            device=device,
        )
        accuracies.append(federated.evaluator(distilled.model.to(device)).accuracy)
        objectives.append(generated.objective)
    return Reached(iterations, schedule, rate, accuracies, objectives, seconds)


def _model(seed: int = 0) -> Classifier:
    return build("resnet8", classes=10, channels=1, image_size=(8, 8), seed=seed)
