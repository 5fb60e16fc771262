"""Held-out images judge models, and nothing else of a client ever sees them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client_app import site as sites
from client_app.site import Site
from foundation.data import DataSet, Division, ImageData
from foundation.settings.configuration import RunConfiguration

DIVISION = {"clients": 3, "seed": 0, "dirichlet_alpha": 1.0, "train_samples": 300}
SETTINGS = {
    "num-clients": 3,
    "dirichlet-alpha": 1.0,
    "train-samples": 300,
    "label-noise": "symmetric",
    "label-noise-rate": 0.3,
    "feature-noise": 0.2,
}


@pytest.fixture(autouse=True)
def fresh_residents():
    def forget():
        for resident in (sites.Site.data, sites.Site.held_out, sites.Site.batches):
            resident.cache_clear()

    forget()
    yield
    forget()


def site(client: int = 1, **keys: object) -> Site:
    configuration = RunConfiguration.parse({**SETTINGS, **keys})
    node = {"partition-id": client, "num-partitions": 3}
    return Site.of(configuration, node, {})


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_a_clients_rows_are_divided_without_overlap(share):
    whole = Division(DataSet("digits"), **DIVISION).rows(1)[0]
    trained, held_out = Division(DataSet("digits"), validation_share=share, **DIVISION).rows(1)
    assert sorted([*trained, *held_out]) == sorted(whole)
    assert len(held_out) > 0
    again = Division(DataSet("digits"), validation_share=share, **DIVISION).rows(1)
    np.testing.assert_array_equal(again[1], held_out)


def test_what_is_held_out_depends_on_the_seed():
    one = Division(DataSet("digits"), validation_share=0.2, clients=1, seed=0, kind="iid").rows(0)
    two = Division(DataSet("digits"), validation_share=0.2, clients=1, seed=1, kind="iid").rows(0)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(one)),
        np.sort(np.concatenate(two)),
    )
    assert not np.array_equal(one[1], two[1])


def test_held_out_images_look_as_the_others_do_and_have_true_labels():
    place = site()
    clean = Division(DataSet("digits"), validation_share=0.1, **DIVISION).data(1, "held-out")
    held_out = place.held_out()
    np.testing.assert_array_equal(held_out.labels, clean.labels)
    assert held_out.feature_noise == place.data().feature_noise is not None
    judging, still = place.judging_images(), place.description.normalization
    seen = torch.cat(list(judging._inputs()))
    noise = (seen - still.apply(torch.tensor(held_out.images))) * torch.tensor(still.std)[0]
    assert float(noise.std()) == pytest.approx(held_out.feature_noise.std, rel=0.05)
    assert torch.equal(seen, torch.cat(list(judging._inputs())))  # and always the same


def poisoned(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Turn every held-out image of the three clients to white, as no digit is."""
    rows = [
        Division(DataSet("digits"), validation_share=share, **DIVISION).rows(client)[1]
        for client in range(3)
    ]
    load = DataSet.load

    def bad(data_set: DataSet, split: str) -> ImageData:
        whole = load(data_set, split)
        images = np.array(whole.images)
        images[np.concatenate(rows)] = 255
        return replace(whole, images=images)

    monkeypatch.setattr(DataSet, "load", bad)


def test_poisoned_held_out_images_reach_nothing_but_the_judges(monkeypatch):
    before = site()
    trained, judges = before.data(), before.held_out()
    batches = list(before.batches().epoch(torch.Generator().manual_seed(1)))
    pooled = before.batches(pooled=True).samples
    poisoned(monkeypatch, 0.1)
    for resident in (sites.Site.data, sites.Site.held_out, sites.Site.batches):
        resident.cache_clear()
    after = site()
    np.testing.assert_array_equal(after.data().images, trained.images)
    np.testing.assert_array_equal(after.data().labels, trained.labels)
    for (images, labels), (images_now, labels_now) in zip(
        batches, after.batches().epoch(torch.Generator().manual_seed(1)), strict=True
    ):
        assert torch.equal(images, images_now)
        assert torch.equal(labels, labels_now)
    assert 255 not in [int(image.min()) for image in sites.pooled_data(after.configuration).images]
    assert pooled == after.batches(pooled=True).samples
    assert (after.held_out().images == 255).all()
    assert not (judges.images == 255).all()


def test_without_a_share_nothing_is_held_out_and_all_is_trained_on():
    place = site(**{"validation-share": 0.0})
    assert len(place.held_out()) == 0
    assert len(place.data()) == len(Division(DataSet("digits"), **DIVISION).rows(1)[0])


def own_site(path, **keys: object) -> Site:
    configuration = RunConfiguration.parse({**SETTINGS, **keys})
    return replace(
        Site.of(configuration, {"data-path": str(path)}, {}),
        description=DataSet("digits").describe(),
    )


def write_site(directory, split: str, count: int) -> None:
    from PIL import Image

    for label in range(10):
        folder = directory / split / str(label)
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = np.full((8, 8), 20 * label + index, np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.mark.parametrize("name", ["test", "val", "validation"])
def test_a_site_with_test_images_of_its_own_is_judged_by_those(tmp_path, name):
    write_site(tmp_path, "train", 12)
    write_site(tmp_path, name, 2)
    place = own_site(tmp_path)
    assert len(place.data()) == 120
    assert len(place.held_out()) == 20
    assert len(own_site(tmp_path, **{"validation-share": 0.0}).held_out()) == 0


def test_a_site_of_few_images_holds_none_out(tmp_path):
    write_site(tmp_path, "train", 3)
    place = own_site(tmp_path)
    assert len(place.data()) == 30
    assert len(place.held_out()) == 0


def test_a_site_is_called_as_its_node_says_or_like_its_folder(tmp_path):
    configuration = RunConfiguration.parse(SETTINGS)
    folder = tmp_path / "clinic-north"
    named = {"data-path": str(folder), "site-name": "North"}
    assert Site.of(configuration, named, {}).name == "North"
    assert Site.of(configuration, {"data-path": f"{folder}/"}, {}).name == "clinic-north"
    assert site().name == ""
