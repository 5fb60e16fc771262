"""What a user calls: the command, the engines, comparisons, and the kit for real sites.

As a library: ``from fedf2dg import RunConfiguration, simulate`` for whole runs,
``from fedf2dg import KeepLocalModels, post_train`` for what comes after training in anybody's
Flower app, or in no Flower app at all; ``from fedf2dg import load_model`` for the model that a run
kept. What a name needs is imported when the name is first used,
so that the command starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedf2dg.ask_clients import AskClients, tell_predictions
    from fedf2dg.keep_local_models import KeepLocalModels
    from fedf2dg.kept_models import KeptModels
    from fedf2dg.simulation.simulate import simulate
    from fedf2dg.use.trained_model import load_model
    from foundation.settings.configuration import RunConfiguration
    from post_training.library import PostTrained, post_train
    from strategies import from_flower

__all__ = [
    "AskClients",
    "KeepLocalModels",
    "KeptModels",
    "PostTrained",
    "RunConfiguration",
    "from_flower",
    "load_model",
    "post_train",
    "simulate",
    "tell_predictions",
]

_WHERE = {
    "AskClients": "fedf2dg.ask_clients",
    "KeepLocalModels": "fedf2dg.keep_local_models",
    "KeptModels": "fedf2dg.kept_models",
    "PostTrained": "post_training.library",
    "RunConfiguration": "foundation.settings.configuration",
    "from_flower": "strategies",
    "load_model": "fedf2dg.use.trained_model",
    "post_train": "post_training.library",
    "simulate": "fedf2dg.simulation.simulate",
    "tell_predictions": "fedf2dg.ask_clients",
}


def __getattr__(name: str) -> Any:
    """Import a name of the library on its first use."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return value
