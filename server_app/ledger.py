"""A run's costs and results so far, a part of every checkpoint: seconds, traffic, accuracies."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from foundation.events.family import (
    BytesSent,
    EpochDone,
    Evaluated,
    Event,
    ImagesMade,
    Judged,
    Measured,
    OwnLayersJudged,
    OwnModels,
    PrivacySpent,
    ResultMeasured,
    RoundDone,
    Scored,
)
from foundation.events.reading import to_json
from foundation.progress import timed

#: The stages that every run reports, in their order; other methods have more.
RESULTS = ("federated", "distilled", "competed")
#: The parts of every run whose seconds it reports.
PARTS = ("federated", "generation", "distillation", "competition", "total")

_AS_TOLD: dict[type[Event], str] = {
    PrivacySpent: "privacy",
    OwnLayersJudged: "personal",
    Scored: "scores",
    OwnModels: "own_models",
}


@dataclass
class Ledger:
    """The sums and results of a run, over all processes that it was resumed in.

    By stage: the latest ``accuracy`` (0 to 1; None where it was not measured), ``measured``, the
    :class:`Measured` it came from, ``on_clients``, what the clients measured, and ``best_on_test``,
    the server's best, to compare with papers: nothing is selected by it. ``seconds`` are wall-clock
    times by part of the run, with a ``total``; ``traffic`` is bytes of tensors and numbers by kind.
    ``dropped`` are answers of clients that were missing or of no use. ``generation`` is what making
    pseudo images took; ``iterations`` are each image's, as of the last batch. ``kept`` is the stage
    whose model is kept, ``offered`` one that waits for its judgement, ``judged`` what
    ``summary.json`` says of the judgements, ``scores`` the latest event of that name.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float | None] = field(default_factory=dict)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    best_on_test: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: int = 0
    generation: dict[str, float] | None = None
    kept: str = "federated"
    offered: str | None = None
    needs_proof: bool = True
    whole: bool = False
    judged: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    own_models: dict[str, Any] | None = None
    personal: dict[str, Any] | None = None
    privacy: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._counted_until = time.perf_counter()

    def timed(self, name: str) -> AbstractContextManager[None]:
        """Add the time spent inside to ``seconds[name]``."""
        return timed(self.seconds, name)

    def note_total_time(self) -> None:
        """Add the time since the last call, or since this object was made, to the total."""
        now = time.perf_counter()
        self.seconds["total"] = self.seconds.get("total", 0.0) + now - self._counted_until
        self._counted_until = now

    def enter(self, event: Event) -> None:
        """Add what an event tells of traffic, results and lost answers."""
        match event:
            case RoundDone():
                self._travelled("model", event.bytes_down, event.bytes_up)
                self.dropped += len(event.failures)
                stage = "competed" if event.competes else "federated"
                self._reached(stage, event.accuracy, event.measured)
            case EpochDone(accuracy=float(accuracy)):
                self._reached(event.result, accuracy, None)
            case Evaluated() | ResultMeasured():
                self._reached(event.stage, event.accuracy, event.measured)
                if isinstance(event, Evaluated) and event.on_clients is not None:
                    self.on_clients[event.stage] = asdict(event.on_clients)
            case ImagesMade():
                self.dropped += len(event.failures or ())
                work = self.generation or {"images": 0, "iterations": 0, "seconds": 0.0}
                work["images"] += event.images or 0
                work["iterations"] = event.iterations or 0
                work["seconds"] += event.seconds or 0.0
                self.generation = work
            case BytesSent():
                self._travelled(event.kind, event.down, event.up)
            case Judged():
                self._judged(event)
            case _ if name := _AS_TOLD.get(type(event)):
                setattr(self, name, to_json(event))

    def _reached(self, stage: str, accuracy: float | None, measured: Measured | None) -> None:
        self.accuracy[stage] = accuracy
        if measured is not None:
            self.measured[stage] = {"by": measured.by, "images": measured.images}
            if measured.classes:
                self.measured[stage]["classes"] = measured.classes
            for name in ("also_chose", "of_sites"):
                if getattr(measured, name):
                    self.measured[stage][name] = True
        by = self.measured.get(stage, {}).get("by", "server")
        if by == "server" and accuracy is not None and stage != "selected":
            self.best_on_test[stage] = max(self.best_on_test.get(stage, 0.0), accuracy)

    def _travelled(self, kind: str, down: float | None, up: float | None) -> None:
        traffic = self.traffic.setdefault(kind, {"bytes_down": 0, "bytes_up": 0})
        traffic["bytes_down"] += int(down or 0)
        traffic["bytes_up"] += int(up or 0)

    def _judged(self, verdict: Judged) -> None:
        """Add a verdict; a stage's accuracy is that of its own result, λ = 1, kept or not."""
        judged = self.judged = self.judged or {"by": "nobody", "images": 0}
        if verdict.candidates:
            judged.update(by="clients", images=verdict.images)
            judged.setdefault(verdict.before, verdict.candidates[0].accuracy)
            judged[verdict.stage] = verdict.candidates[-1].accuracy
        if verdict.step:
            self.kept = verdict.stage
            judged.update(selected=verdict.stage, step=verdict.step)
        else:
            judged.setdefault("selected", verdict.before)
            judged.setdefault("step", 1.0)
        names = ("stage", "before", "step", "images", "gain", "standard_error")
        told = {name: getattr(verdict, name) for name in names} | {"sentence": verdict.verdict}
        told |= {} if verdict.metric == "accuracy" else {"metric": verdict.metric}
        judged.setdefault("verdicts", []).append(told)
        rows = [asdict(client) for client in verdict.clients]
        judged.setdefault("clients", {})[verdict.stage] = rows

    def results(self, kept: str | None) -> dict[str, Any]:
        """Return what ``summary.json`` says of them; a stage that did not run is None.

        Behind the stages stands the run's model, ``kept`` of one of them, if it has one.
        """

        def with_selected(found: Mapping[str, Any]) -> dict[str, Any]:
            stages = _by_stage(found)
            selected = stages.pop("selected", None if kept is None else stages.get(kept))
            return {**stages, "selected": selected}

        return {
            "accuracy": with_selected(self.accuracy),
            "measured": with_selected(self.measured),
            "seconds": {**dict.fromkeys(PARTS), **self.seconds},
            "on_clients": self.on_clients or None,
            "judged": self.judged,
            "scores": self.scores,
            "own_models": self.own_models,
            **{name: told for name in ("personal", "privacy") if (told := getattr(self, name))},
            "best_on_test": _by_stage(self.best_on_test),
            "generation": None if self.generation is None else _with_rate(self.generation),
            "dropped": self.dropped,
            "traffic": self.traffic or None,
        }


def _with_rate(work: dict[str, float]) -> dict[str, float | None]:
    done, seconds = work["images"] * work["iterations"], work["seconds"]
    return {**work, "image_iterations_per_second": done / seconds if seconds else None}


def _by_stage(found: Mapping[str, Any]) -> dict[str, Any]:
    # A method may have stages of its own, which stand where they came.
    return {**found, **{stage: None for stage in RESULTS if stage not in found}}
