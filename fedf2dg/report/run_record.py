"""What a run's directory tells, read once, whatever state the run is in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from foundation.events.metrics import Event, MetricsError, mapping, number, read_events

__all__ = ["STAGES", "Measurement", "RunRecord", "is_table", "mapping", "number"]

STAGES = ("federated", "distilled", "competed")

# What makes two events of a kind the same one: a stage that is run again replaces its events.
_IDENTITY = {
    "round": ("phase", "round"),
    "generation": ("competition_round", "kind", "batch"),
    "distillation": ("stage", "competition_round", "epoch"),
    "evaluation": ("stage",),
}


@dataclass(frozen=True)
class Measurement:
    """One measured accuracy on the way of the global model.

    Attributes
    ----------
    stage : str
        "federated", "distillation" (the first one) or "competition".
    position : float
        Where on the stage's own axis: the round, the epoch, or the competition round as a
        fraction that grows while the round goes on.
    accuracy : float
        In [0, 1].
    retrained : bool
        Whether a federated round of the competition was measured (not a distillation epoch).
    """

    stage: str
    position: float
    accuracy: float
    retrained: bool = False


@dataclass(frozen=True)
class RunRecord:
    """The files of one run.

    Attributes
    ----------
    directory : Path
        Where they were read.
    configuration, versions : Mapping
        From ``config.json``; empty if missing.
    device, seed : str | None, int | None
        From ``config.json``.
    class_names : tuple[str, ...]
        From ``config.json``; empty if missing.
    events : tuple[dict, ...]
        From ``metrics.jsonl``, each once.
    summary : Mapping
        ``summary.json``, or of an unfinished run what its events tell so far, in the same form.
    completed : bool
        Whether ``summary.json`` says so.
    problems : tuple[str, ...]
        What could not be read, one sentence each.
    """

    directory: Path
    configuration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    seed: int | None = None
    class_names: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    completed: bool = False
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, directory: Path | str) -> RunRecord:
        """Read a run's directory.

        Parameters
        ----------
        directory : Path | str
            A run's directory; any of its files may be missing or half written.

        Raises
        ------
        FileNotFoundError
            If there is no such directory, or none of a run's files in it.
        """
        directory = Path(directory)
        names = ("config.json", "metrics.jsonl", "summary.json")
        if not any((directory / name).is_file() for name in names):
            raise FileNotFoundError(
                f"{directory} is not the directory of a run: it holds none of {', '.join(names)}"
            )
        problems: list[str] = []
        config = _read_json(directory / "config.json", problems)
        summary = _read_json(directory / "summary.json", problems)
        events: list[Event] = []
        try:
            events = _each_once(read_events(directory / "metrics.jsonl"))
        except FileNotFoundError:
            problems.append("metrics.jsonl is missing.")
        except (OSError, MetricsError) as error:
            problems.append(f"metrics.jsonl could not be read: {error}.")
        names_of_classes = config.get("class_names")
        return cls(
            directory=directory,
            configuration=mapping(config.get("configuration")),
            versions=mapping(config.get("versions")),
            device=config.get("device"),
            seed=config.get("seed"),
            class_names=tuple(str(name) for name in names_of_classes)
            if isinstance(names_of_classes, list)
            else (),
            events=tuple(events),
            summary=summary or _summary_so_far(events, config),
            completed=summary.get("status") == "completed",
            problems=tuple(problems),
        )

    def of_kind(self, kind: str) -> list[Event]:
        """Return the events of one kind, in the order they happened."""
        return [event for event in self.events if event.get("event") == kind]

    def last(self, kind: str) -> Event:
        """Return the last event of one kind; empty if there is none."""
        return next((e for e in reversed(self.events) if e.get("event") == kind), {})

    @property
    def status(self) -> str:
        """One word or two: completed, failed, or unfinished."""
        if "status" in self.summary:
            return str(self.summary["status"])
        ended = self.last("end").get("status")
        # A run that ends with "completed" has a summary, unless that file was lost.
        return str(ended) if ended else "unfinished"

    @property
    def ended(self) -> bool:
        """Whether the run says that it goes on no more, completed or not."""
        return "status" in self.summary or bool(self.last("end"))

    def confusion(self, stage: str) -> list[list[float]] | None:
        """Return a stage's confusion matrix (row = true class), or None if there is none."""
        for event in reversed(self.of_kind("evaluation")):
            matrix = event.get("confusion")
            if event.get("stage") == stage and is_table(matrix) and len(matrix) == len(matrix[0]):
                return [[float(value) for value in row] for row in matrix]
        return None

    def label_counts(self) -> list[list[float]] | None:
        """Return the clients' label counts (clients, classes), or None if they were not sent."""
        counts = self.last("clients").get("label_counts")
        return [[float(v) for v in row] for row in counts] if is_table(counts) else None

    def examples_per_client(self) -> list[float]:
        """Return the clients' numbers of examples; empty if unknown."""
        counts = self.last("clients").get("num_examples")
        values = [number(value) for value in counts] if isinstance(counts, list) else []
        return [value for value in values if value is not None] if None not in values else []

    def client_names(self) -> tuple[str, ...]:
        """Return the clients' names, where they have some: sites do, parts of a data set do not."""
        names = self.last("clients").get("names")
        return tuple(str(name) for name in names) if isinstance(names, list) else ()

    def measurements(self) -> list[Measurement]:
        """Return every measured accuracy, in the order of the stages.

        A competition round may hold a federated round and distillation epochs; they share the
        way from one competition round's number to the next evenly.
        """
        found: list[Measurement] = []
        competition: dict[int, list[tuple[float | None, bool]]] = {}
        current = 0
        for event in self.events:
            accuracy = number(event.get("accuracy"))
            if event.get("event") == "round" and event.get("phase") == "competition":
                # Its own number may count on from the federated rounds; its place does not.
                current += 1
                competition.setdefault(current, []).append((accuracy, True))
            elif event.get("event") == "round":
                position = number(event.get("round"))
                if accuracy is not None and position is not None:
                    found.append(Measurement("federated", position, accuracy))
            elif event.get("event") == "distillation":
                competition_round = int(number(event.get("competition_round")) or 0)
                position = number(event.get("epoch"))
                if competition_round:
                    current = competition_round
                    competition.setdefault(current, []).append((accuracy, False))
                elif accuracy is not None and position is not None:
                    found.append(Measurement("distillation", position, accuracy))
        for place, measured in sorted(competition.items()):
            for step, (accuracy, retrained) in enumerate(measured, start=1):
                if accuracy is not None:
                    position = place - 1 + step / len(measured)
                    found.append(Measurement("competition", position, accuracy, retrained))
        order = ("federated", "distillation", "competition")
        return sorted(found, key=lambda m: (order.index(m.stage), m.position))

    def failures(self) -> list[tuple[str, str, str]]:
        """Return (round, client, reason) for each client dropped from a round."""
        dropped = []
        names = dict(enumerate(self.client_names()))
        for event in self.of_kind("round"):
            failures = event.get("failures")
            for failure in failures if isinstance(failures, list) else []:
                failure = failure if isinstance(failure, Mapping) else {"reason": failure}
                client = failure.get("client", "?")
                name = names.get(client) if isinstance(client, int) else None
                phase = "competition " if event.get("phase") == "competition" else ""
                dropped.append(
                    (
                        f"{phase}{event.get('round', '?')}",
                        f"{client} ({name})" if name else str(client),
                        str(failure.get("reason", "")),
                    )
                )
        return dropped


def is_table(value: Any) -> TypeGuard[list[list[float]]]:
    """Tell whether a value is a non-empty list of equally long, non-empty lists of numbers."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(row, list) and len(row) == len(value[0]) > 0 for row in value)
        and all(number(item) is not None for row in value for item in row)
    )


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    """Read a JSON object; a missing file is empty, an unreadable one is a problem too."""
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} could not be read: {error}.")
        return {}
    return value


def _each_once(events: Sequence[Event]) -> list[Event]:
    """Keep of each round, epoch, batch and evaluation what was written last."""
    latest: dict[Any, Event] = {}
    for index, event in enumerate(events):
        fields = _IDENTITY.get(str(event.get("event")))
        if fields is None:
            latest[index] = event
            continue
        key = (event.get("event"), *(str(event.get(name)) for name in fields))
        latest.pop(key, None)
        latest[key] = event
    return list(latest.values())


def _summary_so_far(events: Sequence[Event], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the events of a run tell in the form of ``summary.json``, without a status."""
    start: Mapping[str, Any] = next((e for e in events if e.get("event") == "start"), {})
    settings = mapping(config.get("configuration"))
    accuracy: dict[str, float | None] = dict.fromkeys(STAGES)
    best: dict[str, float | None] = dict.fromkeys(STAGES)
    measured: dict[str, Any] = dict.fromkeys(STAGES)
    seconds: dict[str, float] = {}
    clients = rounds = None
    images = 0.0
    for event in events:
        kind, value = event.get("event"), number(event.get("accuracy"))
        competing = event.get("phase") == "competition" or bool(event.get("competition_round"))
        stage = None
        if kind == "clients" and isinstance(event.get("num_examples"), list):
            clients = len(event["num_examples"])
        if kind == "round":
            stage = "competed" if competing else "federated"
            rounds = event.get("round") if not competing else rounds
        if kind == "distillation":
            # Other methods' stages have their names.
            stage = str(event.get("stage") or ("competed" if competing else "distilled"))
        if kind == "evaluation" and isinstance(event.get("stage"), str):
            stage = event["stage"]
        if stage and value is not None:
            accuracy[stage] = value
            measured[stage] = event.get("measured", measured.get(stage))
            if mapping(measured[stage]).get("by") != "clients":
                best[stage] = max(value, best.get(stage) or 0.0)
        if kind in ("round", "generation", "distillation"):
            part = "competition" if competing else "federated" if kind == "round" else kind
            part = str(event.get("stage", part)) if kind == "distillation" else part
            seconds[part] = seconds.get(part, 0.0) + (number(event.get("seconds")) or 0.0)
        if kind == "generation":
            images += number(event.get("images")) or 0.0
    return {
        "strategy": start.get("strategy", settings.get("strategy")),
        "dataset": start.get("dataset", settings.get("dataset")),
        "seed": start.get("seed", config.get("seed")),
        "clients": clients if clients is not None else settings.get("num-clients"),
        "rounds": rounds,
        "accuracy": accuracy,
        "best_on_test": best,
        "measured": measured,
        "seconds": {**seconds, "total": sum(seconds.values())} if seconds else {},
        "generation": {"images": int(images)} if images else None,
    }
