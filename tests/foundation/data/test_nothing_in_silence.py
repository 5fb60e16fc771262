"""Inputs from public bug reports of comparable software: read right, refused or named."""

import io
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foundation.data import DataError, DataSet, Division, in_memory, site_data
from foundation.data.decoding import decode_image
from foundation.data.names import composed, refuse_look_alikes, shown
from foundation.data.partitions import split_by_content
from tests.foundation.data.tiny_files import encode, pictures, write_folder, write_parquet

GREY = np.full((2, 8, 8), 200, np.uint8)

# Names of classes and files.


@pytest.mark.parametrize(
    "pair",
    [("Cat", "cat"), ("01", "1"), ("cat", "cat "), ("big cat", "big  cat"), ("cat", "ｃａｔ")],
)
def test_names_that_a_reader_takes_for_one_are_refused(
    tmp_path: Path, pair: tuple[str, str], forget: Callable[[], None]
) -> None:
    images = {name: pictures(6) for name in (*pair, "dog")}
    wrong = pytest.raises(DataError, match=r"give a class one name.*class-names")
    write_folder(tmp_path / "one", images)
    for split, names in (("train", (pair[0], "dog")), ("test", (pair[1], "dog"))):
        write_folder(tmp_path / "two" / split, {name: images[name] for name in names})
    for place in ("one", "two"):
        with wrong:
            DataSet("folder", str(tmp_path / place)).describe()
    write_parquet(tmp_path / "three" / "train.parquet", pictures(3), [*pair, "dog"])
    with wrong:
        DataSet("parquet", str(tmp_path / "three")).describe()
    meant = DataSet("folder", str(tmp_path / "one"), class_names=(*pair, "dog"))
    assert meant.load("train").label_counts().min() > 0


def test_one_list_of_letters_may_hold_both_cases(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pictures(2), [0, 1], names=["a", "A"])
    assert DataSet("parquet", str(tmp_path)).load("train").label_counts().tolist() == [1, 1]


def test_names_in_different_forms_of_unicode_are_one() -> None:
    refuse_look_alikes([(composed(name), "here") for name in ("\u00c4", "A\u0308")])


def test_a_file_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(3), "b": pictures(4)})
    os.rename(tmp_path / "a" / "000.png", os.fsencode(tmp_path / "a") + b"/caf\xe9.png")
    assert site_data(tmp_path).label_counts().tolist() == [3, 4]
    Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/caf\xe9.png")).write_bytes(b"broken")
    with pytest.raises(DataError, match=r"caf\\xe9\.png is not a readable image"):
        site_data(tmp_path)


def test_a_class_whose_name_is_not_utf_8_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(3), "b": pictures(4)})
    os.rename(tmp_path / "a", os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(DataError, match=r"'caf\\xe9' is not UTF-8: rename it"):
        site_data(tmp_path)


def test_what_an_ascii_locale_makes_of_a_name_is_undone() -> None:
    name = "blä".encode().decode("ascii", "surrogateescape")
    assert composed(name) == "blä" and shown(name) == "blä"


# Folders that are no classes.


def run_in(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "pseudo_data").mkdir()
    (folder / "pseudo_data" / "grid.png").write_bytes(encode(pictures(1)[0]))
    for name in ("config.json", "metrics.jsonl"):
        (folder / name).write_text("{}")


@pytest.mark.parametrize(
    "place", ["outputs/20260101-fedavg", "run", "a/old-run", "compared/cell/s0"]
)
def test_runs_are_no_classes(tmp_path: Path, place: str, warnings_seen: list[str]) -> None:
    write_folder(tmp_path, {"a": pictures(5), "b": pictures(5)})
    run_in(tmp_path / place)
    data = DataSet("folder", str(tmp_path)).load("train")
    assert data.class_names == ("a", "b")
    assert len(data) + len(DataSet("folder", str(tmp_path)).load("test")) == 10
    top = place if place.startswith("a/") else place.split("/")[0]
    assert warnings_seen == [f"not read in {tmp_path}: folders that hold runs or models: 1 ({top})"]


@pytest.mark.parametrize(
    "names", [("evaluation.html", "evaluation.json"), ("model.onnx", "config.json", "README.md")]
)
def test_evaluations_and_exported_models_are_no_classes(
    tmp_path: Path, names: tuple[str, ...], warnings_seen: list[str]
) -> None:
    write_folder(tmp_path, {"a": pictures(5), "b": pictures(5)})
    (tmp_path / "judged").mkdir()
    for name in names:
        (tmp_path / "judged" / name).write_text("{}")
    assert DataSet("folder", str(tmp_path)).load("train").class_names == ("a", "b")
    assert warnings_seen == [
        f"not read in {tmp_path}: folders that hold runs or models: 1 (judged)"
    ]


def test_a_run_is_no_data_set(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    with pytest.raises(DataError, match="holds runs, not images"):
        DataSet("folder", str(tmp_path / "run")).describe()


def test_no_message_advises_to_remove_anything(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(5), "b": pictures(5)})
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.json").write_text("{}")
    (tmp_path / "a" / "cut.png").write_bytes(b"")
    for names in ((), ("a",)):
        with pytest.raises(DataError) as said:
            DataSet("folder", str(tmp_path), class_names=names).describe()
        assert not {"remove", "delete"} & set(str(said.value).split())


# A folder too high or too low.


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for site in ("north", "south"):
        write_folder(tmp_path / "Sites" / site, {"ant": pictures(10), "bee": pictures(10)})
    return tmp_path


@pytest.mark.parametrize("beside", [False, True])
def test_the_folder_of_sites_that_was_meant_is_said(photographs: Path, beside: bool) -> None:
    if beside:
        write_folder(photographs, {"rest": pictures(5)})
    with pytest.raises(ValueError, match=rf"did you mean data-dir={photographs}/Sites\?|Did you"):
        Division(DataSet("folder", str(photographs)), 2, 0, "folders").parts()


def test_a_site_that_names_the_folder_above_it_hears_which_it_meant(photographs: Path) -> None:
    sites = photographs / "Sites"
    like = DataSet("folder", str(sites)).describe()
    with pytest.raises(DataError, match=rf"one folder above the data: did you mean {sites}/north"):
        site_data(sites, like=like)
    with pytest.raises(DataError, match=rf"did you mean its parent, {sites}/north\?"):
        site_data(sites / "north" / "ant", like=like)


def test_sites_taken_for_classes_are_warned_of(photographs: Path, warnings_seen: list[str]) -> None:
    write_folder(photographs, {"rest": pictures(5)})
    DataSet("folder", str(photographs)).describe()
    assert any("Sites is taken for a class" in warning for warning in warnings_seen)


def test_two_sites_of_one_name_are_refused(photographs: Path) -> None:
    write_parquet(photographs / "Sites" / "north.parquet", pictures(2), ["ant", "bee"])
    with pytest.raises(DataError, match="two sites called 'north'"):
        DataSet("folder", str(photographs / "Sites")).sites()


def test_sites_may_be_folders_of_parquet_files(tmp_path: Path) -> None:
    for site in ("north", "south"):
        write_parquet(tmp_path / site / "train.parquet", pictures(4), ["ant", "bee"] * 2)
    assert DataSet("folder", str(tmp_path)).sites() == {"north": 4, "south": 4}


# The test fifth.


def test_without_a_judge_at_the_server_nothing_is_held_out_for_it(photographs: Path) -> None:
    place = str(photographs / "Sites")
    assert sum(DataSet("folder", place).sites().values()) < 40
    unjudged = DataSet("folder", place, own_test=False)
    assert unjudged.sites() == {"north": 20, "south": 20}
    assert not unjudged.has("test")


def test_the_test_fifth_is_drawn_by_content(tmp_path: Path, forget: Callable[[], None]) -> None:
    def tested() -> set[bytes]:
        forget()
        return {image.tobytes() for image in DataSet("folder", str(tmp_path)).load("test").images}

    write_folder(tmp_path, {name: pictures(20 + place) for place, name in enumerate("ab")})
    before = tested()
    for number, path in enumerate(sorted((tmp_path / "a").iterdir())):
        path.rename(path.with_name(f"{(7 * number) % 20:03d}-renamed.png"))
    (tmp_path / "b" / "deeper").mkdir()
    (tmp_path / "b" / "003.png").rename(tmp_path / "b" / "deeper" / "x.png")
    assert tested() == before and len(before) == 8


def test_a_copy_never_stands_on_the_other_side() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        digests = rng.integers(0, 6, (30, 1), dtype=np.uint8)
        labels = rng.integers(0, 3, 30)
        kept, chosen = split_by_content(labels, digests, rng.uniform(0, 0.6))
        assert sorted([*kept, *chosen]) == list(range(30))
        for label in range(3):
            sides = [set(digests[rows[labels[rows] == label], 0]) for rows in (kept, chosen)]
            assert not sides[0] & sides[1]
            assert sides[0] or not (labels == label).any()


def test_a_site_holds_the_same_images_out_whatever_they_are_called(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": pictures(12), "b": pictures(13)})
    before = site_data(tmp_path, "test", holdout=0.25)
    for path in sorted((tmp_path / "a").iterdir()):
        path.rename(path.with_name(f"z{99 - int(path.stem)}.png"))
    after = site_data(tmp_path, "test", holdout=0.25)
    assert {i.tobytes() for i in before.images} == {i.tobytes() for i in after.images}


def test_copies_of_test_images_are_told(tmp_path: Path, warnings_seen: list[str]) -> None:
    images = pictures(8)
    write_folder(tmp_path / "train", {"a": images[:4], "b": images[4:]})
    write_folder(tmp_path / "test", {"a": images[:2], "b": pictures(9)[:3]})
    DataSet("folder", str(tmp_path)).warn_of_copies()
    assert warnings_seen == ["data set 'folder': 2 test images are training images as well"]


def test_copies_among_the_training_images_are_told(
    tmp_path: Path, warnings_seen: list[str]
) -> None:
    """A class folder that is a link to another, a table that was saved twice."""
    write_folder(tmp_path / "train", {"a": pictures(4), "b": pictures(5)})
    (tmp_path / "train" / "c").symlink_to(tmp_path / "train" / "a", target_is_directory=True)
    (tmp_path / "train" / "b" / "again.png").write_bytes(
        (tmp_path / "train" / "b" / "000.png").read_bytes()
    )
    DataSet("folder", str(tmp_path)).warn_of_copies()
    assert warnings_seen == [
        "data set 'folder': 4 training images stand in another class as well",
        "data set 'folder': 1 training images are copies of others in their class",
    ]


def test_a_site_with_a_stray_picture_makes_no_classes_of_sites(photographs: Path) -> None:
    sites = photographs / "Sites"
    (sites / "north" / "stray.png").write_bytes(encode(pictures(1)[0]))
    with pytest.raises(DataError, match=r"look like sites.*\(south: ant, bee\).*\(north\)"):
        DataSet("folder", str(sites)).describe()


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "Train"):
        write_folder(tmp_path / name, {"a": pictures(3), "b": pictures(3)})
    with pytest.raises(DataError, match="holds both Train and train"):
        DataSet("folder", str(tmp_path)).describe()


# Pictures.


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_a_moving_picture_is_no_picture(kind: str) -> None:
    frames = [Image.fromarray(pixels) for pixels in pictures(3, size=(20, 20))]
    moving = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="here holds 3 pictures"):
        decode_image(moving, 3, "here")
    assert decode_image(saved(frames[0], kind), 3, "here").shape == (3, 20, 20)


def test_a_photograph_with_a_preview_behind_is_read() -> None:
    photograph, preview = (Image.fromarray(p) for p in pictures(2, size=(32, 32)))
    both = saved(photograph, "MPO", save_all=True, append_images=[preview])
    alone = saved(photograph, "JPEG")
    np.testing.assert_array_equal(decode_image(both, 3, "both"), decode_image(alone, 3, "alone"))


def test_print_colours_come_out_as_seen() -> None:
    """Four channels of ink: white paper is 0 of each."""
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    pixels = decode_image(saved(red.convert("CMYK"), "JPEG", quality=95), 3, "ink")
    assert np.abs(pixels.reshape(3, -1).mean(axis=1) - (200, 30, 30)).max() < 6


def test_large_photographs_are_no_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    photograph = encode(pictures(1, size=(20, 20))[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(photograph, 3, "photograph").shape == (3, 20, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="photograph is larger than what is read: scale it down"):
        decode_image(photograph, 3, "photograph")


def test_what_is_no_file_is_passed_over(tmp_path: Path, warnings_seen: list[str]) -> None:
    write_folder(tmp_path, {"a": pictures(5), "b": pictures(5)})
    os.mkfifo(tmp_path / "a" / "pipe.png")  # would be waited for, for ever
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b" / "self.png").symlink_to(tmp_path / "b" / "self.png")
    for name in (".DS_Store", "Thumbs.db", "._000.png", "notes.TXT", "PHOTO.PNG"):
        (tmp_path / "a" / name).write_bytes(encode(pictures(6)[5]))
    assert len(site_data(tmp_path)) == 11
    [warning] = warnings_seen
    for reason in ("neither files nor folders: 1", "links that lead nowhere: 1", ".txt files: 1"):
        assert reason in warning
    assert "folders that a link leads to again: 1" in warning


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0.0, 1.0], "holds double"),
        ([True, False], "holds bool"),
        ([0, None], "row 1 has no label"),
        (["a", None], "row 1 has no label"),
        (["a", ""], "row 1 has an empty label$"),
        (["a", "", "b", ""], "row 1 has an empty label; there are 2 such rows: 1, 3$"),
        ([0, None, None], "row 1 has no label; there are 2 such rows: 1, 2$"),
        ([[0], [1]], "holds list"),
    ],
)
def test_labels_that_say_no_class_are_refused(tmp_path: Path, labels: list, said: str) -> None:  # type: ignore[type-arg]
    path = write_parquet(tmp_path / "train.parquet", pictures(len(labels)), labels)
    with pytest.raises(DataError, match=said):
        site_data(path)


def test_two_label_columns_are_not_chosen_from_in_silence(
    tmp_path: Path, warnings_seen: list[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write_parquet(tmp_path / "train.parquet", pictures(2), [0, 1])
    table = pq.read_table(path)
    pq.write_table(table.append_column("fine_label", pa.array([1, 0])), path)
    site_data(path)
    assert warnings_seen == [f"{path}: column 'label' is read, and not 'fine_label'"]


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (GREY.astype(np.int32), [0, 1], "int32 of shape (2, 8, 8)"),
        (GREY.astype(np.uint16), [0, 1], "uint16 of shape (2, 8, 8)"),
        (GREY > 9, [0, 1], "bool of shape (2, 8, 8)"),
        (np.zeros((2, 8, 8, 4), np.uint8), [0, 1], "uint8 of shape (2, 8, 8, 4)"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, 1], "uint8 of shape (2, 3, 8, 8)"),
        (GREY, [0.0, 1.0], "labels are float64"),
        (GREY, np.eye(2, dtype=int), "of shape (2, 2)"),
        (GREY, [0, 1, 0], "of shape (3,)"),
        (GREY, [1, 2], "image 1 has label 2, outside 0..1"),
        (GREY, [-1, 0], "image 0 has label -1, outside 0..1"),
    ],
)
def test_arrays_that_would_be_misread_are_refused(images: Any, labels: Any, said: str) -> None:
    """Wider integers would be taken for grey of 16 bits, so that 255 becomes 1."""
    with pytest.raises(DataError, match=re.escape(said)):
        in_memory("arrays", ["a", "b"], train=(images, labels))
