"""A run that is resumed goes on with the images it began with, whatever their files are called."""

from pathlib import Path

import numpy as np
import pytest

from foundation.data import DataSet, Division, data_set
from foundation.messages.participants import Participant
from server_app.checkpoints import CheckpointError
from server_app.images import (
    described_data,
    require_same_data,
    warn_of_other_images,
    warn_of_other_test,
)
from tests.foundation.data.tiny_files import encode, pictures, write_folder
from tests.meeting import meeting


def division(root: Path, **data: object) -> Division:
    images = DataSet("folder", str(root), **data)  # type: ignore[arg-type]
    return Division(images, 2, 0, "iid", min_samples=1, validation_share=0.2)


def described(root: Path) -> dict[str, object]:
    for kept in (data_set._opened, data_set._loaded, data_set._parts):
        kept.cache_clear()  # as in another process
    divided = division(root)
    return described_data(divided, [len(part) for part in divided.parts()], ["a", "b"])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    every = pictures(40)
    for name, own in (("a", every[:20]), ("b", every[20:])):
        write_folder(tmp_path / "one" / "train", {name: own[:15]})
        write_folder(tmp_path / "one" / "test", {name: own[15:]})
    return tmp_path / "one"


def test_a_copy_elsewhere_is_the_same(images: Path, tmp_path: Path) -> None:
    before = described(images)
    images.rename(tmp_path / "moved")
    require_same_data(before, described(tmp_path / "moved"))


def test_what_an_earlier_release_did_not_tell_is_not_compared(images: Path) -> None:
    now = described(images)
    require_same_data({}, now)
    require_same_data({name: now[name] for name in ("examples", "classes")}, now)


def test_a_run_whose_test_images_were_drawn_otherwise_is_warned_of(
    tmp_path: Path, warned: list[str]
) -> None:
    write_folder(tmp_path, {name: pictures(20 + len(name)) for name in ("a", "bb")})
    now = described(tmp_path)
    require_same_data(now, now)
    assert warned == []
    require_same_data({name: now[name] for name in ("examples", "classes")}, now)
    assert "drew its test images by their place" in warned[0]


def test_an_image_that_changes_sides_is_told(images: Path) -> None:
    """The counts are what they were."""
    before = described(images)
    train, test = images / "train" / "a" / "000.png", images / "test" / "a" / "000.png"
    held = train.read_bytes()
    train.write_bytes(test.read_bytes())
    test.write_bytes(held)
    with pytest.raises(CheckpointError, match=r"what client . trained on, the test images"):
        require_same_data(before, described(images))


def test_one_that_is_replaced_is_told_with_its_client(images: Path) -> None:
    before = described(images)
    (images / "train" / "b" / "003.png").write_bytes(encode(pictures(1)[0]))
    with pytest.raises(CheckpointError, match=r"others: what client [01] (trained on|held out)\."):
        require_same_data(before, described(images))


def test_a_site_goes_by_its_name() -> None:
    before, now = {"train": ["1", "2", "3"]}, {"train": ["1", "4", "5"]}
    with pytest.raises(CheckpointError, match="what south, west trained on"):
        require_same_data(before, now, ["north", "south", "west"])


def test_other_numbers_are_told_as_numbers(images: Path) -> None:
    before = described(images)
    (images / "train" / "a" / "000.png").unlink()
    with pytest.raises(CheckpointError, match=r"15, 15 training images .* 15, 14"):
        require_same_data(before, described(images))


def test_known_sets_have_digests_without_their_files() -> None:
    digits = Division(DataSet("digits"), 3, 0, "iid")
    assert digits.digests() == Division(DataSet("digits"), 3, 0, "iid").digests()
    assert digits.digests() != Division(DataSet("digits"), 3, 1, "iid").digests()


# Real sites.


def test_a_digest_says_no_more_than_whether_images_are_the_same(images: Path) -> None:
    data = DataSet("folder", str(images)).load("train")
    turned = data.subset(np.arange(len(data))[::-1])
    assert data.digest(b"key") == turned.digest(b"key")
    assert data.digest(b"key") != data.digest(b"another site's key")
    assert data.digest(b"key") != data.subset(range(len(data) - 1)).digest(b"key")


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr("server_app.images.log.warning", lambda text, *of: seen.append(text % of))
    return seen


@pytest.mark.parametrize(("before", "now", "told"), [("x", "y", 1), ("x", "x", 0), ("", "y", 0)])
def test_a_site_with_other_images_is_named(
    warned: list[str], before: str, now: str, told: int
) -> None:
    clients = meeting(1)
    clients.recall({"0": {"node_id": 5, "num_examples": 9, "digest": before}})
    clients._by_client[0] = Participant(0, 5, 9, site_name="clinic", digest=now)
    warn_of_other_images(clients)
    assert [text.split(" came")[0] for text in warned] == ["clinic"] * told


def test_other_test_images_are_told(warned: list[str]) -> None:
    warn_of_other_test({}, {"test": "x"})
    warn_of_other_test({"test": "x"}, {"test": "x"})
    assert warned == []
    warn_of_other_test({"test": "x"}, {"test": "y"})
    assert "test images" in warned[0]


def test_a_description_without_a_digest_is_one(warned: list[str]) -> None:
    assert Participant(0, 100, 3).digest == ""
