"""What a user calls: the command, the engines, comparisons, and the kit for real sites.

As a library: ``from fedf2dg import RunConfiguration, simulate`` for whole runs,
``from fedf2dg import KeepLocalModels, post_train`` for what comes after training in anybody's
Flower app, or in no Flower app at all; ``from fedf2dg import load_model`` for the model that a run
kept. What a name needs is imported when the name is first used,
so that the command starts at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

_ROOT = Path(__file__).resolve().parents[1]
try:
    from foundation.members import prefer
except ImportError as error:
    raise ImportError(
        f"{getattr(sys.modules.get('foundation'), '__file__', '?')} hides the package 'foundation' "
        "of fedf2dg: give that file another name, or call this from another folder"
    ) from error

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

# What a name needs beside this package. Flower's users, too, have files called client_app,
# server_app and strategies: what is written for their apps must not need ours.
_LIBRARY = ("foundation", "distillation", "generation", "questions", "post_training")
_RUN = (*_LIBRARY, "strategies", "client_app", "server_app")

_WHERE = {
    "AskClients": ("fedf2dg.ask_clients", _LIBRARY),
    "KeepLocalModels": ("fedf2dg.keep_local_models", _LIBRARY),
    "KeptModels": ("fedf2dg.kept_models", _LIBRARY),
    "PostTrained": ("post_training.library", _LIBRARY),
    "RunConfiguration": ("foundation.settings.configuration", _LIBRARY),
    "from_flower": ("strategies", _RUN),
    "load_model": ("fedf2dg.use.trained_model", _LIBRARY),
    "post_train": ("post_training.library", _LIBRARY),
    "simulate": ("fedf2dg.simulation.simulate", _RUN),
    "tell_predictions": ("fedf2dg.ask_clients", _LIBRARY),
}


def __getattr__(name: str) -> Any:
    """Import a name of the library on its first use."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, rooms = _WHERE[name]
    prefer(_ROOT, rooms)
    value = globals()[name] = getattr(import_module(module), name)
    return value


def prefer_ours() -> None:
    """Have all rooms imported from this installation: for programs that are ours alone."""
    prefer(_ROOT, _RUN)
