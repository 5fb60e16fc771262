"""Which strategies, models, data sets and methods there are, read from their files.

The registries themselves import torch and Flower, which takes seconds. A mistyped name is refused
at once, because names are written as they are: as the first argument of what a file of
``strategies/`` or ``post_training/`` declares, and as keys of the registries of models and data
sets. Where a name is computed, the files do not say what there is, and the registry decides later.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configuration import RunConfiguration
from settings.post_training import method_names


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
    if methods:
        method_names(configuration.post_training, methods)
    return configuration


def known_names() -> dict[str, tuple[str, ...]]:
    """Return the choices of the keys whose choices are registries, where the files say them all."""
    found = {
        "strategy": _declared_in("strategies", "algorithm"),
        "post-training": _declared_in("post_training", "method"),
        "model": _keys("models", "registry.py", "MODELS"),
        "dataset": _keys("federated_data", "sources/__init__.py", "SOURCES"),
    }
    return {name: tuple(sorted(names)) for name, names in found.items() if names}


def _declared_in(package: str, attribute: str) -> list[str]:
    """Return the names that the files of a folder declare; none if one is computed."""
    names = []
    for file in sorted(_folder(package).glob("*.py")):
        for value in _assigned(file, attribute):
            match value:
                case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                    names.append(name)
                case _:
                    return []
    return names


def _keys(package: str, file: str, variable: str) -> list[str]:
    """Return the keys of a dictionary as they are written; none if one of them is computed."""
    path = _folder(package) / file
    names: list[str] = []
    for value in _assigned(path, variable):
        if not isinstance(value, ast.Dict):
            return []
        for key, item in zip(value.keys, value.values, strict=True):
            match key, item:
                case ast.Constant(value=str(name)), _:
                    names.append(name)
                # {name: … for name in OTHER}, where OTHER is imported from a file beside this one.
                case None, ast.DictComp(generators=[ast.comprehension(iter=ast.Name(id=other))]):
                    inner = [
                        name
                        for beside in sorted(path.parent.glob("*.py"))
                        if beside != path
                        for name in _keys(package, str(beside.relative_to(_folder(package))), other)
                    ]
                    if not inner:
                        return []
                    names += inner
                case _:
                    return []
    return names


def _folder(package: str) -> Path:
    """Find a package without importing it."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def _assigned(file: Path, name: str) -> Iterator[ast.expr]:
    """Yield what a file assigns to a global name."""
    text = file.read_text(encoding="utf-8")
    if name not in text:
        return
    try:
        content = ast.parse(text)
    except SyntaxError:
        return  # the registry leaves the file out, and says so
    for statement in content.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if (
                target == name
            ):
                yield value
