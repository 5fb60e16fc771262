"""What every part of a run can be told: one file per section, each setting declared once."""

from .competition import CompetitionSettings
from .declaration import ConfigurationError, KeyInfo, Section, Value, key, setting
from .distillation import DistillationSettings, Statistics
from .forms import FORMS, Form
from .generation import GenerationSettings, Place, inversion_of
from .inversion import PUBLISHED, Compile, InversionSettings, Precision, Schedule
from .moon import MoonSettings
from .robust import RobustSettings
from .server_optimizer import ServerOptimizerSettings

__all__ = [
    "FORMS",
    "PUBLISHED",
    "CompetitionSettings",
    "Compile",
    "ConfigurationError",
    "DistillationSettings",
    "Form",
    "GenerationSettings",
    "InversionSettings",
    "KeyInfo",
    "MoonSettings",
    "Place",
    "Precision",
    "RobustSettings",
    "Schedule",
    "Section",
    "ServerOptimizerSettings",
    "Statistics",
    "Value",
    "inversion_of",
    "key",
    "setting",
]
