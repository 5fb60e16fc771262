"""The pages for contributors name what there is; the API reference has a page for every room."""

import re
import tomllib
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    part.removesuffix(".py")
    for part in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"][
        "build"
    ]["targets"]["wheel"]["only-include"]
]


def test_the_guide_and_the_reference_have_every_room() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.search(r"^ROOMS := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert named is not None
    assert sorted(named[1].replace("\\", "").split()) == sorted(PARTS)
    for part in PARTS:
        assert f"`{part}/`" in guide or f"`{part}.py`" in guide, part


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_guide_lead_to_something(page: str) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)\)", (ROOT / page).read_text("utf-8"))
    assert [t for t in targets if "://" not in t and not (ROOT / t).exists()] == []


def test_paths_and_targets_of_the_guide_exist() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"\bmake ([a-z-]+)", guide))
    assert {"check", "test-all"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target
    for path in re.findall(r"`([\w./-]+/[\w./-]*)`", guide):
        assert (ROOT / path).exists() or path.startswith("docs/api/"), path


def test_the_citation_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_a_room_becomes_a_page_of_the_reference(tmp_path: Path) -> None:
    """One room, because all of them take seconds; ``make docs`` makes them all."""
    pdoc = pytest.importorskip("pdoc")
    pdoc.render.configure(docformat="numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pdoc.pdoc("generation", output_directory=tmp_path)
    page = (tmp_path / "generation" / "pseudo_data.html").read_text("utf-8")
    assert "Parameters" in page or "Returns" in page
