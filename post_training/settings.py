"""What a method may depend on beside the trained models."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import (
    CalibrationSettings,
    CompetitionSettings,
    DistillationSettings,
    GenerationSettings,
    Section,
)
from foundation.settings.configuration import RunConfiguration, SomeSection, section_in


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
    def of(cls, configuration: RunConfiguration, prior_left: float = 1.0) -> Settings:
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
