"""Packages that are imported from one folder, whatever stands beside a user's script."""

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from .errors import UsageError


class HiddenPackage(UsageError, ImportError):
    """A user's file has the name of a package that is needed, and was imported before it."""


class _Preferred(MetaPathFinder):
    """Finds packages in their folders before Python looks along its path."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if (folder := self.folders.get(name)) is None:
            return None
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


_finder = _Preferred()


def prefer(root: Path, names: Iterable[str]) -> None:
    """Have packages of a folder imported under their names from now on.

    A HiddenPackage names the file of another module of that name that was imported already.
    """
    for name in names:
        folder, known = root / name, sys.modules.get(name)
        if known is not None and str(folder) not in getattr(known, "__path__", ()):
            raise HiddenPackage(
                f"{known.__file__} hides the package {name!r} of fedf2dg, which is needed here: "
                f"give that file another name, or call this from a program that does not import it"
            )
        _finder.folders[name] = folder
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def preferred() -> dict[str, Path]:
    """Return the packages that are preferred, for processes that shall do the same."""
    return dict(_finder.folders)
