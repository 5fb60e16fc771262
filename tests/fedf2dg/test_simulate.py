"""``from fedf2dg import simulate``: a configuration in, a summary out."""

import io
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fedf2dg import RunConfiguration, simulate
from foundation import UsageError
from foundation.settings import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "strategy": "fedavg",
    "num-clients": 2,
    "train-samples": 60,
    "dirichlet-alpha": 1.0,
    "num-server-rounds": 1,
    "local-epochs": 1,
    "stages": "train",
    "processes": 1,
}


def test_a_run_returns_its_summary_and_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("flwr")
    before = logger.handlers[:], logger.level, logger.propagate
    output = io.StringIO()
    configuration = RunConfiguration.parse({**TINY, "output-dir": "here/run"})
    assert configuration.output_dir == str(tmp_path / "here" / "run")
    summary = simulate(configuration, "local", output)
    assert summary["status"] == "completed"
    assert summary == json.loads((tmp_path / "here" / "run" / "summary.json").read_text())
    assert "federated round 1: accuracy" in output.getvalue()
    assert (logger.handlers, logger.level, logger.propagate) == before


def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound = RunConfiguration.parse(TINY)
    for changes, said in (
        ({"strategy": "nope"}, "unknown strategy"),
        ({"model": "nope"}, "unknown model"),
        ({"dataset": "folder"}, "data-dir"),
        ({"generation": replace(sound.generation, jitter=3)}, "jitter"),
    ):
        with pytest.raises(UsageError, match=said):
            simulate(replace(sound, **changes))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="steam"):
        simulate(sound, "steam")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["output-dir", "resume-from", "data-dir"])
def test_every_path_is_made_absolute_where_it_is_read(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, meant in (
        ("a/../b", tmp_path / "b"),
        ("~/data", tmp_path / "home" / "data"),
        (str(tmp_path / "c"), tmp_path / "c"),
    ):
        assert RunConfiguration.parse({key: given}).flat()[key] == str(meant)
    assert RunConfiguration.parse({key: ""}).flat()[key] == ""


def test_importing_the_library_loads_nothing_heavy() -> None:
    program = "import sys, fedf2dg; fedf2dg.RunConfiguration(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    import fedf2dg

    with pytest.raises(AttributeError, match="nothing"):
        _ = fedf2dg.nothing
