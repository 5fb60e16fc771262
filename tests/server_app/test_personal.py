"""Whole runs in which sites keep a part of the model for themselves."""

import json

import pytest
import torch
from safetensors.torch import load_file

from fedf2dg import load_model
from foundation.models import ModelDirectoryError
from foundation.models.state import digest_of
from foundation.settings.configuration import ConfigurationError

BATCH_NORM = {"personal": "batch-norm", "post_training": "none", "num_server_rounds": 2}
BATCH_NORM |= {"validation_share": 0.3}


def is_batch_norm(state):
    layers = {name.rpartition(".")[0] for name in state if name.endswith("running_mean")}
    return {name: name.rpartition(".")[0] in layers for name in state}


def sites(run):
    """Return what every site kept of its last round, and for the model."""
    found = []
    for folder in sorted((run.directory / "sites").iterdir()):
        (model,) = (folder / "models").iterdir()
        rounds = sorted((folder / "rounds").iterdir(), key=lambda file: file.name[-16:])
        found.append((load_file(rounds[-1]), load_file(model)))
    return found


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "moon"])
def test_batch_norm_does_not_leave_a_site_during_the_rounds(tiny_run, strategy) -> None:
    run = tiny_run("run", strategy=strategy, stages="train", **BATCH_NORM)
    mine = is_batch_norm(run.model())
    # What came back of each client in the last round has the layers that the server sent: fresh.
    for file in (run.directory / "checkpoints" / "local_models").glob("*.safetensors"):
        for name, value in load_file(file).items():
            if mine[name] and value.is_floating_point():
                fresh = float(name.endswith(("weight", "running_var")))
                torch.testing.assert_close(value, torch.full_like(value, fresh))
    rounds = [
        load_file(max((folder / "rounds").iterdir(), key=lambda file: file.stem[-4:]))
        for folder in sorted((run.directory / "sites").iterdir())
    ]
    assert all(set(layers) == {name for name in mine if mine[name]} for layers in rounds)
    weights = [name for name in rounds[0] if name.endswith("weight")]
    assert all(not torch.equal(rounds[0][name], rounds[1][name]) for name in weights)
    # The model that is kept has their mean, each site by its training images.
    (clients,) = run.events("clients")
    shares = torch.tensor(clients["num_examples"]).double()
    shares /= shares.sum()
    for name in weights:
        mean = torch.tensordot(shares, torch.stack([r[name].double() for r in rounds]), dims=1)
        torch.testing.assert_close(run.model()[name], mean.float())


def test_a_resumed_run_goes_on_with_the_layers_of_its_checkpoint(tiny_run) -> None:
    whole = tiny_run("whole", **BATCH_NORM)
    half = tiny_run("half", stages="train", **{**BATCH_NORM, "num_server_rounds": 1})
    # What a process left behind that was killed before its next checkpoint is not taken.
    for folder in (half.directory / "sites").iterdir():
        (first,) = (folder / "rounds").iterdir()
        first.with_name(first.name.replace("0001", "0002")).write_bytes(first.read_bytes())
    resumed = tiny_run("resumed", resume_from=str(half.directory), **BATCH_NORM)
    for name, value in whole.model().items():
        assert torch.equal(value, resumed.model()[name]), name
    (before,), (after,) = (run.events("own_layers") for run in (whole, resumed))
    assert before == after


@pytest.mark.parametrize("keys", [BATCH_NORM, {"personal": "head", "validation_share": 0.3}])
def test_what_a_site_keeps_is_told_and_can_be_used(tiny_run, keys, monkeypatch) -> None:
    from questions import personal

    # Whatever few images say: the first site keeps its own.
    chosen = iter([True, False, False])
    monkeypatch.setattr(personal, "better", lambda scores: next(chosen))
    run = tiny_run("run", **keys)
    told = run.summary()["personal"]
    assert told["of"] == keys["personal"] and len(told["sites"]) == 3
    assert told["model"] == digest_of(load_file(run.directory / "model" / "model.safetensors"))[:16]
    assert json.loads((run.directory / "model" / "personal.json").read_text())["of"] == told["of"]
    card = " ".join((run.directory / "model/README.md").read_text().split())
    assert "A part of the model for each site" in card
    assert ("labels be wrong" in card) == any(site["kept"] for site in told["sites"])
    shared = load_model(run.directory)
    first, second = (load_model(run.directory, site=f"client {c}") for c in (0, 1))
    kept = load_file(run.directory / "sites/client-00000/models" / f"{told['model']}.safetensors")
    for name, value in shared.network.state_dict().items():
        assert torch.equal(first.network.state_dict()[name], kept.get(name, value)), name
        assert torch.equal(second.network.state_dict()[name], value), name
    assert kept
    with pytest.raises(ModelDirectoryError, match="keeps nothing"):
        load_model(run.directory, site="client 7")


def test_gains_are_those_of_the_site_s_own_images(tiny_run) -> None:
    """By both models, as they are on disk, on the images that the site holds out."""
    from client_app.site import Site
    from foundation.models import load_state
    from foundation.settings.configuration import RunConfiguration

    run = tiny_run("run", personal="head", validation_share=0.5, post_training="none")
    (event,) = run.events("own_layers")
    keys = json.loads((run.directory / "config.json").read_text())["configuration"]
    configuration = RunConfiguration.parse(keys)
    shared = load_file(run.directory / "model" / "model.safetensors")
    for row, (_, own) in zip(event["sites"], sites_with_heads(run), strict=True):
        site = Site.of(configuration, {"partition-id": row["client"], "num-partitions": 3}, {})
        images, model = site.judging_images(), site.model()
        right = [
            images.predictions(load_state(model, {**shared, **layers})).correct
            for layers in ({}, own)
        ]
        assert row["images"] == len(images)
        assert row["shared"] == pytest.approx(float(right[0].double().mean()))
        assert row["own"] == pytest.approx(float(right[1].double().mean()))


def sites_with_heads(run):
    for folder in sorted((run.directory / "sites").iterdir()):
        (model,) = (folder / "models").iterdir()
        own = load_file(model)
        assert set(own) <= {"head.weight", "head.bias"}
        yield folder, own


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"personal": "batch-norm", "model": "resnet8-gn"}, "trains no BatchNorm"),
        ({"personal": "batch-norm", "freeze": "encoder"}, "trains no BatchNorm"),
        ({"personal": "batch-norm", "post_training": "calibration"}, "personal=head"),
        ({"personal": "batch-norm", "batch_norm": "measured"}, "leave one of them out"),
        ({"personal": "batch-norm", "patience": 2}, "patience"),
        ({"personal": "batch-norm", "initial_head": "closed-form"}, "initial-head"),
        ({"personal": "head", "strategy": "local"}, "global model"),
        ({"personal": "head", "strategy": "centralized"}, "global model"),
        ({"personal": "head", "validation_share": 0.0}, "validation-share"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(tiny_run, tmp_path, keys, reason) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        tiny_run("run", **keys)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_site_keeps_its_part_beside_its_images_and_not_where_a_server_says(tmp_path) -> None:
    from client_app.site import Site
    from foundation.data.cache import cache_directory
    from foundation.settings.configuration import RunConfiguration

    images, server = tmp_path / "images", tmp_path / "sites"
    for folder in (images, server):
        folder.mkdir()

    def place(**node):
        sent = {"sites-folder": str(server), "runs": ["a" * 16], "last-rounds": [3]}
        return Site.of(RunConfiguration(), node, sent).folder.path

    assert place(**{"data-path": str(images)}) == images / ".fedf2dg"
    kept = str(tmp_path / "kept")
    assert place(**{"data-path": str(images), "keep-path": kept}) == tmp_path / "kept"
    assert place(**{"partition-id": 2, "num-partitions": 3}) == server / "client-00002"
    server.rmdir()  # on another machine
    elsewhere = place(**{"partition-id": 2, "num-partitions": 3})
    assert elsewhere == cache_directory() / "sites" / "client-00002"
