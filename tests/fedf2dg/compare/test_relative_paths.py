"""A comparison that is given relative paths finds its own results."""

from pathlib import Path

import pytest

from fedf2dg.compare.comparison import compare
from fedf2dg.starters import write_example_sites


def test_a_relative_data_directory_is_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_example_sites(tmp_path / "sites")
    monkeypatch.chdir(tmp_path)
    arguments = ["strategy=fedavg", "dataset=folder", "data-dir=sites/site-1", "stages=train"]
    arguments += ["num-clients=2", "num-server-rounds=1", "local-epochs=1", "dirichlet-alpha=1"]
    arguments += ["train-samples=60", "min-partition-size=2", "processes=1"]
    lines: list[str] = []
    assert compare([], arguments, output=Path("made"), jobs=1, say=lines.append) == 0
    # Asked again from elsewhere, by the absolute path, there is nothing left to make.
    monkeypatch.chdir("/")
    again = [text.replace("sites/site-1", str(tmp_path / "sites/site-1")) for text in arguments]
    assert compare([], again, output=tmp_path / "made", jobs=1, say=lines.append) == 0
    assert any("to make: no runs" in line for line in lines)
