"""Events of a run become numbers and pictures, the same for every sink."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fedf2dg.report.figures import pseudo_image_grid, to_png
from fedf2dg.report.pseudo_images import read_grid, stored_sets
from fedf2dg.report.run_record import mapping, number
from foundation.events.metrics import Event
from foundation.events.sinks.registry import chosen_sinks
from foundation.events.sinks.sink import Sink

log = logging.getLogger("flwr.fedf2dg")

Numbers = tuple[str, int, dict[str, float]]


class Relay:
    """Hands a run's events to its sinks; one that fails gets nothing more, and the run goes on.

    Parameters
    ----------
    names : Sequence[str]
        Of :data:`~foundation.events.sinks.registry.SINKS`.
    directory : Path
        The run's directory.
    configuration : Mapping[str, Any]
        Keys and values of the run.
    class_names : Sequence[str] (default: the numbers of the classes)
        For pictures.
    """

    def __init__(
        self,
        names: Sequence[str],
        directory: Path,
        configuration: Mapping[str, Any],
        class_names: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.class_names = class_names
        self._sinks: dict[str, Sink] = {}
        self._stages: list[str] = []
        self._shown: set[tuple[str, int]] = set()
        for name, module in chosen_sinks(names).items():
            try:
                self._sinks[name] = import_module(module).open_sink(directory, configuration)
            except Exception as error:
                _warn(name, error)

    def __call__(self, event: Event) -> None:
        """Take one event of ``metrics.jsonl``."""
        if not self._sinks:
            return
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
        for kind, place in stored_sets(self.directory):
            if (kind, place) in self._shown:
                continue
            self._shown.add((kind, place))
            try:
                grid = read_grid(self.directory, kind, place)
                drawn = pseudo_image_grid(grid.tiles, grid.clients, grid.classes, self.class_names)
                yield f"{kind} samples", place, to_png(drawn)
            except Exception as error:
                log.warning("no picture of %s samples for the sinks: %s", kind, error)


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
