"""The baseline: the federated model as it is."""

from .method import Method, Settings
from .trained import Trained


def run(trained: Trained, settings: Settings) -> None:
    """Do nothing."""


method = Method("none", run)
