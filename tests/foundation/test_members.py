"""Members of a family: ours by name, an installed package's by name, anybody's as module:name."""

import ast
import logging
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from foundation import ConfigurationError, members
from foundation.members import (
    DATA_SETS,
    LOCAL_LOSSES,
    METHODS,
    MODELS,
    QUESTIONS,
    STRATEGIES,
    Family,
)

FAMILIES = (STRATEGIES, LOCAL_LOSSES, METHODS, MODELS, QUESTIONS, DATA_SETS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which the command is called; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.what)
def test_a_member_has_the_name_by_which_its_file_was_found(family: Family) -> None:
    assert len(family.ours) >= 3
    for name in family.ours:
        assert family.load(name, object).name == name  # type: ignore[attr-defined]


def test_all_members_that_the_rooms_declare_are_found() -> None:
    """No name is computed: then it could not be read from the file."""
    root = Path(members.__file__).parents[1]
    for family in FAMILIES:
        folder = root / family.package.replace(".", "/")
        for file in [*folder.glob("*.py"), *folder.glob("*/__init__.py")]:
            body = ast.parse(file.read_text("utf-8")).body
            targets = [t for s in body if isinstance(s, ast.Assign) for t in s.targets]
            names = {t.id for t in targets if isinstance(t, ast.Name)}
            if names & {family.attribute, f"{family.attribute}s"}:
                parts = file.relative_to(root).with_suffix("").parts
                module = ".".join(parts).removesuffix(".__init__")
                declared = members._declared(family.package, family.attribute)
                assert module in declared.values(), file


def test_a_member_of_ones_own_comes_from_the_folder_of_the_command(folder: Path) -> None:
    (folder / "helpers.py").write_text("DEPTH = 3\n")
    (folder / "mine.py").write_text("from helpers import DEPTH\ndef net(c, s): return DEPTH\n")
    assert MODELS.load_function("mine:net")(1, (8, 8)) == 3
    assert MODELS.source_files("mine:net") == [("mine.py", folder / "mine.py")]
    (folder / "pack").mkdir()
    for name in ("__init__.py", "nets.py"):
        (folder / "pack" / name).write_text("small = max\n")
    assert MODELS.load_function("pack.nets:small")(1, 2) == 2
    names = [name for name, _ in MODELS.source_files("pack.nets:small")]
    assert names == ["pack/__init__.py", "pack/nets.py"]


def test_a_member_of_an_installed_package_has_a_name(folder: Path, monkeypatch) -> None:
    (folder / "theirs.py").write_text("net = max\n")
    point = EntryPoint("their-net", "theirs:net", "fedf2dg.models")
    monkeypatch.setattr(members, "entry_points", lambda group: [point])
    members._installed.cache_clear()
    assert "their-net" in MODELS.names and "their-net" not in MODELS.ours
    assert MODELS.load_function("their-net") is max
    members._installed.cache_clear()


def test_what_is_wrong_with_a_file_of_ones_own_is_said_with_file_and_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="flwr.fedf2dg")
    logging.getLogger("flwr.fedf2dg").addHandler(caplog.handler)
    (folder / "half.py").write_text("net = max\n\ndef (\n")
    (folder / "undefined.py").write_text("net = max\n\nnot_there.x\n")
    (folder / "needy.py").write_text("import no_such_library\n")
    (folder / "empty.py").write_text("number = 3\n")
    (folder / "json.py").write_text("net = max\n")
    try:
        for name, said in {
            "half:net": [str(folder / "half.py"), "line 3", "SyntaxError"],
            "undefined:net": [
                str(folder / "undefined.py"),
                "line 3",
                "NameError: name 'not_there'",
            ],
            "needy:net": [str(folder / "needy.py"), "line 1", "No module named 'no_such_library'"],
            "nowhere:net": ["there is no module 'nowhere'", str(folder)],
            "empty:net": [str(folder / "empty.py"), "nothing of that name"],
            "empty:number": ["must be a function", "one of type int"],
            "json:net": ["hides", str(folder / "json.py"), "another name"],
        }.items():
            with pytest.raises(ConfigurationError) as error:
                MODELS.load_function(name)
            assert all(part in str(error.value) for part in (*said, "model", name)), error.value
    finally:
        logging.getLogger("flwr.fedf2dg").removeHandler(caplog.handler)
    assert "Traceback" in caplog.text and "not_there.x" in caplog.text
    with pytest.raises(ConfigurationError, match="must be a Family"):
        METHODS.load("none", Family)


def test_a_half_written_file_in_our_folders_takes_nothing_else_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_log
) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "half.py").write_text("algorithm = (\n")
    (tmp_path / "strategies" / "whole.py").write_text('algorithm = Algorithm("whole")\n')
    monkeypatch.setattr(members, "_ROOT", tmp_path)
    members._declared.cache_clear()
    assert STRATEGIES.ours == ("whole",)
    assert f"{tmp_path}/strategies/half.py:1 is left out" in app_log.text
    members._declared.cache_clear()
