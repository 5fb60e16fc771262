"""Flower's private interface changes without notice, so it is used in one file."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation")


def imported(file: Path) -> set[str]:
    """Return every module of Flower that a file imports from, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module))
    return {name for name in names if name.split(".")[0] == "flwr"}


def test_only_one_file_uses_what_flower_keeps_private() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    parts = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    files = [
        file
        for part in parts
        for file in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))
    ]
    assert len(files) > 80
    private = {
        file.relative_to(ROOT).as_posix()
        for file in files
        if any(not f"{name}.".startswith(tuple(f"{p}." for p in PUBLIC)) for name in imported(file))
        or "metadata.__dict__" in file.read_text("utf-8")
    }
    assert private == {"foundation/messages/exchange.py"}
