import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from foundation import clear_unfinished, whole_file, whole_folder, write_whole
from foundation.files import disk_problem, is_full


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_the_umask_whoever_writes(tmp_path: Path, umask: int) -> None:
    write_whole(tmp_path / "text", "hello")
    with whole_file(tmp_path / "tensors") as aside:
        save_file({"w": torch.zeros(1)}, aside)
        aside.chmod(0o600)  # some versions of the library do
    with whole_folder(tmp_path / "folder") as folder:
        save_file({"w": torch.zeros(1)}, folder / "tensors")
        (folder / "tensors").chmod(0o600)
    with whole_folder(tmp_path / "private", private=True) as folder:
        (folder / "text").write_text("hello")
    for file in (tmp_path / "text", tmp_path / "tensors", tmp_path / "folder" / "tensors"):
        assert mode(file) == 0o666 & ~umask, file
    assert mode(tmp_path / "folder") == 0o777 & ~umask
    assert mode(tmp_path / "private") == 0o700
    assert mode(tmp_path / "private" / "text") == 0o600


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    with pytest.raises(KeyError), whole_file(tmp_path / "file") as aside:
        aside.write_text("half")
        raise KeyError
    with pytest.raises(KeyError), whole_folder(tmp_path / "folder") as folder:
        (folder / "one").write_text("half")
        raise KeyError
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_replaced_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with whole_folder(tmp_path / "folder", replace=True) as folder:
            (folder / content).write_text(content)
            there = [path.name for path in (tmp_path / "folder").glob("*")]
            assert there == (["old"] if content == "new" else [])
    with pytest.raises(KeyError), whole_folder(tmp_path / "folder", replace=True):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_a_folder_whose_process_ended_between_two_renames_is_put_back(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "old").touch()
    (tmp_path / "folder").rename(tmp_path / ".folder.before.partial")
    with pytest.raises(KeyError), whole_folder(tmp_path / "folder", replace=True):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_full_disk_is_named_by_its_folder(tmp_path: Path, whole: Any) -> None:
    """The system names no file where a write fails, but only where one is opened."""
    with pytest.raises(OSError) as full, whole(tmp_path / "place" / "one"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert disk_problem(full.value) == f"{tmp_path / 'place'}: No space left on device"
    assert not list((tmp_path / "place").iterdir())


def test_a_killed_writer_leaves_the_old_content_and_what_can_be_cleared(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    program = (
        "import os, pathlib, sys\n"
        "from foundation import whole_file, whole_folder\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "with whole_file(place / 'file') as file, whole_folder(place / 'folder') as folder:\n"
        "    file.write_text('half')\n"
        "    (folder / 'one').write_text('half')\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 9
    assert (tmp_path / "file").read_text() == "old" and not (tmp_path / "folder").exists()
    assert len(list(tmp_path.iterdir())) == 3
    write_whole(tmp_path / "file", "new")  # over what was left
    assert len(list(tmp_path.iterdir())) == 2
    clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_writers_of_one_file_leave_one_whole_content(tmp_path: Path) -> None:
    contents = [letter * 200_000 for letter in "abcdefgh"]
    writers = [
        threading.Thread(
            target=write_whole, args=(tmp_path / "file", content), kwargs={"rivals": True}
        )
        for content in contents
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "file").read_text() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_to(number: int) -> None:
    error = OSError(number, os.strerror(number), "/data/run/.summary.json.partial")
    assert disk_problem(error) == f"/data/run: {os.strerror(number)}"
    assert disk_problem(OSError(number, "")) == os.strerror(number)
    assert is_full(error) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_a_file_in_the_present_folder() -> None:
    error = OSError(errno.ENOSPC, "", "model")
    assert disk_problem(error) == f".: {os.strerror(errno.ENOSPC)}"


def test_an_error_type_of_its_own() -> None:
    class SafetensorError(Exception):
        pass

    error = SafetensorError("Error while serializing: No space left on device (os error 28)")
    assert is_full(error) and disk_problem(error) == os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "", "x"),
        BrokenPipeError(errno.EPIPE, ""),
        ValueError("No space"),
    ],
)
def test_other_errors_are_no_disks(error: Exception) -> None:
    assert disk_problem(error) == "" and not is_full(error)
