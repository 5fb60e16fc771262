"""The benchmark of bfloat16 inversion takes a finished run and leaves it as it was."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.precision import WAYS, compare, main
from fedf2dg.simulation.local_run import run_locally
from server_app import preflight

SETTINGS = {
    "strategy": "fedavg",
    "num-clients": 3,
    "train-samples": 120,
    "partition": "iid",
    "num-server-rounds": 1,
    "local-epochs": 1,
    "processes": 1,
    "stages": "train",
    "generation.images-per-client": 4,
    "generation.iterations": 3,
    "distillation.epochs": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("precision") / "run"
    run_locally(preflight.parse({**SETTINGS, "output-dir": str(directory)}))
    return directory


def _content(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_both_precisions_invert_the_same_models_for_the_same_labels(run: Path) -> None:
    before = _content(run)
    federated, results = compare(run, "off")
    assert _content(run) == before
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert federated == pytest.approx(summary["accuracy"]["federated"])
    plain, reduced = (results[p].generation for p in ("float32", "bfloat16"))
    assert torch.equal(plain.data.labels, reduced.data.labels)
    assert set(plain.objectives) == set(reduced.objectives) == {0, 1, 2}
    # Three steps from the same noise: close, but not computed in the same type.
    assert reduced.objective == pytest.approx(plain.objective, rel=0.05)
    assert not torch.equal(plain.data.images, reduced.data.images)
    other = results["float32, other noise"].generation
    assert (plain.data.images - other.data.images).abs().mean() > 0.1


def test_it_says_what_it_found_in_a_line_for_each_run(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(run), "--compile", "off"])
    output = capsys.readouterr().out
    assert "run: federated" in output and output.count("inverted in") == len(WAYS)
    assert "bfloat16 against float32: mean" in output and "runs: 1" in output
