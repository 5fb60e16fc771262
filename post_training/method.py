"""What a file or folder of this room declares: a method, and what it may depend on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from torch import nn

from foundation import ExpectedError
from foundation.members import METHODS
from foundation.settings import (
    CalibrationSettings,
    CompetitionSettings,
    DistillationSettings,
    GenerationSettings,
    Section,
)
from foundation.settings.configuration import RunConfiguration, SomeSection, section_in
from foundation.settings.post_training import method_names

from .trained import Trained

#: Most bytes that a method may have each client send: Flower takes messages of 2 GB apart and
#: together again, in the memory of both sides.
LARGEST_ANSWER = 2**28


class NoAnswer(ExpectedError, RuntimeError):
    """The clients do not tell what a method needs."""


@dataclass(frozen=True)
class Settings:
    """The sections of the configuration that speak of what comes after training.

    A method sees these and nothing else of a run: no paths, no data set, no federated algorithm.

    Parameters
    ----------
    stages : tuple of str
        Which of FedF²DG's stages ``generate``, ``distil`` and ``compete`` to run.
    label_counts_told, exact_counts_told : bool
        Whether the server may know how many images of each class the clients have, be it roughly;
        and whether exactly, so that clients answer by class.
    sections : tuple of Section (default: ())
        A method's own, where they are not the defaults; see :meth:`section`.
    prior_left : float (default: 1)
        How many times a client's log prior is in the logits of its model; 0 after training with a
        loss that takes it out.
    """

    seed: int
    stages: tuple[str, ...]
    label_counts_told: bool
    exact_counts_told: bool
    generation: GenerationSettings
    distillation: DistillationSettings
    competition: CompetitionSettings
    calibration: CalibrationSettings
    sections: tuple[Section, ...] = ()
    prior_left: float = 1.0

    @classmethod
    def of(cls, configuration: RunConfiguration, prior_left: float = 1.0) -> Self:
        """Return a run's settings of what comes after training."""
        return cls(
            seed=configuration.seed,
            stages=configuration.stage_names,
            label_counts_told=configuration.label_counts_told,
            exact_counts_told=configuration.exact_counts_told,
            generation=configuration.generation,
            distillation=configuration.distillation,
            competition=configuration.competition,
            calibration=configuration.calibration,
            prior_left=prior_left,
            sections=configuration.sections,
        )

    def section(self, kind: type[SomeSection]) -> SomeSection:
        """Return a method's own section, by its class."""
        return section_in(self.sections, kind)


@dataclass(frozen=True)
class Method:
    """A post-training method: what is done to the global model after the last federated round.

    Parameters
    ----------
    name : str
        The value of the key ``post-training``.
    run : callable
        Called with (trained, settings); offers its results to ``trained``.
    has_stages : bool (default: False)
        Whether its steps are the run's own stages ``generate``, ``distil`` and ``compete``.
    asks_only : bool (default: False)
        Whether the clients' answers about the global model are all it needs, so that it can stand
        behind ``num-server-rounds=0``, where there are no local models.
    suits : callable, optional
        Called with (model, settings) before any work; ValueError if it cannot work with them.
    settings : type of Section, optional
        Its own section of the run's keys, where it is not one of ours (``foundation/settings``).
    """

    name: str
    run: Callable[[Trained, Settings], None]
    has_stages: bool = False
    asks_only: bool = False
    suits: Callable[[nn.Module, Settings], object] | None = None
    settings: type[Section] | None = None

    @property
    def prefix(self) -> str:
        """What its steps' names begin with in a run, so that those of two methods differ."""
        return "" if self.has_stages else f"{self.name.replace('-', '_')}-"


def carry_out(trained: Trained, step: str, work: Callable[[], None], *, seconds: str) -> None:
    """Do a method's step unless it was done, count its time under ``seconds``, and commit it."""
    if trained.done(step):
        return
    with trained.timed(seconds):
        work()
    trained.commit(step)


def methods() -> dict[str, Method]:
    """Return all methods of this folder by name, in alphabetical order."""
    return {name: METHODS.load(name, Method) for name in METHODS.ours}


def chosen(names: str) -> list[Method]:
    """Return the methods that ``post-training`` names, in its order (ConfigurationError)."""
    return [METHODS.load(name, Method) for name in method_names(names)]
