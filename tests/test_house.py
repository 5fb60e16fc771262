"""Rooms import downwards only, there are no circles, and Flower stays at the edge.

Read from the imports, those inside functions included: they are dependencies all the same.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Every room with the rooms that it may import, from the ground to the roof.
ROOMS: dict[str, set[str]] = {"foundation": set()}
ROOMS["distillation"] = {"foundation"}
ROOMS["generation"] = {"foundation"}
ROOMS["questions"] = {"generation", "foundation"}
ROOMS["strategies"] = {"foundation"}
ROOMS["post_training"] = {"questions", "generation", "distillation", "foundation"}
ROOMS["client_app"] = {"strategies", "questions", "generation", "distillation", "foundation"}
ROOMS["server_app"] = {*ROOMS["client_app"], "post_training"}
ROOMS["fedf2dg"] = {*ROOMS["server_app"], "server_app", "client_app"}
ROOMS["benchmarks"] = {*ROOMS["fedf2dg"], "fedf2dg", "tests"}

FLOWER = {"flwr", "ray"}
#: Rooms that know no Flower, but for the folder of the ground that speaks to it.
WITHOUT_FLOWER = {"foundation", "distillation", "generation", "post_training"}
SPEAKS_TO_FLOWER = "foundation.messages"


@dataclass(frozen=True)
class Import:
    """One import: the file that has it, the line, and the dotted name that is imported."""

    file: str
    line: int
    name: str

    @property
    def room(self) -> str:
        return self.file.split(".")[0]

    @property
    def imported_room(self) -> str:
        return self.name.split(".")[0]


class House:
    """The files of a checkout, by dotted name, and what they import."""

    def __init__(self, root: Path) -> None:
        self.paths: dict[str, Path] = {}
        for room in ROOMS:
            for path in [root / f"{room}.py", *sorted((root / room).rglob("*.py"))]:
                if path.is_file():
                    parts = path.relative_to(root).with_suffix("").parts
                    self.paths[".".join(parts).removesuffix(".__init__")] = path
        self.imports = [entry for file in self.paths for entry in self._imports(file)]

    def _imports(self, file: str) -> Iterator[Import]:
        path = self.paths[file]
        package = file.split(".") if path.name == "__init__.py" else file.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(file, node.lineno, alias.name)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                module = [*above, *([node.module] if node.module else [])]
                for alias in node.names:
                    yield Import(file, node.lineno, ".".join([*module, alias.name]))

    def not_allowed(self) -> list[str]:
        """Return the imports that the table does not allow."""
        return [
            f"{entry.file}:{entry.line} imports {entry.name}"
            for entry in self.imports
            if (
                entry.imported_room in ROOMS
                and entry.imported_room not in ROOMS[entry.room] | {entry.room}
            )
            or (
                entry.imported_room in FLOWER
                and entry.room in WITHOUT_FLOWER
                and not f"{entry.file}.".startswith(f"{SPEAKS_TO_FLOWER}.")
            )
        ]

    def arrows(self) -> Mapping[str, set[str]]:
        """Return which files each file needs; a name that a room hands on, from where it comes."""
        found: dict[str, set[str]] = {
            file: set() for file, path in self.paths.items() if path.name != "__init__.py"
        }
        for entry in self.imports:
            source = self._source(entry.name)
            if entry.file in found and source in found and source != entry.file:
                found[entry.file].add(source)
        return found

    def _source(self, name: str) -> str:
        """Return the file that a dotted name comes from; empty if it is not of this house."""
        for _ in range(10):  # a room may hand on what it was handed
            if name in self.paths:
                return name
            module = name.rpartition(".")[0]
            if module not in self.paths:
                return ""
            handed = [
                entry.name
                for entry in self.imports
                if entry.file == module and entry.name.split(".")[-1] == name.split(".")[-1]
            ]
            if self.paths[module].name != "__init__.py" or not handed:
                return module
            name = handed[0]
        return ""

    def circle(self) -> list[str]:
        """Return files that need each other in a circle; empty if none do."""
        try:
            TopologicalSorter(self.arrows()).prepare()
        except CycleError as error:
            return list(error.args[1])
        return []


@pytest.fixture(scope="module")
def house() -> House:
    return House(ROOT)


def test_every_folder_with_code_is_a_room() -> None:
    outside = {"docs", "examples", "presets", "tests"}
    holders = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {
        path.stem for path in ROOT.glob("*.py")
    }
    assert holders - outside == ROOMS.keys()


def test_no_file_of_a_room_has_a_tests_name() -> None:
    """Flower leaves such files out of an app's bundle, and the run then lacks a module."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    assert files
    assert not [f for f in files if f.stem.startswith("test_") or f.stem.endswith("_test")]


def test_rooms_import_downwards_only(house: House) -> None:
    assert house.not_allowed() == []


def test_there_is_no_circle(house: House) -> None:
    assert house.circle() == []


def build(root: Path, files: Mapping[str, str]) -> House:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return House(root)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("foundation/models/a.py", "from strategies import get"),
        ("generation/a.py", "def late():\n    import questions"),
        ("foundation/a.py", "from generation import key"),
        ("distillation/a.py", "from flwr.app import Message"),
        ("client_app/a.py", "import post_training.registry"),
        ("client_app/a.py", "from server_app import run"),
    ],
)
def test_an_import_upwards_is_found(tmp_path: Path, file: str, content: str) -> None:
    (wrong,) = build(tmp_path, {file: content}).not_allowed()
    assert wrong.startswith(file.removesuffix(".py").replace("/", "."))


def test_an_import_downwards_is_none(tmp_path: Path) -> None:
    files = {
        "strategies/a.py": "import flwr\nfrom foundation.models import State\nfrom .b import x\n"
    }
    assert build(tmp_path, files).not_allowed() == []


def test_a_circle_is_found_through_a_room_and_inside_functions(tmp_path: Path) -> None:
    files = {
        "fedf2dg/cli.py": "def late():\n    from fedf2dg.tables import compare\n",
        "fedf2dg/tables/__init__.py": "from .execution import compare\n",
        "fedf2dg/tables/execution.py": "def later():\n    from fedf2dg.cli import main\n",
        "foundation/one.py": "from .two import b\n",
        "foundation/two.py": "",
    }
    found = build(tmp_path, files)
    assert set(found.circle()) == {"fedf2dg.cli", "fedf2dg.tables.execution"}
    (tmp_path / "fedf2dg" / "tables" / "execution.py").write_text("")
    assert House(tmp_path).circle() == []
