"""A run that starts with a head in closed form, and spares trained features."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from client_app.training import train_locally
from fedf2dg import simulate
from foundation.data import Batches, ImageData, Normalization
from foundation.models import build, cpu_state
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app.checkpoints import BEFORE_ROUNDS
from server_app.preflight import check
from server_app.run import Run
from strategies import get

TINY = {
    "num_clients": 2,
    "num_server_rounds": 1,
    "local_epochs": 1,
    "partition": "iid",
    "processes": 1,
    "seed": 3,
}


def test_the_first_round_starts_from_the_head_that_the_sums_give(tmp_path, monkeypatch):
    taken, kept = {}, {}
    commit = Run.commit

    def committed(run, step):
        taken[step] = run.model.state
        kept[step] = run.journal.state.kept
        commit(run, step)

    monkeypatch.setattr(Run, "commit", committed)
    weights = cpu_state(build("resnet8", classes=10, channels=1, image_size=8, seed=5))
    save_file(weights, tmp_path / "weights.safetensors")
    given = {**TINY, "initial_weights": str(tmp_path / "weights.safetensors")}
    message = {**given, "num_server_rounds": 0, "post_training": "head", "acceptance": "none"}
    simulate(RunConfiguration(output_dir=str(tmp_path / "message"), **message))
    rounds = {**given, "initial_head": "closed-form", "stages": "train"}
    simulate(RunConfiguration(output_dir=str(tmp_path / "rounds"), **rounds))
    start = taken[BEFORE_ROUNDS]
    assert kept["train-0001"] is None  # judges compare with what the rounds made, not the start
    head = load_file(tmp_path / "message" / "model" / "model.safetensors")
    assert all(torch.equal(start[name], head[name]) for name in head)
    summary = json.loads((tmp_path / "rounds" / "summary.json").read_text())
    assert summary["rounds"] == 1


def test_a_resumed_run_does_not_ask_for_the_head_again(tmp_path):
    settings = {**TINY, "initial_head": "closed-form", "stages": "train"}
    simulate(RunConfiguration(output_dir=str(tmp_path), **settings))
    again = {**settings, "num_server_rounds": 2, "resume_from": str(tmp_path)}
    simulate(RunConfiguration(output_dir=str(tmp_path), **again))
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "calibration" for event in events) == 1
    assert [event["round"] for event in events if event["event"] == "round"] == [1, 2]


def test_a_head_in_closed_form_needs_label_counts():
    configuration = RunConfiguration(initial_head="closed-form", label_counts="uniform", **TINY)
    with pytest.raises(ConfigurationError, match="label-counts=uploaded"):
        check(configuration, simulated=True)


def test_the_encoders_step_is_a_multiple_of_the_heads():
    assert RunConfiguration().encoder_factor == 1.0
    assert RunConfiguration(initial_head="closed-form").encoder_factor == 0.03
    assert RunConfiguration(initial_head="closed-form", encoder_step=0.5).encoder_factor == 0.5
    start = build("resnet8", classes=4, image_size=16, seed=0)
    pixels = np.random.default_rng(1).integers(0, 256, (16, 3, 16, 16), dtype=np.uint8)
    images = ImageData(pixels, np.arange(16) % 4, ("a", "b", "c", "d"))
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    moved = {}
    for factor in (1.0, 0.25):
        configuration = RunConfiguration(
            encoder_step=factor, weight_decay=0.0, local_epochs=1, learning_rate=0.01
        )
        model = copy.deepcopy(start)
        data = Batches(images, normalization=normalization, batch_size=16)  # one step
        algorithm = get("fedavg").client(configuration)
        train_locally(model, data, algorithm, generator=torch.Generator().manual_seed(0))
        moved[factor] = {
            n: p - dict(start.named_parameters())[n] for n, p in model.named_parameters()
        }
    for name, step in moved[1.0].items():
        expected = step * 0.25 if name.startswith("encoder.") else step
        torch.testing.assert_close(moved[0.25][name], expected, rtol=1e-3, atol=1e-7)
