"""The directory of a run: runs that start together never share one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app import run_directory


class _StandingClock(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 26, 1, 35, 43, tzinfo=tz)


@pytest.fixture(autouse=True)
def same_second(monkeypatch, tmp_path):
    monkeypatch.setattr(run_directory, "datetime", _StandingClock)
    monkeypatch.chdir(tmp_path)


def test_runs_of_one_second_take_the_next_free_name(tmp_path):
    directories = [run_directory.prepare(RunConfiguration()) for _ in range(3)]
    name = "20261126T013543Z-scaffold-digits-s0"
    assert directories == [tmp_path / "outputs" / n for n in (name, f"{name}-2", f"{name}-3")]


def test_runs_that_start_at_once_never_share_a_directory():
    with ThreadPoolExecutor(16) as threads:
        directories = list(threads.map(run_directory.claim, [RunConfiguration()] * 64))
    assert len(set(directories)) == 64


def test_a_directory_that_the_user_named_is_not_renamed(tmp_path):
    mine = RunConfiguration(output_dir=str(tmp_path / "mine"))
    directory = run_directory.prepare(mine)
    (directory / "config.json").write_text("{}")
    assert run_directory.prepare(mine) == directory  # refused before its first step: begun anew
    (directory / "checkpoints" / "0001-train-00").mkdir()
    with pytest.raises(ConfigurationError, match="already holds a run"):
        run_directory.prepare(mine)
