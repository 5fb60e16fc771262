"""Events of a run become numbers and pictures, the same for every sink."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.errors import log
from foundation.events.family import (
    EpochDone,
    Evaluated,
    Event,
    ImagesMade,
    Judged,
    OwnModels,
    RoundDone,
    RunEnded,
    RunOpened,
    Scored,
)
from foundation.events.reading import number
from foundation.events.sinks import OpenSink, Sink
from foundation.members import SINKS
from foundation.scores import OF_ALL, Outcomes

Numbers = tuple[str, int, dict[str, Any]]
#: Of a run's directory and class names, by name and step: what draws each picture as PNG.
Pictures = Callable[[Path, Sequence[str]], Mapping[tuple[str, int], Callable[[], bytes]]]


class Relay:
    """Hands a run's events to its sinks; one that fails gets nothing more, and the run goes on."""

    def __init__(self, pictures: Pictures = lambda directory, class_names: {}) -> None:
        self._find_pictures = pictures
        self._sinks: dict[str, OpenSink] = {}
        self._stages: list[str] = []
        self._shown: set[tuple[str, int]] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunOpened):
            self._open(event)
        if not self._sinks:
            return
        told = [(group, step, _finite(values)) for group, step, values in self._numbers(event)]
        pictures = list(self._pictures()) if isinstance(event, Evaluated | RunEnded) else []
        for name, sink in list(self._sinks.items()):
            try:
                for group, step, values in told:
                    if values:
                        sink.numbers(group, step, values)
                for picture in pictures:
                    sink.picture(*picture)
            except Exception as error:
                _warn(name, error)
                del self._sinks[name]

    def close(self) -> None:
        for name, sink in self._sinks.items():
            try:
                sink.close()
            except Exception as error:
                _warn(name, error)
        self._sinks.clear()

    def _open(self, run: RunOpened) -> None:
        self._run = run
        for name in run.configuration.sink_names:
            try:
                sink = SINKS.load(name, Sink)
                self._sinks[name] = sink.open(run.directory, run.configuration.flat())
            except Exception as error:
                _warn(name, error)

    def _numbers(self, event: Event) -> Iterator[Numbers]:
        match event:
            case RoundDone():
                names = ("accuracy", "loss", "train_loss", "seconds", "bytes_down", "bytes_up")
                values = {**_of(event, names), "dropped": len(event.failures)}
                yield event.phase, event.round, values
            case EpochDone():
                place = event.competition_round
                group = f"distillation of competition round {place}" if place else "distillation"
                yield group, event.epoch, _of(event, ("accuracy", "loss", "seconds"))
            case ImagesMade():
                values = _of(event, ("images", "objective", "seconds"))
                yield f"{event.kind} samples", event.competition_round or 0, values
            case Evaluated():
                yield self._of_stage(event, ("accuracy", "loss"))
                rows = event.on_clients.clients if event.on_clients else ()
                accuracies = {row.name or f"{row.client}": row.accuracy for row in rows}
                yield "clients", self._place(event.stage), accuracies
            case Scored():
                if (outcomes := Outcomes.read(event.whole)) is not None:
                    values = {name: figure(outcomes).value for name, figure in OF_ALL.items()}
                    yield "figures of the model kept", self._place(event.stage), values
            case OwnModels():
                gains = {"all": event.gain}
                gains |= {site.name or f"{site.client}": site.gain for site in event.sites}
                values = {name: gain.value for name, gain in gains.items() if gain is not None}
                yield "gains over the sites' own models", 0, values
            case Judged():
                yield self._of_stage(event, ("gain", "standard_error", "step"))
                kept = {row.name or f"{row.client}": row.kept for row in event.clients}
                yield "clients, model kept", self._place(event.stage), kept

    def _of_stage(self, event: Evaluated | Judged, names: Sequence[str]) -> Numbers:
        values = {f"{event.stage} {name}": value for name, value in _of(event, names).items()}
        return "stages", self._place(event.stage), values

    def _place(self, stage: str) -> int:
        if stage not in self._stages:
            self._stages.append(stage)
        return self._stages.index(stage)

    def _pictures(self) -> Iterator[tuple[str, int, bytes]]:
        found = self._find_pictures(self._run.directory, self._run.class_names)
        for (name, step), draw in found.items():
            if (name, step) in self._shown:
                continue
            self._shown.add((name, step))
            try:
                yield name, step, draw()
            except Exception as error:
                log.warning("no picture of %s for the sinks: %s", name, error)


def _of(event: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(event, name) for name in names}


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    found = {name: number(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def _warn(name: str, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    log.warning("sink %s failed and gets nothing more: %s", name, reason[:300])
