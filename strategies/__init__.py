"""Federated algorithms: one file each, the server's and the client's half side by side."""

from .algorithm import Algorithm as Algorithm
from .client import ClientAlgorithm as ClientAlgorithm
from .flower import from_flower as from_flower
from .registry import get as get
from .registry import label_loss as label_loss
from .registry import prior_left as prior_left
from .registry import shared_model as shared_model
from .server import FederatedStrategy as FederatedStrategy
from .server import LocalUpdate as LocalUpdate
from .server import TooFewReplies as TooFewReplies
