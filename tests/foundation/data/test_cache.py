import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest

from foundation.data import DataError, cache_directory
from foundation.data.cache import entry, new_array, open_arrays, own_secret
from foundation.processes import Event, Workers


def test_the_directory_is_configured_or_in_the_users_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("FEDF2DG_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "fedf2dg"


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "not" / "yet"
    monkeypatch.setenv("FEDF2DG_CACHE", str(directory))
    return directory


def numbers(directory: Path) -> None:
    np.save(directory / "numbers.npy", np.arange(5))


def test_an_entry_is_made_once_per_identity(empty_cache: Path) -> None:
    made: list[str] = []

    def make(directory: Path) -> None:
        made.append(directory.name)
        numbers(directory)

    first, again = (entry("things", "a", make) for _ in range(2))
    assert first == again and len(made) == 1
    assert entry("things", "b", make) != first
    assert len(made) == 2


def test_any_name_will_do(empty_cache: Path) -> None:
    place = entry("../my [images] *", "a", numbers)
    assert place.parent == empty_cache and place.is_dir()


def test_arrays_are_mapped_and_read_only(empty_cache: Path) -> None:
    (array,) = open_arrays("things", "a", numbers, ("numbers",))
    assert type(array) is np.ndarray
    assert isinstance(array.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_failure_leaves_no_entry(empty_cache: Path) -> None:
    def fail(directory: Path) -> None:
        numbers(directory)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        entry("things", "a", fail)
    assert [path for path in empty_cache.iterdir() if path.is_dir()] == []
    assert entry("things", "a", numbers).is_dir()


def test_what_a_dead_process_left_is_cleared(empty_cache: Path) -> None:
    place = entry("things", "a", numbers)
    place.rename(place.with_name(f".{place.name}.partial"))
    entry("things", "a", numbers)
    assert [path.name for path in empty_cache.iterdir() if path.is_dir()] == [place.name]


def test_a_damaged_entry_is_made_again(empty_cache: Path, warnings_seen: list[str]) -> None:
    place = entry("things", "a", numbers)
    file = place / "numbers.npy"
    file.write_bytes(file.read_bytes()[:-8])
    (array,) = open_arrays("things", "a", numbers, ("numbers",))
    np.testing.assert_array_equal(array, np.arange(5))
    assert "damaged" in warnings_seen[0]


def test_without_a_writable_directory_the_data_come_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warnings_seen: list[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("FEDF2DG_CACHE", str(blocked / "cache"))
    for _ in range(2):
        (array,) = open_arrays("things", "a", numbers, ("numbers",))
        np.testing.assert_array_equal(array, np.arange(5))
    assert len(warnings_seen) == 1
    assert "Set FEDF2DG_CACHE" in warnings_seen[0]


def test_a_user_without_a_home_directory(
    monkeypatch: pytest.MonkeyPatch, warnings_seen: list[str]
) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FEDF2DG_CACHE")
    monkeypatch.setattr(Path, "expanduser", homeless)
    (array,) = open_arrays("things", "a", numbers, ("numbers",))
    np.testing.assert_array_equal(array, np.arange(5))
    assert "no home directory" in warnings_seen[0] and "Set FEDF2DG_CACHE" in warnings_seen[0]


def test_a_full_disk_is_met_before_the_images_are_written(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing to mapped memory that has no place on the disk kills the process."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match=f"cache .* {empty_cache}: No space .* set FEDF2DG_CACHE"):
        entry("things", "a", lambda directory: new_array(directory / "images.npy", (10, 10)))
    assert [path for path in empty_cache.iterdir() if path.is_dir()] == []


def test_a_file_system_that_reserves_nothing_is_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def cannot(*_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fallocate", cannot, raising=False)
    assert new_array(tmp_path / "images.npy", (2, 3)).shape == (2, 3)


def opened(report: object, folder: Path, processes: int) -> list[int]:
    """Open an entry at the moment at which all processes are there."""

    def make(directory: Path) -> None:
        with (folder / "log").open("a") as log:
            log.write("made\n")
        time.sleep(0.3)
        numbers(directory)

    (folder / f"{os.getpid()}.here").touch()
    while len(list(folder.glob("*.here"))) < processes:
        time.sleep(0.01)
    return open_arrays("things", "a", make, ("numbers",))[0].tolist()


def test_of_processes_that_start_together_one_makes_the_entry(
    empty_cache: Path, tmp_path: Path
) -> None:
    with Workers(3) as workers:
        for process in range(3):
            workers.submit(str(process), opened, tmp_path, 3, timeout=60)
        events: list[Event] = []
        while sum(event.done for event in events) < 3:
            events += workers.events()
    assert [event.value for event in events] == [[0, 1, 2, 3, 4]] * 3
    assert (tmp_path / "log").read_text().splitlines() == ["made"]


@pytest.mark.skipif(os.name != "posix", reason="no POSIX permissions")
@pytest.mark.parametrize("private", [False, True])
def test_a_private_entry_is_closed_to_other_users(empty_cache: Path, private: bool) -> None:
    place = entry("x", "1", numbers, private=private)
    assert place.stat().st_mode & 0o777 == (0o700 if private else 0o755)


def test_a_sites_secret_is_kept_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path))
    secret = own_secret()
    assert len(secret) == 32 and own_secret() == secret
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "nowhere"))
    assert own_secret() == b""  # not kept, so not told either
