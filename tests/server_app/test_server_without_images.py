"""Real sites with files of their own, and a server that has no image at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict

from client_app.app import app as client_app
from fedf2dg.simulation.local_grid import LocalGrid
from fedf2dg.starters import write_example_sites
from foundation.data import DataError, site_data
from foundation.data.agreement import announced, parsed_shape
from foundation.models import read_model
from foundation.models.evaluation import Evaluator
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app import preflight
from server_app.images import description_of
from server_app.run import run

SITES = ("site-1", "site-2", "site-3.parquet")
NAMES = ",".join(map(str, range(10)))


class SitesGrid(LocalGrid):
    """An in-process grid whose nodes have files of their own, as SuperNodes have."""

    def __init__(self, paths: list[str], run_config: dict[str, Any]) -> None:
        super().__init__(client_app, len(paths), run_config)
        self._paths = paths

    def _context(self, node: int) -> Context:
        return Context(
            run_id=1,
            node_id=node,
            node_config={"data-path": self._paths[node - 100]},
            state=RecordDict(),
            run_config=self._run_config,
        )


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sites")
    write_example_sites(directory)
    return directory


def carry_out(sites: Path, output: Path, **keys: Any) -> dict[str, Any]:
    settings = {
        "dataset": "folder",
        "num-clients": 3,
        "num-server-rounds": 2,
        "local-epochs": 1,
        "stages": "train,generate,distil",
        "generation.place": "client",
        "generation.images-per-client": 4,
        "generation.iterations": 3,
        "distillation.epochs": 1,
        "output-dir": str(output),
        **keys,
    }
    configuration = preflight.parse(settings)
    preflight.check(configuration, simulated=False)
    grid = SitesGrid([str(sites / site) for site in SITES], configuration.flat())
    return run(grid, configuration)


def test_a_run_of_real_sites_needs_no_image_on_the_server(sites: Path, tmp_path: Path) -> None:
    keys = {"class-names": NAMES, "image-shape": "1x8x8", "baseline": "local"}
    summary = carry_out(sites, tmp_path / "run", **keys)
    images = sum(len(site_data(sites / site, "test", holdout=0.1)) for site in SITES)
    assert summary["status"] == "completed"
    for stage in ("federated", "distilled", "selected"):
        chose = {"also_chose": True} if stage == "selected" else {}
        assert summary["measured"][stage] == {"by": "clients", "images": images, **chose}
        assert 0 <= summary["accuracy"][stage] <= 1
    gains = summary["own_models"]["sites"]
    assert [(site["name"], site["images"] > 0) for site in gains] == [(s, True) for s in SITES]
    assert summary["own_models"]["images"] == images
    told = summary["on_clients"]["distilled"]["clients"]
    assert [client["name"] for client in told] == list(SITES)
    written = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))
    assert written["measured"] == summary["measured"]
    # The saved model, on the same images in one place, says exactly what the sites said together.
    description, model = read_model(tmp_path / "run" / "model")
    like = announced("folder", description.classes, "1x8x8")
    right = {
        site: np.trace(
            Evaluator(held_out, like.normalization, torch.device("cpu"))(model).confusion
        )
        for site in SITES
        if len(held_out := site_data(sites / site, "test", like=like, holdout=0.1))
    }
    assert summary["accuracy"]["selected"] == sum(right.values()) / images
    judged = summary["judged"]["clients"]["distilled"]
    assert {row["name"]: row["kept"] * row["images"] for row in judged} == pytest.approx(right)


def test_sites_whose_images_are_of_another_size_refuse(sites: Path, tmp_path: Path) -> None:
    keys = {"class-names": NAMES, "image-shape": "1x16x16"}
    with pytest.raises(Exception, match="images are 8x8 pixels, the federation's are 16x16"):
        carry_out(sites, tmp_path / "run", **keys)


@pytest.mark.parametrize(
    "keys", [{}, {"class-names": NAMES}, {"image-shape": "1x8x8"}], ids=["none", "names", "shape"]
)
def test_what_is_missing_is_named(sites: Path, tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"data-dir.*class-names and image-shape"):
        carry_out(sites, tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()


def test_simulated_clients_need_images_here() -> None:
    values = {"dataset": "folder", "class-names": NAMES, "image-shape": "1x8x8"}
    with pytest.raises(DataError, match="needs data-dir"):
        preflight.check(preflight.parse(values), simulated=True)


def test_a_server_that_has_images_must_agree_with_the_key(sites: Path) -> None:
    values = {"dataset": "folder", "data-dir": str(sites / "server"), "image-shape": "3x8x8"}
    with pytest.raises(ConfigurationError, match="own images are 1x8x8"):
        preflight.check(preflight.parse(values), simulated=False)
    values["image-shape"] = "1x8x8"
    preflight.check(preflight.parse(values), simulated=False)


@pytest.mark.parametrize("shape", ["8x8", "2x8x8", "1x0x8", "1x8x99999", "1x8x8x8", "axbxc"])
def test_impossible_shapes_are_refused(shape: str) -> None:
    with pytest.raises(DataError, match="channels x height x width"):
        parsed_shape(shape)


def test_what_is_announced() -> None:
    found = announced("folder", ("cat", "dog"), " 3x20x30 ")
    assert found.image_shape == (3, 20, 30) and found.class_names == ("cat", "dog")
    for names in (("cat",), ("cat", "cat")):
        with pytest.raises(DataError, match="two or more, each once"):
            announced("folder", names, "1x8x8")


def test_a_server_without_images_agrees_on_a_size_to_resize_to() -> None:
    values = {"dataset": "folder", "class-names": "ant,bee", "image-shape": "3x64x64"}
    plain = description_of(RunConfiguration.parse(values))
    assert (plain.resized, plain.augmentation) == (False, "crop-flip")
    resized = description_of(RunConfiguration.parse({**values, "image-size": 64}))
    assert resized == replace(plain, resized=True)
    with pytest.raises(ConfigurationError, match=r"image-size = 32 contradict"):
        description_of(RunConfiguration.parse({**values, "image-size": 32}))
