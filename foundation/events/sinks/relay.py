"""Events of a run become numbers and pictures, the same for every sink."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from foundation.events.family import RunOpened
from foundation.events.metrics import Event, mapping, number
from foundation.events.sinks.registry import chosen_sinks
from foundation.events.sinks.sink import Sink

log = logging.getLogger("flwr.fedf2dg")

Numbers = tuple[str, int, dict[str, float]]
#: Of a run's directory and class names, by name and step: what draws each picture as PNG.
Pictures = Callable[[Path, Sequence[str]], Mapping[tuple[str, int], Callable[[], bytes]]]


class Relay:
    """Hands a run's events to its sinks; one that fails gets nothing more, and the run goes on.

    Parameters
    ----------
    pictures : callable
        Finds the pictures that a run's directory has by now.
    """

    def __init__(self, pictures: Pictures = lambda directory, class_names: {}) -> None:
        self._find_pictures = pictures
        self._sinks: dict[str, Sink] = {}
        self._stages: list[str] = []
        self._shown: set[tuple[str, int]] = set()

    def __call__(self, event: Any) -> None:
        """Take one event of ``metrics.jsonl``, or the run's beginning."""
        if isinstance(event, RunOpened):
            self._open(event)
        elif self._sinks and isinstance(event, dict):
            self._hand_on(event)

    def _open(self, run: RunOpened) -> None:
        self._run = run
        for name, module in chosen_sinks(run.configuration.sink_names).items():
            try:
                open_sink = import_module(module).open_sink
                self._sinks[name] = open_sink(run.directory, run.configuration.flat())
            except Exception as error:
                _warn(name, error)

    def _hand_on(self, event: Event) -> None:
        found = [numbers for numbers in self._numbers(event) if numbers[2]]
        pictures = list(self._pictures()) if event["event"] in ("evaluation", "end") else []
        for name, sink in list(self._sinks.items()):
            try:
                for numbers in found:
                    sink.numbers(*numbers)
                for picture in pictures:
                    sink.picture(*picture)
            except Exception as error:
                _warn(name, error)
                del self._sinks[name]

    def close(self) -> None:
        """Close all sinks."""
        for name, sink in self._sinks.items():
            try:
                sink.close()
            except Exception as error:
                _warn(name, error)
        self._sinks.clear()

    def _numbers(self, event: Event) -> Iterator[Numbers]:
        kind = event["event"]
        if kind == "round":
            names = ("accuracy", "loss", "train_loss", "seconds", "bytes_down", "bytes_up")
            values = _finite(event, names)
            values["dropped"] = len(event.get("failures") or ())
            yield str(event.get("phase")), _whole(event, "round"), values
        elif kind == "distillation":
            place = _whole(event, "competition_round")
            group = f"distillation of competition round {place}" if place else "distillation"
            yield group, _whole(event, "epoch"), _finite(event, ("accuracy", "loss", "seconds"))
        elif kind == "generation":
            values = _finite(event, ("images", "objective", "seconds"))
            yield f"{event.get('kind')} samples", _whole(event, "competition_round"), values
        elif kind in ("evaluation", "judgement"):
            stage = str(event.get("stage"))
            yield "stages", self._place(stage), _of_stage(event, stage)
            # A judgement knows each client's accuracy of the model that is kept.
            rows = event.get("clients") or mapping(event.get("on_clients")).get("clients") or ()
            share = "kept" if kind == "judgement" else "accuracy"
            shares = {str(r.get("name", r.get("client"))): number(r.get(share)) for r in rows}
            known = {name: value for name, value in shares.items() if value is not None}
            if known:
                group = "clients, model kept" if kind == "judgement" else "clients"
                yield group, self._place(stage), known

    def _place(self, stage: str) -> int:
        if stage not in self._stages:
            self._stages.append(stage)
        return self._stages.index(stage)

    def _pictures(self) -> Iterator[tuple[str, int, bytes]]:
        for (name, step), draw in self._find_pictures(
            self._run.directory, self._run.class_names
        ).items():
            if (name, step) in self._shown:
                continue
            self._shown.add((name, step))
            try:
                yield name, step, draw()
            except Exception as error:
                log.warning("no picture of %s for the sinks: %s", name, error)


def _of_stage(event: Event, stage: str) -> dict[str, float]:
    names = ("accuracy", "loss", "gain", "standard_error", "step")
    return {f"{stage} {name}": value for name, value in _finite(event, names).items()}


def _finite(event: Event, names: Sequence[str]) -> dict[str, float]:
    found = {name: number(event.get(name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _whole(event: Event, name: str) -> int:
    return int(number(event.get(name)) or 0)


def _warn(name: str, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    log.warning("sink %s failed and gets nothing more: %s", name, reason[:300])
