"""What every part of a run can be told: one file per section, each setting declared once."""

from .calibration import CalibrationSettings as CalibrationSettings
from .declaration import ConfigurationError as ConfigurationError
from .declaration import KeyInfo as KeyInfo
from .declaration import Section as Section
from .declaration import key as key
from .distillation import DistillationSettings as DistillationSettings
from .distillation import Layers as Layers
from .distillation import Statistics as Statistics
from .distillation import Teacher as Teacher
from .generation import FORMS as FORMS
from .generation import PUBLISHED as PUBLISHED
from .generation import CompetitionSettings as CompetitionSettings
from .generation import Compile as Compile
from .generation import Form as Form
from .generation import GenerationSettings as GenerationSettings
from .generation import InversionSettings as InversionSettings
from .generation import Precision as Precision
from .generation import Schedule as Schedule
