"""What a run's directory tells, read once, whatever state the run is in."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from foundation.events.family import (
    ClientsMet,
    EpochDone,
    Evaluated,
    Event,
    ImagesMade,
    RoundDone,
    RunEnded,
    RunStarted,
)
from foundation.events.reading import Told, mapping, number, read_run
from foundation.wording import spans
from server_app.ledger import RESULTS, Ledger

__all__ = ["STAGES", "Measurement", "RunRecord", "mapping", "number"]

STAGES = RESULTS

Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True)
class Measurement:
    """One measured accuracy, in [0, 1], on the way of the global model.

    ``position`` is the place on the axis of its stage ("federated", "distillation", the first one,
    or "competition"): the round, the epoch, or the competition round as a fraction.
    """

    stage: str
    position: float
    accuracy: float


@dataclass(frozen=True)
class RunRecord:
    """The files of one run; empty or None what they lack.

    ``events`` (of ``metrics.jsonl``) are there once each. ``summary`` is ``summary.json``, or what
    the events of an unfinished run tell so far in the same form. ``problems`` are sentences about
    what could not be read.
    """

    directory: Path
    configuration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    class_names: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    completed: bool = False
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, directory: Path | str) -> Self:
        """Read a run's directory; any of its files may be missing or half written, but not all."""
        directory = Path(directory)
        names = ("config.json", "metrics.jsonl", "summary.json")
        if not any((directory / name).is_file() for name in names):
            raise FileNotFoundError(
                f"{directory} is not the directory of a run: it holds none of {', '.join(names)}"
            )
        problems: list[str] = []
        config = _read_json(directory / "config.json", problems)
        summary = _read_json(directory / "summary.json", problems)
        told = Told()
        try:
            told = read_run(directory)
        except FileNotFoundError:
            problems.append("metrics.jsonl is missing.")
        except OSError as error:
            problems.append(f"metrics.jsonl could not be read: {error}.")
        events = _each_once(told.events)
        class_names = config.get("class_names")
        return cls(
            directory=directory,
            configuration=mapping(config.get("configuration")),
            versions=mapping(config.get("versions")),
            device=config.get("device"),
            class_names=tuple(map(str, class_names)) if isinstance(class_names, list) else (),
            events=events,
            summary=summary or _summary_so_far(events, config),
            completed=summary.get("status") == "completed",
            problems=(*problems, *told.problems),
        )

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of one kind, in the order they happened."""
        return _of(self.events, kind)

    def latest(self, kind: type[Kind]) -> Kind | None:
        """Return the last event of one kind."""
        return next(reversed(self.of(kind)), None)

    @property
    def status(self) -> str:
        """One word or two: completed, failed, or unfinished."""
        # A run that ends with "completed" has a summary, unless that file was lost.
        end = self.latest(RunEnded)
        return str(self.summary.get("status", end.status if end else "unfinished"))

    @property
    def ended(self) -> bool:
        """Whether the run says that it goes on no more, completed or not."""
        return "status" in self.summary or self.latest(RunEnded) is not None

    def confusion(self, stage: str) -> Sequence[Sequence[float]] | None:
        """Return a stage's confusion matrix (row = true class), if there is one."""
        for event in reversed(self.of(Evaluated)):
            matrix = _table(event.confusion)
            if event.stage == stage and matrix and len(matrix) == len(matrix[0]):
                return matrix
        return None

    @property
    def met(self) -> ClientsMet:
        """Who takes part, as was last told; nobody where nobody tells."""
        return self.latest(ClientsMet) or ClientsMet((), None)

    def label_counts(self) -> Sequence[Sequence[float]] | None:
        """Return the clients' label counts (clients, classes), if they were sent."""
        return _table(self.met.label_counts)

    def measurements(self) -> list[Measurement]:
        """Return every measured accuracy, in the order of the stages.

        A competition round may hold a federated round and distillation epochs; those that were
        measured share the way from one competition round's number to the next evenly.
        """
        found: dict[str, list[Measurement]] = {"federated": [], "distillation": []}
        competition: dict[int, list[float]] = {}
        current = 0
        for event in self.events:
            match event:
                case RoundDone(competes=True):
                    # Its own number may count on from the federated rounds; its place does not.
                    current += 1
                    place = current
                case EpochDone(competition_round=int(place)) if place:
                    current = place
                case RoundDone(accuracy=float(accuracy)):
                    found["federated"].append(Measurement("federated", event.round, accuracy))
                    continue
                case EpochDone(accuracy=float(accuracy)):
                    found["distillation"].append(Measurement("distillation", event.epoch, accuracy))
                    continue
                case _:
                    continue
            if event.accuracy is not None:
                competition.setdefault(place, []).append(event.accuracy)
        return [
            *(m for stage in found.values() for m in sorted(stage, key=lambda m: m.position)),
            *(
                Measurement("competition", place - 1 + step / len(steps), accuracy)
                for place, steps in sorted(competition.items())
                for step, accuracy in enumerate(steps, start=1)
            ),
        ]

    def lost(self) -> "list[Lost]":
        """Return who was dropped from which rounds, with the reasons, in the order of the clients.

        Rounds of a competition count on behind the federated ones.
        """
        names, rounds = dict(enumerate(self.met.names)), self.of(RoundDone)
        found: dict[str, dict[str, list[int]]] = {}
        for event in rounds:
            for one in event.failures:
                reasons = found.setdefault(names.get(one.client) or one.who, {})
                reasons.setdefault(one.reason, []).append(event.round)
        last = max((event.round for event in rounds), default=0)
        return [Lost(who, reasons, last) for who, reasons in sorted(found.items())]


@dataclass(frozen=True)
class Lost:
    """A client that was dropped from rounds, by reason, of a run whose ``last`` round is that."""

    who: str
    reasons: Mapping[str, Sequence[int]]
    last: int

    @property
    def rounds(self) -> list[int]:
        """All of them, ascending."""
        return sorted({number for those in self.reasons.values() for number in those})

    @property
    def is_serious(self) -> bool:
        """Whether the model knows little of the client: it missed the last round, or half."""
        return self.last in self.rounds or 2 * len(self.rounds) >= self.last

    @property
    def sentence(self) -> str:
        """Who was lost when: "north was lost in rounds 2 to 4 of 5: no reply in time"."""
        rounds = self.rounds
        which = f"round{'s' if len(rounds) > 1 else ''} {spans(rounds)} of {self.last}"
        never = ", in all of them" if len(rounds) == self.last > 1 else ""
        return f"{self.who} was lost in {which}{never}: {'; '.join(self.reasons)}"


def client_names(directory: Path | str) -> Sequence[str]:
    """Return the names of a run's sites; none where its directory does not tell."""
    try:
        return RunRecord.read(directory).met.names
    except OSError:
        return ()


def json_in(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; what is missing or broken is an empty one."""
    return _read_json(path, [])


def _of(events: Iterable[Event], kind: type[Kind]) -> list[Kind]:
    return [event for event in events if isinstance(event, kind)]


def _table(values: Sequence[Sequence[float]] | None) -> Sequence[Sequence[float]] | None:
    return values if values and {len(row) for row in values} == {len(values[0]) or None} else None


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


def _each_once(events: Sequence[Event]) -> tuple[Event, ...]:
    """Keep of each round, epoch, batch and evaluation what was written last."""
    latest: dict[object, Event] = {}
    for index, event in enumerate(events):
        same = tuple(str(getattr(event, name)) for name in event.identity)
        key = (event.event, same) if same else index
        latest.pop(key, None)
        latest[key] = event
    return tuple(latest.values())


def _summary_so_far(events: Sequence[Event], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the events of a run tell in the form of ``summary.json``, without a status."""
    settings = mapping(config.get("configuration"))
    ledger, seconds = Ledger(), dict[str, float]()
    for event in events:
        if getattr(event, "accuracy", 0.0) is not None:  # else what was measured last holds
            ledger.enter(event)
        if isinstance(event, RoundDone | EpochDone | ImagesMade):
            seconds[event.part] = seconds.get(event.part, 0.0) + (event.seconds or 0.0)
    start = next(iter(_of(events, RunStarted)), None)
    clients = next((len(e.num_examples) for e in reversed(_of(events, ClientsMet))), None)
    return {
        "strategy": start.strategy if start else settings.get("strategy"),
        "dataset": start.dataset if start else settings.get("dataset"),
        "seed": start.seed if start else config.get("seed"),
        "clients": clients or settings.get("num-clients"),
        "rounds": max((e.round for e in _of(events, RoundDone) if not e.competes), default=None),
        **ledger.results(None),
        "seconds": {**seconds, "total": sum(seconds.values())} if seconds else {},
    }
