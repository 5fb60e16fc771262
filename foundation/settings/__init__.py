"""What every part of a run can be told: one file per section, each setting declared once."""

from .calibration import CalibrationSettings
from .co_boosting import CoBoostingSettings
from .competition import CompetitionSettings
from .declaration import ConfigurationError, KeyInfo, Section, Value, key, setting
from .dense import DenseSettings
from .distillation import DistillationSettings, Layers, Statistics, Teacher
from .fedacg import FedACGSettings
from .fedadi import FedADISettings
from .feddyn import FedDynSettings
from .fedftg import FedFTGSettings
from .fedntd import FedNTDSettings
from .fedrs import FedRSSettings
from .fedvls import FedVLSSettings
from .forms import FORMS, Form
from .generation import GenerationSettings, Labels, Place, inversion_of
from .inversion import PUBLISHED, Compile, InversionSettings, Precision, Schedule
from .logit_adjustment import LogitAdjustmentSettings
from .moon import MoonSettings
from .robust import RobustSettings
from .schedule import ScheduleSettings
from .server_optimizer import ServerOptimizerSettings

__all__ = [
    "FORMS",
    "PUBLISHED",
    "CalibrationSettings",
    "CoBoostingSettings",
    "CompetitionSettings",
    "Compile",
    "ConfigurationError",
    "DenseSettings",
    "DistillationSettings",
    "FedACGSettings",
    "FedADISettings",
    "FedDynSettings",
    "FedFTGSettings",
    "FedNTDSettings",
    "FedRSSettings",
    "FedVLSSettings",
    "Form",
    "GenerationSettings",
    "InversionSettings",
    "KeyInfo",
    "Labels",
    "Layers",
    "LogitAdjustmentSettings",
    "MoonSettings",
    "Place",
    "Precision",
    "RobustSettings",
    "Schedule",
    "ScheduleSettings",
    "Section",
    "ServerOptimizerSettings",
    "Statistics",
    "Teacher",
    "Value",
    "inversion_of",
    "key",
    "setting",
]
