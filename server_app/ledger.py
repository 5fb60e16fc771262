"""A run's costs and results so far, a part of every checkpoint: seconds, traffic, accuracies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Traffic:
    """Bytes of tensors and numbers themselves, without the transport's framing.

    Parameters
    ----------
    bytes_down, bytes_up : int
        To the clients, and from them.
    """

    bytes_down: int = 0
    bytes_up: int = 0


@dataclass
class GenerationWork:
    """What making pseudo images took.

    Parameters
    ----------
    images : int
        Images made.
    iterations : int
        Steps of the inversion of each, as of the last batch.
    seconds : float
        Wall-clock time.
    """

    images: int = 0
    iterations: int = 0
    seconds: float = 0.0

    def summary(self) -> dict[str, float]:
        """Return what ``summary.json`` says of it: the work, and its rate."""
        rate = self.images * self.iterations / self.seconds
        return {**asdict(self), "image_iterations_per_second": rate}


@dataclass
class Ledger:
    """The sums and results of a run, over all processes that it was resumed in.

    Parameters
    ----------
    seconds : dict[str, float]
        Wall-clock time by part of the run; ``total`` is all of it.
    accuracy : dict[str, float or None]
        Latest accuracy, by stage, 0 to 1; None where it was not measured.
    measured : dict[str, dict]
        Of each of them: ``by`` whom (``"server"``, ``"clients"``, ``"nobody"``) it was measured, on
        how many ``images``; ``also_chose`` is true where these images chose the model, too.
    on_clients : dict[str, dict]
        What the clients measured, by stage: ``images``, ``accuracy``, and each of the ``clients``.
    best_on_test : dict[str, float]
        The best of the server's, to compare with papers; nothing is selected by it.
    traffic : dict[str, Traffic]
        By kind: ``"model"``, ``"pseudo data"``, ``"label counts"`` …
    dropped : int
        Answers of clients that were missing or of no use.
    generation : GenerationWork, optional
        None if no pseudo images were made.
    kept : str
        The stage whose model is kept.
    offered : str, optional
        A stage whose result waits for its judgement.
    needs_proof : bool
        Whether that is to be kept only if it is shown to help.
    judged : dict, optional
        What ``summary.json`` says of the judgements; None where there was none.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float | None] = field(default_factory=dict)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    best_on_test: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=dict)
    dropped: int = 0
    generation: GenerationWork | None = None
    kept: str = "federated"
    offered: str | None = None
    needs_proof: bool = True
    judged: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Begin to count the total time."""
        self._counted_until = time.perf_counter()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time spent inside to ``seconds[name]``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def note_total_time(self) -> None:
        """Add the time since the last call, or since this object was made, to the total."""
        now = time.perf_counter()
        self.seconds["total"] = self.seconds.get("total", 0.0) + now - self._counted_until
        self._counted_until = now

    def note_result(
        self,
        stage: str,
        accuracy: float | None,
        *,
        by: str,
        images: int,
        classes: int = 0,
        also_chose: bool = False,
    ) -> None:
        """Record an accuracy as a stage's latest, and the server's best to compare with papers.

        Parameters
        ----------
        stage : str
            Whose result was measured; ``"selected"``: the model that is kept.
        accuracy : float or None
            0 to 1; None if nothing was measured.
        by : str
            Who measured.
        images : int
            On how many images.
        classes : int (default: 0)
            Of how many classes, if they are not of all.
        also_chose : bool (default: False)
            Whether the model was chosen of several by what it does on these very images: the best
            of several is a little better there than on others.
        """
        self.accuracy[stage] = accuracy
        self.measured[stage] = {"by": by, "images": images}
        if classes:
            self.measured[stage]["classes"] = classes
        if also_chose:
            self.measured[stage]["also_chose"] = True
        if by == "server" and accuracy is not None and stage != "selected":
            self.best_on_test[stage] = max(self.best_on_test.get(stage, 0.0), accuracy)

    def note_traffic(self, kind: str, *, down: int = 0, up: int = 0) -> None:
        """Count bytes that went to the clients, and that left them."""
        counted = self.traffic.setdefault(kind, Traffic())
        counted.bytes_down += down
        counted.bytes_up += up

    def note_generation(self, images: int, iterations: int, seconds: float) -> None:
        """Count pseudo images that were made."""
        work = self.generation = self.generation or GenerationWork()
        work.images += images
        work.seconds += seconds
        work.iterations = iterations

    def to_json(self) -> dict[str, Any]:
        """Return the ledger as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Ledger:
        """Read what :meth:`to_json` returned.

        Raises
        ------
        KeyError, TypeError, AttributeError
            If a value is missing, unknown, or of another kind.
        """
        plain = dict(values)
        traffic = {kind: Traffic(**counted) for kind, counted in plain.pop("traffic").items()}
        generation = plain.pop("generation")
        return cls(
            **plain,
            traffic=traffic,
            generation=None if generation is None else GenerationWork(**generation),
        )
