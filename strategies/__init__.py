"""Federated algorithms: one file each, the server's and the client's half side by side."""

from .algorithm import Algorithm as Algorithm
from .algorithm import get as get
from .algorithm import label_loss as label_loss
from .algorithm import prior_left as prior_left
from .algorithm import shared_model as shared_model
from .client import ClientAlgorithm as ClientAlgorithm
from .flower import from_flower as from_flower
from .server import FederatedStrategy as FederatedStrategy
from .server import LocalUpdate as LocalUpdate
from .server import TooFewReplies as TooFewReplies
