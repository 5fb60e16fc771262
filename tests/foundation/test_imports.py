"""Packages of one folder are imported whatever else goes by their names."""

import importlib
import sys
from pathlib import Path

import pytest

from foundation import members


@pytest.fixture
def two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return ours and theirs, with a package each of one name; theirs is first on the path."""
    for owner in ("ours", "theirs"):
        package = tmp_path / owner / "shared_name"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"owner = {owner!r}\n")
        (package / "part.py").write_text(f"owner = {owner!r}\n")
    monkeypatch.syspath_prepend(tmp_path / "theirs")
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    monkeypatch.setattr(members._finder, "folders", {})
    yield tmp_path / "ours", tmp_path / "theirs"
    for name in ("shared_name", "shared_name.part"):
        sys.modules.pop(name, None)


def test_the_preferred_package_is_imported_with_all_its_parts(two_folders) -> None:
    ours, _ = two_folders
    members.prefer(ours, ["shared_name"])
    assert importlib.import_module("shared_name").owner == "ours"
    assert importlib.import_module("shared_name.part").owner == "ours"
    assert members.preferred() == {"shared_name": ours / "shared_name"}
    members.prefer(ours, ["shared_name"])  # once more, now that it is loaded


def test_a_package_that_was_imported_before_is_named(two_folders) -> None:
    ours, theirs = two_folders
    importlib.import_module("shared_name")
    with pytest.raises(members.HiddenPackage) as error:
        members.prefer(ours, ["shared_name"])
    assert str(theirs / "shared_name" / "__init__.py") in str(error.value)
    assert "another name" in str(error.value)
