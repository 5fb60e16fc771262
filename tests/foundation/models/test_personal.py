"""What a site keeps of a model for itself, and that nothing of another run is taken for its own."""

from dataclasses import replace

import pytest
import torch

from foundation.data.sources.walk import LeftOut, folders_in
from foundation.errors import ConfigurationError
from foundation.models import build
from foundation.models.client_store import OwnLayers, SiteFolder, batch_norm_entries

FIRST, SECOND = "0" * 16, "f" * 16


def layers(value: float) -> dict[str, torch.Tensor]:
    return {"norm.weight": torch.full((3,), value)}


def test_the_last_round_that_counts_is_taken_whatever_a_killed_process_left(tmp_path):
    folder = SiteFolder(tmp_path / "kept")
    like = layers(0.0)
    assert folder.after_rounds({FIRST: 9}, like) == {}
    for run, server_round in ((FIRST, 1), (FIRST, 3), (FIRST, 4), (SECOND, 4)):
        folder.keep_round(run, server_round, layers(server_round + (run == SECOND) / 2))

    def taken(runs):
        return float(folder.after_rounds(runs, like)["norm.weight"][0])

    assert taken({FIRST: 4}) == 4
    assert taken({FIRST: 3}) == taken({FIRST: 2, SECOND: 3, "a" * 16: 9} | {FIRST: 3}) == 3
    assert taken({FIRST: 3, SECOND: 4}) == 4.5
    assert taken({FIRST: 2}) == 1  # it did not take part in the second
    assert folder.after_rounds({SECOND: 3}, like) == {}


def test_layers_belong_to_the_model_that_they_were_made_for(tmp_path):
    folder, model = SiteFolder(tmp_path), {**layers(1.0), "head.bias": torch.zeros(2)}
    own = OwnLayers("batch-norm", layers(2.0), True)
    folder.keep(model, own)
    found = folder.own_layers(model)
    assert found is not None and replace(found, layers={}) == replace(own, layers={})
    assert torch.equal(found.layers["norm.weight"], own.layers["norm.weight"])
    assert folder.own_layers({**model, "head.bias": torch.ones(2)}) is None


def test_what_cannot_be_used_or_kept_is_said(tmp_path):
    folder = SiteFolder(tmp_path / "kept")
    with pytest.raises(ConfigurationError, match="calls its run"):
        folder.keep_round("../../etc", 1, layers(1.0))
    folder.keep_round(FIRST, 1, layers(1.0))
    other = {"norm.weight": torch.zeros(4)}
    with pytest.raises(ConfigurationError, match=r"cannot be used.*shape"):
        folder.after_rounds({FIRST: 1}, other)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="keep-path"):
        SiteFolder(tmp_path / "file").keep_round(FIRST, 1, layers(1.0))


def test_the_folder_beside_images_is_no_class_and_no_news(tmp_path):
    (tmp_path / "cat").mkdir()
    SiteFolder.beside(tmp_path).keep_round(FIRST, 1, layers(1.0))
    left_out = LeftOut()
    assert [path.name for path in folders_in(tmp_path, left_out)] == ["cat"]
    assert not left_out.sentence(tmp_path)
    assert SiteFolder.beside(tmp_path / "images.parquet").path.parent.parent == tmp_path


def test_batch_norm_entries_are_those_that_are_trained():
    model = build("resnet8", classes=3, channels=1, image_size=(8, 8), seed=0)
    names = batch_norm_entries(model)
    state = model.state_dict()
    running = {name.rpartition(".")[0] for name in state if name.endswith("running_mean")}
    assert {name.rpartition(".")[0] for name in names} == running
    assert len(names) == 5 * len(running) and set(names) < set(state)
    for layer in sorted(running)[1:]:
        for parameter in model.get_submodule(layer).parameters():
            parameter.requires_grad_(False)
    assert {name.rpartition(".")[0] for name in batch_norm_entries(model)} == {min(running)}
    gn = build("resnet8-gn", classes=3, channels=1, image_size=(8, 8), seed=0)
    assert batch_norm_entries(gn) == ()
