"""``fedf2dg evaluate``: scikit-learn's figures, the wrong images, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

from fedf2dg import cli, load_model
from fedf2dg.use.evaluate import FIGURES, PAGE, of_site
from foundation.models import ModelDescription, cpu_state, write_model
from foundation.models.client_store import OwnLayers, SiteFolder
from foundation.scores import Outcomes
from tests.foundation.data.tiny_files import write_parquet

NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model that was never trained, whose answers vary."""
    description = ModelDescription("cnn", 0, NAMES, 3, (9, 7), (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    state = {
        name: value * 1.5 if value.is_floating_point() and value.ndim > 1 else value
        for name, value in cpu_state(description.build()).items()
    }
    write_model(folder, description, state, "# Card\n")
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two sites with images of noise."""
    folder, rng = tmp_path_factory.mktemp("sites"), np.random.default_rng(0)
    for site, counts in {"north": (20, 7, 3), "south": (5, 9, 6)}.items():
        for name, count in zip(NAMES, counts, strict=True):
            place = folder / site / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{index:02d}.png")
    return folder


def test_figures_are_scikit_learns_on_the_single_predictions(
    model: Path, sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(model), str(sites), "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "guessing" in said.splitlines()[0].lower() and str(tmp_path / PAGE) in said
    told = json.loads((tmp_path / FIGURES).read_text())
    files = sorted(sites.glob("*/*/*.png"))
    labels = np.array([NAMES.index(file.parent.name) for file in files])
    logits = load_model(model)(files)
    shares, predicted = logits.double().softmax(dim=1).numpy(), logits.argmax(dim=1).numpy()
    found = told["all"]
    assert found["images"] == len(files) == 50
    assert found["accuracy"]["value"] == pytest.approx(
        metrics.accuracy_score(labels, predicted), abs=1e-9
    )
    assert found["balanced_accuracy"]["value"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, predicted), abs=1e-9
    )
    assert found["log_loss"]["value"] == pytest.approx(metrics.log_loss(labels, shares), rel=1e-9)
    np.testing.assert_array_equal(found["confusion"], metrics.confusion_matrix(labels, predicted))
    f1 = metrics.f1_score(labels, predicted, average=None, zero_division=0.0)
    assert [row["f1"]["value"] or 0.0 for row in found["by_class"]] == pytest.approx(f1)
    area = metrics.roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    assert found["auroc"]["value"] == pytest.approx(area, abs=1e-12)
    assert {name: part["images"] for name, part in told["folders"].items()} == {
        "north": 30,
        "south": 20,
    }
    # Each folder by itself is what the folder alone gives.
    cli.main(["evaluate", str(model), str(sites / "south"), "--output", str(tmp_path / "alone")])
    alone = json.loads((tmp_path / "alone" / FIGURES).read_text())
    assert alone["all"] == told["folders"]["south"]


def test_a_site_s_own_part_is_named_and_replaces_no_other_page(
    model: Path, sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, own = tmp_path / "clinic a", load_model(model)
    state = own.network.state_dict()
    last = {name: 0 * value for name, value in state.items() if name in list(state)[-2:]}
    SiteFolder(place).keep(state, OwnLayers("head", last, True))
    given = ["evaluate", str(model), str(sites / "south"), "--output", str(tmp_path)]
    assert cli.main(given) == 0
    before = [(tmp_path / name).read_bytes() for name in (PAGE, FIGURES)]
    capsys.readouterr()
    assert cli.main([*given, "--site", str(place)]) == 0
    first, *_, last_line = capsys.readouterr().out.splitlines()
    assert str(place) in first
    page = Path(last_line)
    assert page.parent == tmp_path and page.name == of_site(PAGE, str(place))
    assert f"as site {place} uses it" in page.read_text("utf-8")
    told = json.loads((tmp_path / of_site(FIGURES, str(place))).read_text())
    assert told["site"] == str(place) and told["all"]["images"] == 20
    assert [(tmp_path / name).read_bytes() for name in (PAGE, FIGURES)] == before


def test_files_of_sites_have_safe_names_of_their_own() -> None:
    assert of_site(PAGE, "") == PAGE and of_site(PAGE, "north") == "evaluation-north.html"
    names = {of_site(PAGE, site) for site in ("a b", "a/b", "a-b", "../a/b", "..", "x" * 300)}
    assert len(names) == 6
    assert all(re.fullmatch(r"evaluation-[\w-]{1,100}\.html", name) for name in names)


def test_the_page_shows_every_wrong_image(model: Path, sites: Path, tmp_path: Path) -> None:
    cli.main(["evaluate", str(model), str(sites), "--output", str(tmp_path)])
    page = (tmp_path / PAGE).read_text("utf-8")
    found = json.loads((tmp_path / FIGURES).read_text())["all"]
    wrong = found["images"] - found["right"]
    assert 0 < wrong <= 48 and page.count("<img ") == wrong
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "How sure it is" in page and "Abstaining where it is not sure" in page


def test_what_cannot_be_read_is_named_and_not_counted(
    model: Path, sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    (folder / "cat").mkdir(parents=True)
    (folder / "dog").mkdir()
    (folder / "cat" / "broken.png").write_bytes(b"no image")
    source = next((sites / "north" / "dog").glob("*.png"))
    (folder / "dog" / "one.png").write_bytes(source.read_bytes())
    assert cli.main(["evaluate", str(model), str(folder), "--output", str(tmp_path)]) == 1
    assert "broken.png" in capsys.readouterr().err
    told = json.loads((tmp_path / FIGURES).read_text())
    assert told["all"]["images"] == 1
    assert ">1</b>" in (tmp_path / PAGE).read_text("utf-8")  # not read
    images = [source.read_bytes(), b"", b"no image", source.read_bytes()]
    table = write_parquet(tmp_path / "site.parquet", images, ["cat", "cat", "dog", "owl"])
    assert cli.main(["evaluate", str(model), str(table), "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "site.parquet row 1: " in said and "site.parquet row 2: " in said


def test_training_images_beside_test_images_are_not_counted_and_that_is_said(
    model: Path, sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for split, site in (("train", "north"), ("test", "south")):
        (tmp_path / "data" / split).symlink_to(sites / site)
    given = ["evaluate", str(model), str(tmp_path / "data"), "--output", str(tmp_path)]
    assert cli.main(given) == 0
    assert "those for training are not" in capsys.readouterr().err
    assert json.loads((tmp_path / FIGURES).read_text())["all"]["images"] == 20
    assert cli.main([*given[:2], str(sites / "south"), *given[3:]]) == 0
    assert "those for training" not in capsys.readouterr().err


def test_sites_that_are_files_are_counted_and_what_was_trained_on_is_said(
    model: Path, sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, photos = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(model, run / "model")
    (run / "config.json").write_text(json.dumps({"configuration": {"data-dir": str(photos)}}))
    shutil.copytree(sites, photos)
    for file in (photos / "south").rglob("*.png"):
        place = photos / "server" / "test" / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    image = next(photos.rglob("*.png")).read_bytes()
    write_parquet(photos / "west.parquet", [image, image], ["cat", "dog"])
    assert cli.main(["evaluate", str(run), str(photos)]) == 0
    told = json.loads((run / FIGURES).read_text())["folders"]
    assert {name: found["images"] for name, found in told.items()} == {
        "north": 30,
        "server": 20,
        "south": 20,
        "west.parquet": 2,
    }
    said = "was trained on images of north, south, west.parquet: the figures flatter it"
    assert said in capsys.readouterr().err and said in (run / PAGE).read_text("utf-8")
    for elsewhere in (sites, photos / "server" / "test"):
        assert cli.main(["evaluate", str(run), str(elsewhere)]) == 0
        assert "trained on" not in capsys.readouterr().err


def test_a_class_that_the_model_does_not_have_is_refused(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "cow").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "cow" / "a.png")
    assert cli.main(["evaluate", str(model), str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "'cow'" in said and "class-names" not in said  # no key of this command
    assert not (model / PAGE).exists()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", str(model), "cow"]) == 2
    assert f"did you mean its parent, {tmp_path}?" in capsys.readouterr().err.replace("'", "")


def test_abstaining_leaves_the_sure_ones() -> None:
    from foundation import scores

    logits = np.log([[0.9, 0.1]] * 6 + [[0.6, 0.4]] * 4)
    labels = np.array([0] * 6 + [0, 1, 1, 1])
    found = scores.abstaining(Outcomes.counted(logits, labels))
    assert [(a.value, r.value) for _, a, r in found] == [(1.0, 0.7), (0.6, 1.0)]
    assert 0.6 <= found[1][0] < 0.9
