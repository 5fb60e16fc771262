"""The diagnosis of a run: its figures against what they are by definition, and what is refused."""

import json
import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedf2dg.cli import main
from fedf2dg.diagnosis import diagnose, refitted
from fedf2dg.report import write_report
from fedf2dg.simulation.local_run import run_locally
from foundation.models import load_state
from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from server_app.checkpoints import CheckpointError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train a tiny federation of the digits."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    settings = {
        "num-clients": 2,
        "train-samples": 300,
        "dirichlet-alpha": 1.0,
        "num-server-rounds": 2,
        "local-epochs": 2,
        "strategy": "fedavg",
        "stages": "train",
        "distillation.epochs": 1,
        "output-dir": str(directory),
        "processes": 1,
    }
    return directory, run_locally(preflight.parse(settings))


def test_the_command_prints_a_table_and_the_report_shows_it(run, capsys):
    directory, summary = run
    assert "What could be gained" not in write_report(directory).read_text("utf-8")
    assert main(["diagnose", str(directory)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((directory / "diagnosis.json").read_text("utf-8"))
    by_part = {}
    for entry in found["ceilings"]:
        by_part.setdefault(entry["part"], []).append(entry)
        assert f"{100 * entry['accuracy']:.1f} %" in printed
        assert 0 <= entry["accuracy"] <= 1
    assert list(by_part) == ["federated", "teacher", "head", "images"]
    assert by_part["federated"][0]["accuracy"] == summary["accuracy"]["federated"]
    simulated = {entry["part"] for entry in found["ceilings"] if entry["simulation_only"]}
    assert simulated == {"head", "images"}
    assert "simulation only" in printed
    assert "What could be gained" in (directory / "report.html").read_text("utf-8")


def test_with_one_client_the_ensemble_is_its_model(tmp_path):
    settings = {
        "num-clients": 1,
        "train-samples": 200,
        "num-server-rounds": 1,
        "local-epochs": 1,
        "partition": "iid",
        "strategy": "fedavg",
        "stages": "train",
        "distillation.epochs": 1,
        "output-dir": str(tmp_path / "run"),
        "processes": 1,
    }
    run_locally(preflight.parse(settings))
    federated, *others = diagnose(tmp_path / "run")
    teachers = [entry for entry in others if entry.part == "teacher"]
    assert [entry.accuracy for entry in teachers[:2]] == [federated.accuracy] * 2


def test_a_run_without_its_models_or_without_a_test_set_is_refused(run, tmp_path):
    with pytest.raises(ConfigurationError, match="not the directory of a run"):
        diagnose(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(run[0], copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(CheckpointError):
        diagnose(copy)
    told = json.loads((copy / "config.json").read_text())
    told["configuration"] |= {
        "num-server-rounds": 0,
        "initial-weights": "w",
        "post-training": "head",
    }
    (copy / "config.json").write_text(json.dumps(told))
    with pytest.raises(ConfigurationError, match="had no rounds"):
        diagnose(copy)


def test_a_refitted_head_is_where_the_gradient_vanishes_and_the_body_stays():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    images, labels = torch.randn(60, 1, 4, 4), torch.arange(60) % 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = refitted(model, images, labels)
    assert all(torch.equal(state[name], before[name]) for name in ("1.weight", "1.bias"))
    load_state(model, state)
    loss = F.cross_entropy(model(images), labels)
    change = state["3.weight"] - before["3.weight"], state["3.bias"] - before["3.bias"]
    gradients = torch.autograd.grad(loss, [model[3].weight, model[3].bias])
    for gradient, part in zip(gradients, change, strict=True):
        assert torch.allclose(gradient + 2e-3 * part, torch.zeros_like(gradient), atol=1e-4)
