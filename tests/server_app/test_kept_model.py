"""Every run leaves the model that it kept, with a card that says how good it is."""

import json

import pytest
import torch

from foundation.models import read_model
from foundation.scores import Outcomes

SMALL = {"num_clients": 2, "train_samples": 40, "num_server_rounds": 1}


def agrees(run):
    """Tell whether ``model/`` holds, bit for bit, the global model of the last checkpoint."""
    _, model = read_model(run.directory / "model")
    state, expected = model.state_dict(), run.model()
    return state.keys() == expected.keys() and all(
        torch.equal(state[name], expected[name]) for name in state
    )


def test_the_model_is_the_one_that_was_kept_and_its_card_says_so(tiny_run):
    run = tiny_run("run", **SMALL, validation_share=0.3)
    assert agrees(run)
    summary = run.summary()
    description, _ = read_model(run.directory / "model")
    assert description.classes == tuple(map(str, range(10)))
    assert (description.channels, description.image_size) == (1, (8, 8))
    card = (run.directory / "model" / "README.md").read_text("utf-8")
    front = card.split("---\n")[1]
    assert "license: unknown" in front
    assert "- federated-learning" in front
    for row in summary["judged"]["verdicts"]:
        assert row["sentence"] in card
    assert f"({100 * summary['accuracy']['selected']:.1f} %; of other such images" in card
    # What it says of the images that measured it, and of each site's, is what these measured.
    scores = summary["scores"]
    whole = Outcomes.read(scores["whole"])
    assert whole is not None
    assert whole.right / whole.images == pytest.approx(summary["accuracy"]["selected"])
    assert whole.images == summary["measured"]["selected"]["images"]
    last = list(summary["judged"]["clients"].values())[-1]
    for site, row in zip(scores["sites"], last, strict=True):
        told = Outcomes.read(site["outcomes"])
        assert told is not None and site["name"] == row["name"]
        assert (told.images, told.right) == (row["images"], round(row["kept"] * row["images"]))
    assert "| stage that was kept | " + summary["judged"]["selected"] in card
    up = summary["traffic"]["model"]["bytes_up"]
    assert f"| model | {up:,} |" in card


def test_the_model_of_moon_keeps_its_projection_head(tiny_run):
    run = tiny_run("run", **SMALL, strategy="moon", moon__projection_dim=6, stages="train")
    assert agrees(run)
    assert read_model(run.directory / "model")[0].projection_dim == 6
    assert "Nobody judged" in (run.directory / "model" / "README.md").read_text()


def test_a_strategy_without_a_global_model_leaves_none_and_says_so(tiny_run, app_log):
    run = tiny_run("run", **SMALL, strategy="local", stages="train")
    assert not (run.directory / "model").exists()
    assert "no model/ is written" in app_log.text


def test_a_run_that_goes_on_replaces_its_model(tiny_run, monkeypatch):
    from server_app.run import Run

    first = tiny_run("run", **SMALL, stages="train")
    weights = (first.directory / "model" / "model.safetensors").read_bytes()
    there = []
    train = Run.train

    def watched(run):
        there.append((run.directory / "model").exists())
        train(run)

    monkeypatch.setattr(Run, "train", watched)
    keys = {**SMALL, "num_server_rounds": 2, "stages": "train"}
    again = tiny_run("run", **keys, resume_from=str(first.directory))
    assert there == [False]
    assert (again.directory / "model" / "model.safetensors").read_bytes() != weights
    assert agrees(again)
    assert json.loads((again.directory / "summary.json").read_text())["rounds"] == 2
