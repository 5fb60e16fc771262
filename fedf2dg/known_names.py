"""Which strategies, models, data sets and methods there are, read from their files.

The registries themselves import torch and Flower, which takes seconds. A mistyped name is refused
at once, because names are written as they are: as the first argument of what a file of
``strategies/`` or ``post_training/`` declares, and as keys of the registries of models and data
sets. Where a name is computed, the files do not say what there is, and the registry decides later.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.settings.configuration import RunConfiguration
from foundation.settings.post_training import AUTO, method_names


def parse_quickly(values: Mapping[str, Any]) -> RunConfiguration:
    """Parse a run configuration, against the names that can be read from the files.

    Raises
    ------
    ConfigurationError
        Naming the key, the value and the choices.
    """
    names = known_names()
    methods = names.pop("post-training", ())
    configuration = RunConfiguration.parse(values, names)
    if methods and configuration.post_training != AUTO:
        method_names(configuration.post_training, methods)
    return configuration


def known_names() -> dict[str, tuple[str, ...]]:
    """Return the choices of the keys whose choices are registries, where the files say them all."""
    models = _keys("foundation.models", "MODELS")
    found = {
        "strategy": _declared_in("strategies", "algorithm"),
        "post-training": _declared_in("post_training", "method"),
        # Whatever stands behind the slash, timm knows.
        "model": [*models, "timm/"] if models else [],
        "dataset": _keys("foundation.data", "SOURCES"),
    }
    return {name: tuple(sorted(names)) for name, names in found.items() if names}


def _declared_in(package: str, attribute: str) -> list[str]:
    """Return the names that the files of a folder declare; none if one is computed."""
    names = []
    for file in sorted(_folder(package).glob("*.py")):
        for statement in _statements(file, attribute):
            match statement:
                case ast.Assign(
                    targets=[ast.Name(id=target)],
                    value=ast.Call(args=[ast.Constant(value=str(name)), *_]),
                ) if target == attribute:
                    names.append(name)
                case ast.FunctionDef() | ast.ClassDef():
                    pass  # its variables are its own
                case _ if _changes(statement, attribute):
                    return []
    return names


def _keys(package: str, variable: str) -> list[str]:
    """Return the keys that a package writes into a dictionary; none if one of them is computed.

    Keys are those of the dictionary where it is made, and those of lines like ``MODELS["mine"] =``
    in any file of the package.
    """
    names: list[str] = []
    for file in sorted(_folder(package).rglob("*.py")):
        for statement in _statements(file, variable):
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(id=target)], value=ast.Dict() as made)
                    | ast.AnnAssign(target=ast.Name(id=target), value=ast.Dict() as made)
                ) if target == variable:
                    for key, value in zip(made.keys, made.values, strict=True):
                        match key, value:
                            case ast.Constant(value=str(name)), _:
                                names.append(name)
                            case None, ast.Name(id=other) if inner := _keys(package, other):
                                names += inner
                            # {name: … for name in OTHER}
                            case None, ast.DictComp(
                                generators=[ast.comprehension(iter=ast.Name(id=other), ifs=[])]
                            ) if inner := _keys(package, other):
                                names += inner
                            case _:
                                return []
                case ast.Assign(
                    targets=[
                        ast.Subscript(
                            value=ast.Name(id=target), slice=ast.Constant(value=str(name))
                        )
                    ]
                ) if target == variable:
                    names.append(name)
                case _ if _changes(statement, variable):
                    return []
    return names


def _changes(statement: ast.stmt, variable: str) -> bool:
    """Tell whether a statement changes a dictionary in a way that is not read here."""
    for node in ast.walk(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name == variable:
                return True
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if (
                name == variable
            ):
                return True
            case ast.Attribute(value=ast.Name(id=name), attr="update" | "setdefault" | "pop") if (
                name == variable
            ):
                return True
    return False


def _folder(package: str) -> Path:
    """Find a package without importing it."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def _statements(file: Path, name: str) -> list[ast.stmt]:
    """Return the statements of a file that mentions a name."""
    text = file.read_text(encoding="utf-8")
    if name not in text:
        return []
    try:
        return ast.parse(text).body
    except SyntaxError:
        return []  # the registry leaves the file out, and says so
