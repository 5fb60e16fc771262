"""Families of members: strategies, post-training methods, models, data sources, sinks.

A user names a member in one of three ways:

- by its name, where it is one of ours. A file (or a folder) of the family's folder declares it, as
  ``algorithm = Algorithm("name", …)``, or among several in a tuple ``algorithms = (…)``. The names
  are read from the files' text, because to import all of them takes seconds.
- by its name, where an installed package declares it as an entry point of the family's group.
- as ``module:name``, from the folder in which the command is called, or from an installed package.

Our own packages are imported from one folder, whatever stands beside a user's script.
"""

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .errors import ConfigurationError, ExpectedError, UsageError, location, log
from .wording import unknown

#: Where members of a user's own are looked for, in processes with another working folder.
FOLDER_VARIABLE = "FEDF2DG_FOLDER"
_ROOT = Path(__file__).resolve().parents[1]


Member = TypeVar("Member")


@dataclass(frozen=True)
class Family:
    """Members that can take each other's place."""

    #: The key that names a member, for messages.
    what: str
    #: The folder of our own members, as it is imported.
    package: str
    #: The global name under which a file declares its member; with an *s*, a tuple of members.
    attribute: str
    #: Of the entry points by which installed packages declare theirs.
    group: str

    @property
    def ours(self) -> tuple[str, ...]:
        """The names of the members in the family's folder, in alphabetical order."""
        return tuple(sorted(_declared(self.package, self.attribute)))

    @property
    def names(self) -> tuple[str, ...]:
        """All members that can be named without their module, in alphabetical order."""
        return tuple(sorted({*self.ours, *(point.name for point in _installed(self.group))}))

    def is_foreign(self, name: str) -> bool:
        """Tell whether a member comes from outside of the family's folder."""
        return self._as_declared(name) is None

    def _as_declared(self, name: str) -> str | None:
        """Return a name as one of our files has it: ``timm/`` stands for every name behind it."""
        known = _declared(self.package, self.attribute)
        parent = name[: name.find("/") + 1]
        return next((one for one in (name, parent) if one in known), None)

    def require(self, name: str, words: Sequence[str] = ()) -> None:
        """Refuse a name that there is none of; ``module:name`` is looked for when it is loaded.

        The message lists the choices, and the ``words`` that may be said in their place.
        """
        if self.is_foreign(name) and ":" not in name and name not in self.names:
            raise ConfigurationError(
                f"{unknown(self.what, name, (*words, *self.names))}, or your own as module:name"
            )

    def load(self, name: str, kind: type[Member]) -> Member:
        """Return a member.

        A ConfigurationError if there is none of that name, if it is of another type, or if its file
        cannot be imported: the message holds the file, the line and the error.
        """
        found, file = self._found(name)
        if not isinstance(found, kind):
            raise self._of_another_type(name, found, file, f"a {kind.__name__}")
        return found

    def load_function(self, name: str) -> Callable[..., Any]:
        """Return a member that is called; one of a user's own may be a plain function."""
        found, file = self._found(name)
        if not callable(found):
            raise self._of_another_type(name, found, file, "a function")
        return found

    def _found(self, name: str) -> tuple[object, str]:
        self.require(name)
        module, attribute = self._where(name)
        content = _imported(module, f"{self.what} {name!r}")
        found = getattr(content, attribute, None)
        if ":" in name:
            _refuse_a_hidden_file(f"{self.what} {name!r}", module, str(content.__file__))
        elif not self.is_foreign(name):
            members = (found, *getattr(content, f"{attribute}s", ()))
            wanted = self._as_declared(name)
            found = next(one for one in members if getattr(one, "name", None) == wanted)
        return found, str(content.__file__)

    def _of_another_type(self, name: str, found: object, file: str, kind: str) -> Exception:
        what = "nothing of that name" if found is None else f"one of type {type(found).__name__}"
        return ConfigurationError(f"{self.what} {name!r} must be {kind}: {file} has {what}")

    def _where(self, name: str) -> tuple[str, str]:
        if (known := self._as_declared(name)) is not None:
            return _declared(self.package, self.attribute)[known], self.attribute
        if ":" in name:
            module, _, attribute = name.partition(":")
            return module, attribute
        point = next(point for point in _installed(self.group) if point.name == name)
        return point.module, point.attr

    def source_files(self, name: str) -> list[tuple[str, Path]]:
        """Return a foreign member's sources, by names that are the same on every machine.

        They are its module alone, or all of its top-level package.
        """
        if not self.is_foreign(name):
            return []
        top = self._where(name)[0].partition(".")[0]
        _see_own_folder()
        spec = importlib.util.find_spec(top)
        if spec is None:
            raise ConfigurationError(f"{self.what} {name!r}: there is no module {top!r}")
        if spec.submodule_search_locations is None:
            return [(f"{top}.py", Path(str(spec.origin)))]
        folder = Path(next(iter(spec.submodule_search_locations)))
        return [
            (f"{top}/{file.relative_to(folder).as_posix()}", file)
            for file in sorted(folder.rglob("*.py"))
        ]


STRATEGIES = Family("strategy", "strategies", "algorithm", "fedf2dg.strategies")
LOCAL_LOSSES = Family("local-loss", "strategies", "local_loss", "fedf2dg.losses")
METHODS = Family("post-training", "post_training", "method", "fedf2dg.methods")
MODELS = Family("model", "foundation.models", "model", "fedf2dg.models")
QUESTIONS = Family("question", "questions", "question", "fedf2dg.questions")
DATA_SETS = Family("dataset", "foundation.data.sources", "source", "fedf2dg.data")
SINKS = Family("sink", "foundation.events.sinks", "sink", "fedf2dg.sinks")


def own_folder() -> str:
    """Return the folder in which the command was called, which holds a user's own members."""
    return os.environ.get(FOLDER_VARIABLE) or os.getcwd()


def _see_own_folder() -> None:
    if own_folder() not in sys.path:
        sys.path.append(own_folder())
        importlib.invalidate_caches()


def _imported(name: str, asked: str) -> ModuleType:
    _see_own_folder()
    try:
        return importlib.import_module(name)
    except ExpectedError:
        raise
    except Exception as error:  # whatever a half-written file raises
        log.debug("%s cannot be loaded", asked, exc_info=True)
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ConfigurationError(
                f"{asked}: there is no module {missing!r} in {own_folder()}, nor is one installed"
            ) from error
        raise ConfigurationError(f"{asked}: {location(error)}") from error


def _refuse_a_hidden_file(asked: str, module: str, found: str) -> None:
    place = Path(own_folder(), module.partition(".")[0])
    if Path(found).is_relative_to(place.parent):
        return
    for own in (place.with_suffix(".py"), place / "__init__.py"):
        if own.is_file():
            raise ConfigurationError(f"{asked}: {found} hides {own}: give yours another name")


@cache
def _declared(package: str, attribute: str) -> dict[str, str]:
    """Return the members that a folder's files declare: name to module."""
    found: dict[str, str] = {}
    folder = _ROOT / package.replace(".", "/")
    for file in sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")]):
        text = file.read_text("utf-8")
        if f"{attribute} = " not in text and f"{attribute}s = " not in text:
            continue
        try:
            statements = ast.parse(text).body
        except SyntaxError as error:
            log.warning("%s:%s is left out: %s", file, error.lineno, error.msg)
            continue
        names = _written_names(statements, (attribute, f"{attribute}s"))
        parts = file.relative_to(folder).with_suffix("").parts
        found |= dict.fromkeys(names, ".".join([package, *parts]).removesuffix(".__init__"))
    return found


def _written_names(statements: Sequence[ast.stmt], targets: Sequence[str]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target in targets:
                for call in value.elts if isinstance(value, ast.Tuple) else [value]:
                    match call:
                        case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                            yield name


@cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


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
