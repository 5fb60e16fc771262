"""A run's model in somebody's hands: load it, ask it about files, export it."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fedf2dg import RunConfiguration, cli, load_model, simulate
from fedf2dg.report.model_card import model_card
from fedf2dg.use import export as exporting
from foundation.data import DataError, DataSet, Normalization
from foundation.models import (
    ModelDescription,
    ModelDirectoryError,
    cpu_state,
    load_state,
    write_model,
)
from foundation.models.evaluation import LabelledImages

COLOUR = ModelDescription(
    "resnet8", 0, ("cat", "dog", "owl"), 3, (12, 16), (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)
)
GREY_CNN = ModelDescription("cnn", 0, ("a", "b"), 1, (9, 7), (0.3,), (0.4,))
MOON = replace(COLOUR, projection_dim=5)
FORMATS = (
    "safetensors",
    "torchscript",
    pytest.param(
        "onnx",
        marks=pytest.mark.skipif(
            bool(exporting.missing_for("onnx")), reason="needs the extra onnx"
        ),
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a short run on digits."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    keys = {
        "strategy": "moon",
        "moon.projection-dim": 8,
        "num-clients": 2,
        "train-samples": 200,
        "num-server-rounds": 2,
        "dirichlet-alpha": 1.0,
        "stages": "train",
        "processes": 1,
        "output-dir": str(directory),
    }
    simulate(RunConfiguration.parse(keys), "local", io.StringIO())
    return directory


def random_model(folder: Path, description: ModelDescription) -> Path:
    network = description.build()
    generator = torch.Generator().manual_seed(3)
    state = {
        name: value + torch.rand(value.shape, generator=generator) / 5
        if value.is_floating_point() and value.ndim == 1  # biases and BatchNorm's
        else value
        for name, value in cpu_state(network).items()
    }
    write_model(folder, description, state, "# Card\n")
    return folder


def test_predictions_on_files_are_those_of_the_runs_own_model(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test, description = DataSet("digits").load("test"), DataSet("digits").describe()
    for index, image in enumerate(test.images[:150]):
        Image.fromarray(image[0]).save(tmp_path / f"{index:03d}.png")
    assert cli.main(["predict", str(run), str(tmp_path), "--json", "--top", "99"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [Path(entry["image"]).stem for entry in answers] == [f"{i:03d}" for i in range(150)]
    for entry in answers:
        assert len(entry["predictions"]) == 10
        assert sum(one["probability"] for one in entry["predictions"]) == pytest.approx(1)

    (last,) = sorted((run / "checkpoints").glob("*-train-0002"))
    network = load_model(run).description.build()
    load_state(network, load_file(last / "global.safetensors"))
    images = LabelledImages(
        torch.tensor(test.images[:150]),
        torch.tensor(test.labels[:150]),
        Normalization(description.normalization.mean, description.normalization.std).apply,
        torch.device("cpu"),
    )
    expected = images.predictions(network).predicted.tolist()
    assert len(set(expected)) > 3
    assert [entry["predictions"][0]["label"] for entry in answers] == list(map(str, expected))
    assert torch.equal(
        load_model(run)(tmp_path / "000.png"), load_model(run / "model")(test.images[0, 0])
    )


@pytest.mark.parametrize("description", [COLOUR, GREY_CNN, MOON])
def test_images_of_any_kind_and_size_are_taken(
    tmp_path: Path, description: ModelDescription
) -> None:
    model = load_model(random_model(tmp_path / "model", description))
    height, width = description.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert torch.equal(model(tmp_path / "a.png"), model([content]))
    assert torch.equal(model(str(tmp_path / "a.png")), model(pixels))
    # A frame around the centre that is cut away changes nothing.
    framed = np.zeros((height, 3 * width, 3), np.uint8)
    framed[:, width : 2 * width] = pixels
    assert torch.equal(model(framed), model(pixels))
    grey = np.full((5 * height, 2 * width), 77, np.uint8)
    seen = model.preprocess(grey)
    assert seen.shape == (description.channels, height, width)
    expected = Normalization(description.mean, description.std).apply(
        torch.full(seen.shape, 77, dtype=torch.uint8)
    )
    assert torch.equal(seen, expected)
    assert model([]).shape == (0, len(description.classes))
    (prediction,) = model.predict(pixels)
    assert prediction.probability == max(share for _, share in prediction.ranking)
    assert {name for name, _ in prediction.ranking} == set(description.classes)
    assert prediction.label == description.classes[int(model(pixels).argmax())]


def test_what_cannot_be_read_is_named_and_the_rest_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model(tmp_path / "model", COLOUR)
    folder = tmp_path / "images"
    (folder / "empty").mkdir(parents=True)
    Image.new("RGB", (30, 20), "red").save(folder / "red.jpg")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("hello")
    given = [str(folder), str(tmp_path / "missing.png"), str(folder / "empty")]

    assert cli.main(["predict", str(model), "--top", "2", *given]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert said.out.startswith(f"{folder / 'red.jpg'}: ")
    for name in ("broken.png", "missing.png", "empty is a folder without an image", "notes.txt"):
        assert name in said.err, name
    assert "unreadable-images" not in said.err  # which is a key of runs

    assert cli.main(["predict", str(model), *given, "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["image"]).name for row in rows] == ["red.jpg"]
    assert float(rows[0]["probability_1"]) >= float(rows[0]["probability_3"])

    assert cli.main(["predict", str(model), "--json", *given]) == 1
    answers = json.loads(capsys.readouterr().out)
    assert [("error" in entry) for entry in answers] == [True, False, True, True]
    assert cli.main(["predict", str(model), str(folder / "red.jpg")]) == 0


def test_what_holds_no_model_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ModelDirectoryError, match="has no model/"):
        load_model(tmp_path / "run")
    for command in (["predict", str(tmp_path), "a.png"], ["export", str(tmp_path), "--to", "x"]):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("description", [COLOUR, GREY_CNN, MOON], ids=["rgb", "grey", "moon"])
def test_an_exported_model_says_what_the_original_says(
    tmp_path: Path, description: ModelDescription, form: str
) -> None:
    source = random_model(tmp_path / "model", description)
    file, difference = exporting.export(source, tmp_path / "out", form)
    assert file.is_file()
    assert difference < 1e-3
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {file.name, "config.json", "README.md"}
    assert ("mean" in (tmp_path / "out" / "config.json").read_text()) == (form == "safetensors")
    model = load_model(source)
    pixels = torch.randint(0, 256, (3, description.channels, *description.image_size)).byte()
    expected = model.logits(Normalization(description.mean, description.std).apply(pixels))
    shares = pixels.float() / 255
    if form == "torchscript":
        with torch.inference_mode():
            found = torch.jit.load(str(file))(shares)
    elif form == "onnx":
        from onnxruntime import InferenceSession

        session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"pixels": shares.numpy()})[0])
    else:
        model = load_model(tmp_path / "out")
        found = model.logits(Normalization(description.mean, description.std).apply(pixels))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def image_files(folder: Path) -> list[Path]:
    """Write images of every kind that training reads, each with something that is easily missed."""
    folder.mkdir()
    draw = np.random.default_rng(2)
    colours = draw.integers(0, 256, (150, 210, 3), dtype=np.uint8)
    smooth = Image.fromarray(colours[:6, :9]).resize((1500, 1000), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth.save(folder / "camera.jpg", exif=turned)
    Image.fromarray(colours).save(folder / "small.webp", lossless=True)
    Image.fromarray(colours[:5, :5]).save(folder / "tiny.bmp")
    Image.fromarray(colours).convert("L").save(folder / "grey.png")
    veiled = Image.fromarray(colours).convert("RGBA")
    veiled.putalpha(Image.fromarray(colours[:, :, 0]))
    veiled.save(folder / "veiled.png")
    Image.fromarray(colours).quantize(16).save(folder / "palette.png", transparency=3)
    deep = draw.integers(0, 65536, (40, 30), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep_clear.png", transparency=int(deep[3, 4]))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("description", [COLOUR, GREY_CNN], ids=["rgb", "grey"])
def test_what_the_card_says_repeats_the_prediction_exactly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    description: ModelDescription,
    form: str,
) -> None:
    source = tmp_path / "model"
    summary = {"strategy": "fedavg", "clients": 2, "rounds": 1}
    random_model(source, description)
    (source / "README.md").write_text(model_card(summary, kept="federated", model=description))
    exporting.export(source, tmp_path / "out", form)
    files = [str(file) for file in image_files(tmp_path / "images")]
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    (code,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    assert "## Licence" in card
    monkeypatch.chdir(tmp_path / "out")
    names: dict[str, Any] = {}
    exec(code.replace('["image.png"]', repr(files)).replace("THIS_FOLDER", "."), names)
    said = capsys.readouterr().out.splitlines()
    model = load_model(source)
    expected = model.predict(files)
    assert [line.partition(" ")[0] for line in said] == [one.label for one in expected]
    if form != "safetensors":
        scaled = Normalization(description.mean, description.std).apply(
            torch.from_numpy(np.rint(255 * names["images"]).astype(np.uint8))
        )
        assert torch.equal(scaled, torch.stack([model.preprocess(file) for file in files]))
        torch.testing.assert_close(
            torch.from_numpy(names["logits"]), model(files), rtol=1e-3, atol=1e-3
        )


def test_a_transformer_is_exported(tmp_path: Path) -> None:
    three = (0.5, 0.5, 0.5)
    description = ModelDescription("torchvision/vit_b_16", 0, ("a", "b"), 3, (32, 32), three, three)
    write_model(tmp_path / "model", description, cpu_state(description.build()), "# Card\n")
    file, difference = exporting.export(tmp_path / "model", tmp_path / "out", "torchscript")
    assert file.is_file() and difference < 1e-3


def test_arrays_and_pillow_images_of_every_usual_kind_are_read(tmp_path: Path) -> None:
    model = load_model(random_model(tmp_path / "model", COLOUR))
    draw = np.random.default_rng(0)
    colour = draw.integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    grey = colour[..., :1]
    assert torch.equal(model(colour), model(list(colour)))
    assert torch.equal(model(colour), model([Image.fromarray(image) for image in colour]))
    assert torch.equal(model(grey), model([image[:, :, 0] for image in grey]))
    assert torch.equal(model(Image.fromarray(colour[0])), model(colour[:1]))
    own = Image.fromarray(colour[0])
    model.predict(own)
    assert own.getpixel((0, 0)) == tuple(colour[0, 0, 0])  # it is still open


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((8, 8), np.int32), r"int32 of shape \(8, 8\)"),
        (np.zeros((8, 8, 3), np.float32), r"float32 of shape \(8, 8, 3\)"),
        (np.zeros((8, 8), bool), r"bool of shape \(8, 8\)"),
        (np.zeros((8, 8), np.uint16), r"uint16 of shape \(8, 8\)"),
        (np.zeros((0, 0, 3), np.uint8), r"uint8 of shape \(0, 0, 3\)"),
        (np.zeros((8, 8, 2), np.uint8), r"uint8 of shape \(8, 8, 2\)"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 of shape \(3, 8, 8\)"),
        (np.zeros((5, 3, 8, 8), np.uint8), r"uint8 of shape \(3, 8, 8\)"),
        (np.zeros(8, np.uint8), r"uint8 of shape \(8,\)"),
        (torch.zeros(3, 8, 8), r"torch.float32 of shape \(3, 8, 8\)"),
        (Image.fromarray(np.full((8, 8), 200, np.int32)), "mode I, whose values"),
        (Image.new("L", (0, 5)), "no pixels: it is 0x5"),
        ([None], "NoneType is no image"),
        (7, "int is no image"),
    ],
)
def test_what_would_be_misread_is_refused_with_its_type_and_shape(
    tmp_path: Path, given: Any, said: str
) -> None:
    model = load_model(random_model(tmp_path / "model", COLOUR))
    with pytest.raises(DataError, match=said):
        model.predict(given)


def test_a_file_that_training_would_not_read_is_not_classified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model(tmp_path / "model", COLOUR)
    Image.new("RGB", (20, 20)).save(tmp_path / "placeholder.gif")
    assert cli.main(["predict", str(model), str(tmp_path / "placeholder.gif")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "placeholder.gif is not read, as in training" in said.err


def test_an_export_that_differs_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = random_model(tmp_path / "model", COLOUR)
    load = torch.jit.load

    def other(file: str) -> torch.nn.Module:
        loaded = load(file)
        with torch.no_grad():
            next(loaded.parameters()).mul_(1.5)
        return loaded

    monkeypatch.setattr(torch.jit, "load", other)
    command = ["export", str(source), "--to", str(tmp_path / "out"), "--format", "torchscript"]
    assert cli.main(command) == 1
    assert "differs from the original" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_in_use_and_a_missing_package_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = random_model(tmp_path / "model", COLOUR)
    assert cli.main(["export", str(source), "--to", str(source)]) == 2
    assert "not an empty directory" in capsys.readouterr().err
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    command = ["export", str(source), "--to", str(tmp_path / "out"), "--format", "onnx"]
    assert cli.main(command) == 2
    assert "python -m pip install onnx onnxscript onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_photographs_are_brought_to_size_as_in_training(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    for split, count in (("train", 8), ("test", 2)):
        for name in ("cat", "dog", "owl"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                shape = (*draw.integers(90, 200, 2), 3)
                photograph = Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8))
                photograph.save(folder / f"{index}.jpg")
    source = DataSet("folder", str(tmp_path / "data"), image_size=24)
    test, seen = source.load("test"), source.describe()
    description = replace(
        COLOUR,
        image_size=seen.image_size,
        mean=seen.normalization.mean,
        std=seen.normalization.std,
    )
    model = load_model(random_model(tmp_path / "model", description))
    files = sorted((tmp_path / "data" / "test").rglob("*.jpg"))
    for file, image in zip(files, test.images, strict=True):
        expected = seen.normalization.apply(torch.tensor(image))
        assert torch.equal(model.preprocess(file), expected)
