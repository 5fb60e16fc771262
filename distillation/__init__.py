"""Knowledge distillation of pseudo data into the global model.

A library of its own: tensors, modules and plain arguments in, tensors out.
"""

from foundation.settings import DistillationSettings as DistillationSettings
from foundation.settings import Statistics as Statistics

from .training import Distillation as Distillation
from .training import DistillationError as DistillationError
from .training import chosen_layers as chosen_layers
from .training import distil as distil
from .training import distillation_loss as distillation_loss
from .training import trained_parameters as trained_parameters
