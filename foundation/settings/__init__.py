"""What every part of a run can be told: one file per section, each setting declared once."""

from .calibration import CalibrationSettings
from .declaration import ConfigurationError, KeyInfo, Section, Value, key, setting
from .distillation import DistillationSettings, Layers, Statistics, Teacher
from .generation import (
    FORMS,
    PUBLISHED,
    CompetitionSettings,
    Compile,
    Form,
    GenerationSettings,
    InversionSettings,
    Labels,
    Place,
    Precision,
    Schedule,
    inversion_of,
)

__all__ = [
    "FORMS",
    "PUBLISHED",
    "CalibrationSettings",
    "CompetitionSettings",
    "Compile",
    "ConfigurationError",
    "DistillationSettings",
    "Form",
    "GenerationSettings",
    "InversionSettings",
    "KeyInfo",
    "Labels",
    "Layers",
    "Place",
    "Precision",
    "Schedule",
    "Section",
    "Statistics",
    "Teacher",
    "Value",
    "inversion_of",
    "key",
    "setting",
]
