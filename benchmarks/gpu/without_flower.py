"""The client halves of the strategies where Flower is not installed.

A strategy's two halves stand in one file, and the server's half is made of Flower's classes. To
train locally nothing of Flower is needed, so its names become classes that can be inherited from
and never made.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_FLOWER = "flwr"


def is_installed() -> bool:
    """Tell whether Flower itself is there."""
    spec = importlib.util.find_spec(_FLOWER)
    return spec is not None and not isinstance(spec.loader, _Stand)


def allow_missing_flower() -> None:
    """Let modules that import Flower be imported where it is not installed."""
    if importlib.util.find_spec(_FLOWER) is None:
        sys.meta_path.append(_Finder())


class _Unusable:
    def __init__(self, *_: object, **__: object) -> None:
        raise ModuleNotFoundError("Flower is not installed: pip install flwr", name=_FLOWER)


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Unusable,), {})


class _Stand(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] != _FLOWER:
            return None
        return importlib.machinery.ModuleSpec(name, _Stand(), is_package=True)
