"""What happens in a run: one frozen dataclass for each kind of event, with the sentence about it.

The name of a field is its key in ``metrics.jsonl``. A field that has its default is not written; a
key that is missing or unfit is read as nothing: the field's default, else None, an empty string or
an empty sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from foundation.scores import Gain, Outcomes, figures_sentence, metric_of
from foundation.wording import OWN_IS_BETTER, counted, duration, listed

if TYPE_CHECKING:
    from foundation.models import ModelDescription
    from foundation.settings.configuration import RunConfiguration


class Event:
    """What every event has in common."""

    #: Its name in the file; one without is told to those who follow the run, and not written.
    event: ClassVar[str] = ""
    #: Fields that make two events the same one: a stage that is run again replaces its events.
    identity: ClassVar[tuple[str, ...]] = ()
    #: Whether its sentence goes into the log, and not only to those who follow the run.
    logged: ClassVar[bool] = True
    #: What is said of a client among its failures; nothing if these are no cause for a warning.
    unheard: ClassVar[str] = ""

    def sentence(self, rounds: int | None = None) -> str:
        """Say it in one line; nothing if it is not worth one.

        ``rounds`` are the federated ones that the run is to have, if that is known.
        """
        return ""

    @property
    def warnings(self) -> Sequence[str]:
        """What of it somebody has to look at, a sentence each."""
        failures: Sequence[Failure] = (
            (getattr(self, "failures", None) or ()) if self.unheard else ()
        )
        return [self.unheard.format(self=self, who=f.who, reason=f.reason) for f in failures]


class Listener(Protocol):
    """Follows a run: a sink, the pages of its report. What it cannot do must not end the run."""

    def __call__(self, event: Event) -> None:
        """Take an event, or one that was written before the run was resumed."""

    def close(self) -> None:
        """Finish what is open: the run goes on no more."""


@dataclass(frozen=True)
class Failure:
    """A client whose answer was missing or of no use, and why; named where its site has a name."""

    client: int
    reason: str
    name: str = ""

    @property
    def who(self) -> str:
        """What to call the client."""
        return self.name or f"client {self.client}"


def failures_of(
    reasons: Mapping[int, str], names: Mapping[int, str] | None = None
) -> tuple[Failure, ...]:
    """Return failures by client; clients' names say more than their numbers."""
    found = [(client, reason, (names or {}).get(client, "")) for client, reason in reasons.items()]
    # Who has no name is called by its number.
    return tuple(
        Failure(client, reason, "" if name == f"client {client}" else name)
        for client, reason, name in sorted(found)
    )


@dataclass(frozen=True)
class Measured:
    """Who measured an accuracy: ``"server"``, ``"clients"`` or ``"nobody"``, on how many images.

    They are of so many ``classes``, if some have none. Where they also chose the model of several,
    they flatter it a little. ``of_sites``: the server's are those of simulated sites' folders.
    """

    by: str
    images: int
    classes: int = 0
    also_chose: bool = False
    of_sites: bool = False

    @property
    def on(self) -> str:
        if self.by != "clients":
            return ""
        return f" on {counted(self.images, 'held-out image')} of the clients"


@dataclass(frozen=True)
class OfClient:
    """What concerns one client, whose site may have a name, and so many of its images."""

    client: int | None
    name: str
    images: int | None

    @property
    def who(self) -> str:
        """What to call the client."""
        return self.name or f"client {self.client}"


@dataclass(frozen=True)
class ClientAccuracy(OfClient):
    """What a client measured of a model on images that it holds out."""

    accuracy: float | None


@dataclass(frozen=True)
class OnClients:
    """What all clients measured of a model, together and each."""

    images: int
    accuracy: float | None
    clients: Sequence[ClientAccuracy]


@dataclass(frozen=True)
class SiteOutcomes:
    """What a model says of a site's held-out images, added up; see :class:`Scored`."""

    client: int | None
    name: str
    outcomes: Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """What the clients found of the model at λ = ``step`` of a judgement."""

    step: float
    accuracy: float
    gain: float
    standard_error: float


@dataclass(frozen=True)
class ClientJudgement(OfClient):
    """A client's accuracies of the model before a stage, of its result, and of what is kept."""

    before: float | None
    stage: float | None
    kept: float | None


@dataclass(frozen=True)
class SiteGain(OfClient):
    """Accuracies of a site's own model and of the federation's on its held-out images.

    Only the federation's model has ``gained`` images right, only the own ``lost`` ones. The
    confusion matrices are there where clients answer by class.
    """

    own: float | None
    joined: float | None
    gained: int | None
    lost: int | None
    own_confusion: Sequence[Sequence[int]] | None = None
    joined_confusion: Sequence[Sequence[int]] | None = None

    @property
    def gain(self) -> Gain | None:
        """What joining gained the site, in accuracy."""
        return _gain(self)


def _gain(told: "SiteGain | OwnModels") -> Gain | None:
    if not told.images or told.gained is None or told.lost is None:
        return None
    return Gain.of_counts(told.gained, told.lost, told.images)


def _accuracy(accuracy: float | None, measured: Measured | None) -> str:
    if accuracy is None:
        return "accuracy not measured"
    return f"accuracy {100 * accuracy:.2f} %{measured.on if measured else ''}"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _took(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


@dataclass(frozen=True)
class RunStarted(Event):
    """A run begins, not one that is resumed."""

    event = "start"
    time: str
    strategy: str
    dataset: str
    seed: int | None

    def sentence(self, rounds: int | None = None) -> str:
        return f"{self.strategy} on {self.dataset}, seed {self.seed}, started {self.time}"


@dataclass(frozen=True)
class ClientsMet(Event):
    """The clients are known: training images of each, and of each class as far as they told.

    Sites have names, parts of a data set do not; ``simulated`` is false where they are real ones.
    """

    event = "clients"
    num_examples: Sequence[float]
    label_counts: Sequence[Sequence[float]] | None
    names: Sequence[str] = ()
    simulated: bool = True

    def sentence(self, rounds: int | None = None) -> str:
        images = counted(round(sum(self.num_examples)), "training image")
        return f"{counted(len(self.num_examples), 'client')}, {images}"


@dataclass(frozen=True)
class RoundDone(Event):
    """A federated round is over; those of a competition count on.

    ``notes`` are the strategy's own numbers, which stand beside the other keys.
    """

    event = "round"
    identity = ("phase", "round")
    round: int
    phase: str
    accuracy: float | None
    loss: float | None
    measured: Measured | None
    train_loss: float | None
    seconds: float | None
    clients: Sequence[int]
    failures: Sequence[Failure]
    bytes_down: float | None
    bytes_up: float | None
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def competes(self) -> bool:
        return self.phase == "competition"

    @property
    def part(self) -> str:
        return "competition" if self.competes else "federated"

    def sentence(self, rounds: int | None = None) -> str:
        left = ""
        if rounds is not None and not self.competes:  # whose rounds are not known
            left = f"{self.round} of {rounds} rounds"
            if self.seconds is not None and self.round < rounds:
                left += f", {duration((rounds - self.round) * self.seconds)} left"
        return _joined(
            f"{self.phase} round {self.round}: {_accuracy(self.accuracy, self.measured)}",
            "" if self.train_loss is None else f"train loss {self.train_loss:.4f}",
            counted(len(self.clients), "client") if self.clients else "",
            f"{len(self.failures)} dropped" if self.failures else "",
            _took(self.seconds),
            left,
        )


@dataclass(frozen=True)
class RoundJudged(Event):
    """The clients held a round's model against the ``best`` one so far, which it may have become.

    ``waited`` rounds have passed since the best; the gain is over the one that was best before.
    """

    event = "round_judged"
    identity = ("round",)
    round: int
    best: int
    waited: int
    images: int
    accuracy: float
    gain: float
    standard_error: float
    metric: str = "accuracy"

    def sentence(self, rounds: int | None = None) -> str:
        since = f"round {self.best} stays the best, {counted(self.waited, 'round')} ago"
        return (
            f"round {self.round}: {metric_of(self.metric).signed(self.gain, self.standard_error)} "
            f"on {self.images} held-out images of the clients; "
            f"{since if self.waited else 'it is the best so far'}"
        )


@dataclass(frozen=True)
class StatisticsMeasured(Event):
    """The clients measured the BatchNorm statistics of a stage's model."""

    event = "batch_norm"
    unheard = "BatchNorm statistics: {who}: {reason}"
    stage: str
    clients: Sequence[int]
    failures: Sequence[Failure]
    seconds: float | None


@dataclass(frozen=True)
class Evaluated(Event):
    """The result of a stage was measured; confusion[true class][predicted class] by the server."""

    event = "evaluation"
    identity = ("stage",)
    stage: str
    accuracy: float | None
    loss: float | None
    confusion: Sequence[Sequence[float]] | None
    measured: Measured | None
    on_clients: OnClients | None

    def sentence(self, rounds: int | None = None) -> str:
        return f"{self.stage} model: {_accuracy(self.accuracy, self.measured)}"


@dataclass(frozen=True)
class Judged(Event):
    """The clients judged a stage's result against the model kept ``before``, or nobody did.

    ``step`` is λ of what is kept, from the model before (0) to the stage's result (1); ``gain`` and
    its standard error are that one's, or the result's where nothing is taken of it. By which figure
    they judged says ``metric``.
    """

    event = "judgement"
    unheard = "judgement: {who} did not judge: {reason}"
    stage: str
    before: str
    step: float | None
    images: int | None
    gain: float | None
    standard_error: float | None
    verdict: str = field(metadata={"key": "sentence"})
    candidates: Sequence[Candidate]
    clients: Sequence[ClientJudgement]
    failures: Sequence[Failure]
    seconds: float | None
    metric: str = "accuracy"

    def sentence(self, rounds: int | None = None) -> str:
        return self.verdict


@dataclass(frozen=True)
class OwnLayersOfSite(OfClient):
    """A site's accuracies by the shared model and with layers of its own; maybe it kept them."""

    shared: float | None
    own: float | None
    gain: float | None
    standard_error: float | None
    kept: bool


@dataclass(frozen=True)
class OwnLayersJudged(Event):
    """Sites held layers of their own, ``of`` one kind, against a model, known by its digest."""

    event = "own_layers"
    unheard = "personal {self.of}: {who} did not judge: {reason}"
    of: str
    model: str
    sites: Sequence[OwnLayersOfSite]
    failures: Sequence[Failure]
    seconds: float | None

    def sentence(self, rounds: int | None = None) -> str:
        kept = [site.who for site in self.sites if site.kept]
        sites = counted(len(self.sites), "site")
        named = f": {listed(kept)}; at such a site, {OWN_IS_BETTER}" if kept else ""
        return f"personal {self.of}: better at {len(kept)} of {sites}{named}"


@dataclass(frozen=True)
class PrivacySpent(Event):
    """What the global models give away of a client: ``epsilon`` at ``delta``, or they are private.

    Of the ``rounds``, no client is in more than ``releases``. The ``clipping_norm`` is the last.
    """

    event = "privacy"
    epsilon: float | None
    delta: float | None
    rounds: int | None
    releases: int | None
    clipping: str
    noise_multiplier: float | None
    clipping_norm: float | None
    budget: float | None

    def sentence(self, rounds: int | None = None) -> str:
        asked = rounds is not None and self.rounds is not None and self.rounds < rounds
        ended = f"; the budget, ε = {self.budget:g}, allows no other round" if asked else ""
        epsilon = "infinity" if self.epsilon is None else f"{self.epsilon:.2f}"
        return (
            f"privacy: ε = {epsilon} at δ = {self.delta:g} for a client with all its images, after "
            f"{counted(self.rounds or 0, 'round')}{ended}"
        )


@dataclass(frozen=True)
class Scored(Event):
    """What the model kept so far says of labelled images, added up: of all, and at each site.

    As :meth:`foundation.scores.Outcomes.as_json` writes it. The whole are the images of whoever
    measures the run's models.
    """

    event = "scores"
    identity = ("stage",)
    stage: str
    whole: Mapping[str, Any]
    sites: Sequence[SiteOutcomes] = ()

    def sentence(self, rounds: int | None = None) -> str:
        # Of a stage's own result its evaluation says enough.
        outcomes = Outcomes.read(self.whole) if self.stage == "selected" else None
        return "" if outcomes is None else f"model kept: {figures_sentence(outcomes)}"


@dataclass(frozen=True)
class OwnModels(Event):
    """The model kept was held against those that the sites trained alone, for so many rounds.

    Numbers are those of :class:`SiteGain` for all sites together; unknown if none answered.
    """

    event = "own_models"
    unheard = "own model: {who} did not compare: {reason}"
    rounds: int
    images: int | None
    own: float | None
    joined: float | None
    gained: int | None
    lost: int | None
    sites: Sequence[SiteGain]
    failures: Sequence[Failure]
    seconds: float | None

    @property
    def gain(self) -> Gain | None:
        """What joining gained all sites together."""
        return _gain(self)

    def sentence(self, rounds: int | None = None) -> str:
        if self.gain is None:
            return "no site held the model against one of its own"
        said = metric_of("accuracy").said(self.gain.value, self.gain.standard_error)
        return (
            f"joining {said} over the sites' own models, on {self.images} held-out images of "
            f"{counted(len(self.sites), 'client')}"
            + (": undecided, less than these images can tell apart" if self.gain.undecided else "")
        )


@dataclass(frozen=True)
class ImagesMade(Event):
    """A batch of pseudo images was made; ``budgets`` are the images that each client was to make.

    The ``objective`` is the inversion's last, a mean over images.
    """

    event = "generation"
    unheard = "{self.kind} samples: {who} dropped: {reason}"
    identity = ("competition_round", "kind", "batch")
    kind: str
    competition_round: int | None
    batch: int | None
    images: int | None
    iterations: int | None
    objective: float | None
    seconds: float | None
    place: str = ""
    budgets: Sequence[int | None] = ()
    failures: Sequence[Failure] | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None

    @property
    def part(self) -> str:
        return "competition" if self.competition_round else "generation"

    def sentence(self, rounds: int | None = None) -> str:
        return _joined(f"{self.images} {self.kind} samples generated", _took(self.seconds))


@dataclass(frozen=True)
class EpochDone(Event):
    """An epoch of a post-training method is over; a method with a name of its own is the stage.

    ``competition_round`` is 0 where FedF²DG distils for the first time.
    """

    event = "distillation"
    identity = ("stage", "competition_round", "epoch")
    logged = False  # its progress is
    epoch: int
    loss: float | None
    accuracy: float | None
    competition_round: int | None = None
    stage: str = ""
    objective: float | None = None
    seconds: float | None = None

    @property
    def part(self) -> str:
        return self.stage or ("competition" if self.competition_round else "distillation")

    @property
    def result(self) -> str:
        """Which stage's result it is on the way to."""
        return self.stage or ("competed" if self.competition_round else "distilled")

    def sentence(self, rounds: int | None = None) -> str:
        place = self.competition_round
        where = f" of competition round {place}" if place else ""
        said = f"{self.stage or 'distillation'} epoch {self.epoch}{where}"
        return _joined(f"{said}: {_accuracy(self.accuracy, None)}", _took(self.seconds))


@dataclass(frozen=True)
class Calibrated(Event):
    """The head's bias was corrected, or the head refitted."""

    event = "calibration"
    of: str
    source: str
    exchange: int | None = None
    clients: int | None = None
    images: int | None = None
    bias: Sequence[float] = ()
    classes: int | None = None
    shrinkage: float | None = None
    temperature: float | None = None
    #: Of a head in closed form: which, how regularised, chosen from so many by so many images.
    form: str | None = None
    strength: float | None = None
    heads: int | None = None
    held_out: int | None = None

    def sentence(self, rounds: int | None = None) -> str:
        if self.form is not None:
            return (
                f"head of {counted(self.classes or 0, 'class', 'classes')} in closed form: "
                f"{self.form}, strength {self.strength:.3g}, temperature {self.temperature:g}"
            )
        if self.of == "bias":
            source = "the clients' predictions" if self.source == "predictions" else "pseudo images"
            changes = ", ".join(f"{value:+.2f}" for value in self.bias)
            return f"bias of the head, from {source}, changes by {changes}"
        if self.shrinkage is None or self.temperature is None:
            return ""
        return (
            f"head refitted for {counted(self.classes or 0, 'class', 'classes')}: shrinkage "
            f"{self.shrinkage:.3f}, temperature {self.temperature:.2f}"
        )


@dataclass(frozen=True)
class TeacherTaken(Event):
    """The mean of the local models teaches, with so many times their priors taken out."""

    event = "teacher"
    models: int
    prior_strength: float | None

    def sentence(self, rounds: int | None = None) -> str:
        strength = self.prior_strength
        taken_out = f", with {strength:.2f} times their priors taken out" if strength else ""
        return f"teacher: the mean of {counted(self.models, 'local model')}{taken_out}"


@dataclass(frozen=True)
class RunEnded(Event):
    """A run was ``"completed"``, ``"failed"`` or was ``"interrupted"``; it may be resumed."""

    event = "end"
    logged = False  # the command says it
    status: str
    reason: str = ""

    def sentence(self, rounds: int | None = None) -> str:
        return f"run {self.status}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class RunOpened(Event):
    """A run begins or goes on in a directory; comes before all others."""

    directory: Path
    configuration: "RunConfiguration"
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class BytesSent(Event):
    """Tensors and numbers travelled, to the clients and from them, without the transport's framing.

    The kind is ``"model"``, ``"pseudo images"``, ``"label counts"``, ….
    """

    kind: str
    down: int = 0
    up: int = 0


@dataclass(frozen=True)
class ResultMeasured(Event):
    """A model on the way of a stage was measured, or what was ``"selected"``."""

    stage: str
    accuracy: float | None
    measured: Measured


@dataclass(frozen=True)
class PseudoImagesStored(Event):
    """There are more files of pseudo images in a run's directory."""

    directory: Path
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ModelKept(Event):
    """The model that a run keeps is in a folder; the summary is what ``summary.json`` will say."""

    folder: Path
    description: "ModelDescription"
    stage: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class RunCompleted(Event):
    """A run was carried out to its end; all its files are written.

    ``test_logits``, (n, C) float32, are what the model kept says of the test images, if it was
    asked last.
    """

    directory: Path
    summary: Mapping[str, Any]
    class_names: tuple[str, ...]
    test_logits: Any = None
