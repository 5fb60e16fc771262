"""Pseudo data from trained models: inversion of local models and the data generation principle.

A library of its own: tensors, modules and plain arguments in, tensors out.
"""

from foundation.settings import InversionSettings as InversionSettings

from .acceleration import forward_operations as forward_operations
from .engine import Inversion as Inversion
from .engine import InversionEngine as InversionEngine
from .engine import InversionError as InversionError
from .engine import PixelRange as PixelRange
from .engine import UninvertibleModel as UninvertibleModel
from .engine import implausible as implausible
from .engine import invert as invert
from .principle import budgets as budgets
from .principle import class_balanced as class_balanced
from .principle import draw_labels as draw_labels
from .principle import quality as quality
from .principle import shares as shares
from .pseudo_data import Generation as Generation
from .pseudo_data import PseudoData as PseudoData
from .pseudo_data import generate as generate
from .pseudo_data import quality_losses as quality_losses
