"""Run directories made up for the tests: the files of a run without the run."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from foundation.events.log import MetricsFile


def events_in(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a metrics file."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


MEAN, STD = [0.305], [0.376]


def _confusion(rng: np.random.Generator, classes: int, accuracy: float) -> list[list[int]]:
    """Make a confusion matrix of about the given accuracy with some columns preferred."""
    preference = rng.dirichlet(np.full(classes, 0.4))
    rows = [
        rng.multinomial(36, accuracy * np.eye(classes)[c] + (1 - accuracy) * preference)
        for c in range(classes)
    ]
    return [row.tolist() for row in rows]


def _write_pseudo_data(
    directory: Path, name: str, counts: NDArray[np.int64], rng: np.random.Generator
) -> None:
    """Store real digits, blurred by noise, as if they were pseudo images of each client."""
    digits = load_digits()
    images, labels, sources = [], [], []
    for client, row in enumerate(counts):
        for label in np.flatnonzero(row):
            same = digits.images[digits.target == label % 10]
            for _ in range(2):
                pixels = same[rng.integers(len(same))][None] / 16
                pixels = np.clip(pixels + rng.normal(0, 0.15, pixels.shape), -0.1, 1.1)
                images.append((pixels - MEAN[0]) / STD[0])
                labels.append(label)
                sources.append(client)
    shuffled = rng.permutation(len(images))
    classes = counts.shape[1]
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "images": np.asarray(images, np.float32)[shuffled],
            "labels": np.asarray(labels, np.int64)[shuffled],
            "sources": np.asarray(sources, np.int64)[shuffled],
            "logits": np.zeros((len(images), classes), np.float32),
        },
        directory / name,
        metadata={"mean": json.dumps(MEAN), "std": json.dumps(STD)},
    )


def write_run(
    directory: Path,
    *,
    clients: int = 10,
    classes: int = 10,
    rounds: int = 10,
    epochs: int = 30,
    competition_rounds: int = 1,
    stop_after: str = "end",
    uniform_labels: bool = False,
    failures: tuple[tuple[int, int, str], ...] = (),
    class_names: tuple[str, ...] | None = None,
    configuration: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write the directory of a run.

    Parameters
    ----------
    stop_after : str
        "round N" breaks off in the federated stage; "train" completes a run of that stage alone;
        "distillation" breaks off before the competition; "end" completes the whole run.
    failures : tuple[tuple[int, int, str], ...]
        (round, client, reason) of dropped clients.
    """
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    shares = rng.dirichlet(np.full(clients, 0.12), classes).T
    counts = np.round(shares * 1437 / classes * max(1, classes / 10)).astype(np.int64)
    counts[np.arange(clients), rng.integers(0, classes, clients)] += 5
    settings: dict[str, Any] = {
        "strategy": "scaffold",
        "dataset": "digits",
        "seed": seed,
        "partition": "dirichlet",
        "dirichlet-alpha": 0.05,
        "num-clients": clients,
        "num-server-rounds": rounds,
        "local-epochs": 5,
        "batch-size": 16,
        "learning-rate": 0.01,
        "momentum": 0.9,
        "weight-decay": 1e-5,
        "generation.images-per-client": 64,
        "generation.iterations": 200,
        "generation.place": "server",
        "distillation.epochs": epochs,
        "distillation.temperature": 3.0,
        "competition.rounds": competition_rounds,
        "competition.retrain": "every",
        "label-counts": "uniform" if uniform_labels else "uploaded",
        **(configuration or {}),
    }
    config = {
        "configuration": settings,
        "versions": {"python": "3.11.4", "torch": "2.6.0", "flwr": "1.41.0"},
        "device": "cpu",
        "seed": seed,
        "class_names": list(class_names or [str(c) for c in range(classes)]),
    }
    (directory / "config.json").write_text(json.dumps(config))
    last_round = int(stop_after.split()[1]) if stop_after.startswith("round") else rounds
    reach = {"federated": 0.0, "distilled": 0.0, "competed": 0.0}

    with MetricsFile(directory / "metrics.jsonl") as metrics:
        metrics.append(
            "start",
            time="2026-03-01T10:20:30Z",
            strategy=settings["strategy"],
            dataset=settings["dataset"],
            seed=seed,
        )
        metrics.append(
            "clients",
            num_examples=counts.sum(axis=1),
            label_counts=None if uniform_labels else counts,
        )

        def one_round(number: int, phase: str, accuracy: float) -> None:
            metrics.append(
                "round",
                round=number,
                phase=phase,
                accuracy=accuracy,
                loss=1 - accuracy,
                train_loss=0.4 / number,
                seconds=3.1 + 0.1 * math.sin(number),
                clients=list(range(clients)),
                failures=[
                    {"client": client, "reason": reason}
                    for when, client, reason in failures
                    if when == number
                ],
                bytes_down=clients * 312_400,
                bytes_up=clients * 624_800 - 600_000 * sum(f[0] == number for f in failures),
            )

        def generate(kind: str, place: int) -> None:
            metrics.append(
                "generation",
                kind=kind,
                batch=0,
                competition_round=place,
                budgets=np.full(clients, 64),
                images=clients * 64,
                iterations=200,
                seconds=20.3,
                objective=1.234,
            )
            _write_pseudo_data(
                directory / "pseudo_data", f"{kind}-c{place}-b0.safetensors", counts, rng
            )

        def distil(place: int, low: float, high: float) -> None:
            for epoch in range(1, epochs + 1):
                accuracy = low + (high - low) * (1 - math.exp(-epoch / epochs * 5))
                accuracy += rng.normal(0, 0.004)
                metrics.append(
                    "distillation",
                    competition_round=place,
                    epoch=epoch,
                    loss=1 / epoch,
                    accuracy=accuracy,
                    seconds=0.17,
                )
                reach["competed" if place else "distilled"] = accuracy

        def evaluate(stage: str) -> None:
            metrics.append(
                "evaluation",
                stage=stage,
                accuracy=reach[stage],
                loss=0.5,
                confusion=_confusion(rng, classes, reach[stage]),
            )

        for number in range(1, last_round + 1):
            reach["federated"] = 0.8 - 0.65 * math.exp(-number / rounds * 3) + rng.normal(0, 0.025)
            one_round(number, "federated", reach["federated"])
        if stop_after.startswith("round"):
            return directory
        evaluate("federated")
        if stop_after != "train":
            generate("common", 0)
            distil(0, reach["federated"], 0.935)
            evaluate("distilled")
            if stop_after == "distillation":
                return directory
            low = reach["distilled"]
            for place in range(1, competition_rounds + 1):
                one_round(place, "competition", low - 0.03)
                generate("hard", place)
                distil(place, low - 0.03, min(0.99, low + 0.012))
                low = reach["competed"]
            if competition_rounds:
                evaluate("competed")
        metrics.append("end", status="completed")

    ran = {stage: value or None for stage, value in reach.items()}
    trained = ran["distilled"] is None
    summary = {
        "status": "completed",
        "strategy": settings["strategy"],
        "dataset": settings["dataset"],
        "seed": seed,
        "clients": clients,
        "rounds": rounds,
        "accuracy": ran,
        "best_on_test": {stage: value and value + 0.006 for stage, value in ran.items()},
        "seconds": {
            "federated": 31.0,
            "generation": None if trained else 20.3,
            "distillation": None if trained else 5.1,
            "competition": 28.4 if ran["competed"] else None,
            "total": 85.2,
        },
        "generation": None
        if trained
        else {"images": 640, "iterations": 200, "image_iterations_per_second": 6305.4},
    }
    (directory / "summary.json").write_text(json.dumps(summary))
    return directory
