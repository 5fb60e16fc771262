"""Images of any size and form, brought to one square; and files that cannot be read."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from foundation.data import DataError, DataSet, Division, site_data
from foundation.data.agreement import from_values, to_values
from foundation.data.decoding import decode_image
from tests.foundation.data.tiny_files import encode, pictures, write_folder, write_parquet

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def stripes(length: int, breadth: int, *, upright: bool) -> Image.Image:
    """A picture with a green square in the middle, red before it and blue behind."""
    pixels = np.empty((breadth, length, 3), np.uint8)
    start = (length - breadth) // 2
    pixels[:, :start], pixels[:, start : start + breadth] = RED, GREEN
    pixels[:, start + breadth :] = BLUE
    return Image.fromarray(np.rot90(pixels, 3) if upright else pixels)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def decoded(content: bytes, side: int) -> np.ndarray:
    return decode_image(content, 3, "here", (side, side)).transpose(1, 2, 0)


def test_an_image_of_the_size_keeps_every_byte() -> None:
    (pixels,) = pictures(1, size=(9, 9))
    np.testing.assert_array_equal(decoded(encode(pixels), 9), pixels)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("side", [20, 40, 100])
def test_the_centre_is_kept_and_nothing_of_the_sides(upright: bool, side: int) -> None:
    result = decoded(saved(stripes(100, 40, upright=upright)), side)
    assert result.shape == (side, side, 3)
    edge = side // 10  # where the interpolation sees what was beside the cut
    assert (result[edge:-edge, edge:-edge] == GREEN).all()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_turning_and_resizing_change_places(orientation: int) -> None:
    """A camera held otherwise: the stored picture is cropped as a viewer shows it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(pictures(1, size=(30, 50))[0])
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(saved(stored, exif=exif))))
    np.testing.assert_array_equal(decoded(saved(stored, exif=exif), 16), decoded(saved(turned), 16))


def test_a_large_jpeg_looks_as_if_it_were_decoded_whole() -> None:
    """JPEG is decoded at a fraction of its size; against the whole picture, averaged."""
    y, x = np.mgrid[:800, :1200]
    waves = np.stack([127 + 100 * np.sin(x / 90), 127 + 100 * np.cos(y / 70), (x + y) / 8], 2)
    image = Image.fromarray(waves.astype(np.uint8))
    whole = ImageOps.fit(image, (32, 32), Image.Resampling.BOX)
    difference = decoded(saved(image, "JPEG", quality=95), 32).astype(float) - np.asarray(whole)
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK"])
def test_every_mode_is_resized(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = Image.new("RGBA", (60, 35), (255, 255, 255, 0)).convert(mode)
    assert (decoded(saved(image, kind), 16) >= 249).all()


def test_sixteen_bit_grey_is_turned_and_resized() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.repeat(np.repeat(np.array([[0], [65535]], np.uint16), 30, axis=0), 60, axis=1)
    (pixels,) = decode_image(saved(Image.fromarray(stored), exif=exif), 1, "here", (20, 20))
    assert (pixels[:, :8] > 250).all()
    assert (pixels[:, 12:] < 5).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_a_palette_and_a_transparent_deep_grey_are_white(
    channels: int,
) -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((0, 0), 0)
    deep = np.full((4, 4), 514, np.uint16)
    deep[0, 0] = 0
    for stored, transparent in ((palette, 1), (Image.fromarray(deep), 514)):
        pixels = decode_image(saved(stored, transparency=transparent), channels, "here")
        assert (pixels[:, 0, 0] == 0).all()
        assert (pixels[:, 1:] == 255).all()


def twenty_sizes(root: Path) -> Path:
    """Two classes of photographs in 20 sizes, portrait and landscape, and three formats."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(40):
        image = stripes(60 + index % 20, 20 + index % 20, upright=index % 2 == 0)
        kind = ("PNG", "JPEG", "WEBP")[index % 3]
        options: dict[str, object] = {"exif": exif} if index % 20 == 7 else {}
        if index == 6:
            image.putalpha(200)
        place = root / "train" / ("ants" if index < 20 else "bees") / f"{index:02d}.{kind.lower()}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(saved(image, kind, **options))
    return root


def test_twenty_sizes_become_one(tmp_path: Path, decodes: list[str]) -> None:
    place = str(twenty_sizes(tmp_path))
    with pytest.raises(
        DataError,
        match=r"there are 20 sizes, 21 to 78 pixels high and 20 to 79 wide: image-size=64",
    ):
        DataSet("folder", place).describe()
    description = DataSet("folder", place, image_size=24).describe()
    assert (description.image_shape, description.resized) == ((3, 24, 24), True)
    data = DataSet("folder", place, image_size=24).load("train")
    assert data.images.shape == (40, 3, 24, 24)
    # Green in the middle of all; half transparent ones and compression change the shade.
    assert (data.images[:, 1, 8:16, 8:16] > 190).all()
    assert (data.images[:, 0, 8:16, 8:16] < 80).all()
    assert len(decodes) == 40


def test_another_size_is_another_entry_of_the_cache(
    tmp_path: Path, decodes: list[str], forget: Callable[[], None]
) -> None:
    place = str(write_folder(tmp_path, {"a": pictures(5, size=(30, 20)), "b": pictures(5)}))
    for side in (8, 12, 8):
        forget()
        data = DataSet("folder", place, image_size=side).load("train")
        assert data.image_size == (side, side)
    assert len(decodes) == 2 * len(data)


def test_a_size_for_a_known_set() -> None:
    assert DataSet("cifar10", image_size=48).describe().image_size == (48, 48)
    data = DataSet("digits", image_size=16).load("test")
    assert data.images.shape == (359, 1, 16, 16)
    assert (
        DataSet("digits", image_size=16).describe().normalization
        == DataSet("digits").describe().normalization
    )


@pytest.mark.parametrize(
    ("channels", "size", "usual"),
    [(3, (16, 20), "crop-flip"), (3, (15, 20), "none"), (1, (28, 28), "none")],
)
def test_photographs_are_flipped_and_digits_are_not(
    tmp_path: Path, channels: int, size: tuple[int, int], usual: str
) -> None:
    images = pictures(5, channels, size)
    place = str(write_folder(tmp_path, {"a": images, "b": images}))
    assert DataSet("folder", place).describe().augmentation == usual
    if channels == 3:
        assert DataSet("folder", place, image_size=15).describe().augmentation == "none"
        assert DataSet("folder", place, image_size=16).describe().augmentation == "crop-flip"


def test_a_site_brings_its_images_to_the_agreed_size(tmp_path: Path) -> None:
    server = str(write_folder(tmp_path / "server", {"a": pictures(5), "b": pictures(5)}))
    agreed = from_values(to_values(DataSet("folder", server, image_size=16).describe()))
    assert agreed is not None and agreed.resized
    site = write_folder(tmp_path / "site", {"a": pictures(3, size=(9, 9))})
    write_folder(site, {"b": pictures(2, size=(40, 30))})
    data = site_data(site, like=agreed)
    assert data.images.shape == (5, 3, 16, 16)
    np.testing.assert_array_equal(
        data.images, site_data(site, class_names=("a", "b"), image_size=16).images
    )
    # Without such an agreement its images stay what they are.
    with pytest.raises(DataError, match=r"several sizes.*image-size=6 for the run.*differ in size"):
        site_data(site, like=DataSet("folder", server).describe())
    with pytest.raises(DataError, match="image-size=6"):
        site_data(
            write_folder(tmp_path / "one", {"a": pictures(3, size=(9, 9))}),
            like=DataSet("folder", server).describe(),
        )


def test_a_sites_decoded_images_are_closed_to_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDF2DG_CACHE", str(tmp_path / "cache"))
    server = write_folder(tmp_path / "server", {"a": pictures(5), "b": pictures(5)})
    like = DataSet("folder", str(server)).describe()
    site_data(write_folder(tmp_path / "clinic", {"a": pictures(5)}), like=like)
    entries = [path for path in (tmp_path / "cache").glob("clinic-*") if path.is_dir()]
    assert len(entries) == 2
    for path in entries:
        assert path.stat().st_mode & 0o077 == 0


def broken(root: Path) -> Path:
    """Two classes of ten; a file of each is broken, one in its header, one in its pixels."""
    whole = saved(Image.fromarray(pictures(1, size=(40, 40))[0]), "JPEG")
    good = list(pictures(9, size=(40, 40)))
    return write_folder(root, {"a": [*good, b"broken"], "b": [whole[:-600], *good]})


def test_unreadable_files_are_refused_or_left_out_by_name(
    tmp_path: Path, warnings_seen: list[str], forget: Callable[[], None]
) -> None:
    train = broken(tmp_path / "train")
    for split in ("train", "test"):
        write_folder(tmp_path / split, {"c": pictures(2, size=(40, 40))})
    with pytest.raises(DataError, match=r"2 images .*a/009.png is not .*b/000.png is not a rea"):
        DataSet("folder", str(tmp_path)).load("train")
    for _ in range(2):  # also when the cache holds them
        forget()
        warnings_seen.clear()
        data = DataSet("folder", str(tmp_path), leave_out_unreadable=True).load("train")
        assert data.label_counts().tolist() == [9, 9, 2]
        assert any("a/009.png" in said and "b/000.png" in said for said in warnings_seen)
    np.testing.assert_array_equal(
        data.images[9:18].transpose(0, 2, 3, 1), pictures(9, size=(40, 40))
    )
    owned = site_data(train, leave_out_unreadable=True)
    assert owned.label_counts().tolist() == [9, 9, 2]
    with pytest.raises(DataError, match="not a readable image"):
        site_data(train)


@pytest.mark.parametrize("damaged", [b"broken", b"", None])
def test_all_files_that_cannot_be_read_are_named_at_once(
    tmp_path: Path, damaged: bytes | None
) -> None:
    """Somebody with thirty of them does not want to mend one a run, nor one split a run."""
    whole = saved(Image.fromarray(pictures(1, size=(40, 40))[0]), "JPEG")
    bad, good = whole[:-600] if damaged is None else damaged, pictures(9, size=(40, 40))
    write_folder(tmp_path / "train", {"a": [bad] * 7, "b": good})
    write_folder(tmp_path / "test", {"a": [bad] * 5, "b": good})
    with pytest.raises(DataError, match=r"^12 images cannot be read: ") as refused:
        DataSet("folder", str(tmp_path)).load("train")
    said = str(refused.value)
    assert said.count("is not a readable image") == 10
    assert "test/a/002.png" in said and "and 2 more; unreadable-images=leave-out" in said
    assert ("it is empty" in said) == (damaged == b"")


def test_a_folder_of_nothing_readable_says_so(tmp_path: Path) -> None:
    cut = saved(Image.fromarray(pictures(1, size=(40, 40))[0]), "JPEG")[:-600]
    write_folder(tmp_path, {"a": [cut] * 5, "b": [cut] * 5})
    with pytest.raises(DataError, match="none of the 10 images can be read"):
        DataSet("folder", str(tmp_path), leave_out_unreadable=True).load("train")


def test_files_left_out_at_one_site_do_not_move_the_images_of_the_next(tmp_path: Path) -> None:
    first = broken(tmp_path / "one" / "train")
    second = pictures(6, size=(40, 40))
    write_folder(tmp_path / "two" / "train", {"a": second[:3], "b": second[3:]})
    write_folder(tmp_path / "server" / "test", {"a": second[:1], "b": second[:1]})
    data_set = DataSet("folder", str(tmp_path), leave_out_unreadable=True)
    division = Division(data_set, clients=2, seed=0, kind="folders")
    parts = division.parts()
    assert [len(part) for part in parts] == [18, 6]
    data = division.data(1)
    np.testing.assert_array_equal(data.images.transpose(0, 2, 3, 1), second)
    assert first.is_dir()


def test_parquet_rows_are_resized_and_left_out(tmp_path: Path, warnings_seen: list[str]) -> None:
    rows = [*pictures(3, size=(30, 20)), b"broken", *pictures(2, size=(9, 12))]
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", rows, ["a", "a", "b", "b", "b", "a"])
    data = DataSet("parquet", str(tmp_path), image_size=8, leave_out_unreadable=True).load("train")
    assert data.images.shape == (5, 3, 8, 8)
    assert data.labels.tolist() == [0, 0, 1, 1, 0]
    assert any("row 3" in said for said in warnings_seen)


def test_real_photographs() -> None:
    place = Path(__file__).parents[3].parent / "shared" / "data" / "ants_bees"
    if not place.is_dir():
        pytest.skip("no photographs of ants and bees beside the repository")
    with pytest.raises(DataError, match=r"images differ in size.*image-size=64"):
        DataSet("folder", str(place)).describe()
    train = DataSet("folder", str(place), image_size=32).load("train")
    test = DataSet("folder", str(place), image_size=32).load("test")
    assert (len(train) + len(test), train.class_names) == (397, ("ants", "bees"))
