"""The GPU kit comes to its end on a machine that has none, and without Flower."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import preset
from benchmarks.gpu.__main__ import carry_out, main, share_of
from benchmarks.gpu.parts import SHARES
from benchmarks.gpu.preset import PRESET, shrunk, write_learnable_pictures
from benchmarks.gpu.table import markdown
from benchmarks.gpu.task import Task
from benchmarks.gpu.tests import run_tests
from foundation.settings.configuration import RunConfiguration, read_toml

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = ("--device", "cpu", "--size", "toy")


@pytest.mark.slow
def test_every_part_is_measured_and_written_down(tmp_path: Path) -> None:
    parts = [part for part in SHARES if part != "tests"]  # those run here anyway
    assert main(["--minutes", "12", "--out", str(tmp_path), "--only", ",".join(parts), *TOY]) == 0
    record = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert {name: part["status"] for name, part in record["parts"].items()} == dict.fromkeys(
        parts, "done"
    )
    by_part = {name: part["results"] for name, part in record["parts"].items()}
    assert by_part["machine"][0]["ceilings"]["float32"] > 0
    strategies = {variant["name"] for variant in by_part["training"][-1]["variants"]}
    assert {"fedavg", "scaffold", "moon"} <= strategies
    assert [each["way"] for each in by_part["budgets"]] == ["compile=off"]
    assert [each["processes"] for each in by_part["side by side"]] == [1, 2]
    accuracy = by_part["preset"][0]["accuracy"]
    assert 0 <= accuracy["federated"] <= 1 and 0 <= accuracy["distilled"] <= 1
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert all(f"## {part}" in page for part in parts) and "synthetic pictures" in page
    assert "| tests | **not measured**: not reached |" in page
    # A second call with all of them done measures nothing.
    before = (tmp_path / "gpu.json").read_bytes()
    assert main(["--minutes", "1", "--out", str(tmp_path), "--only", ",".join(parts), *TOY]) == 0
    assert (tmp_path / "gpu.json").read_bytes() == before


def test_a_part_that_fails_is_written_down_and_the_next_goes_on(tmp_path: Path) -> None:
    # A device that PyTorch does not know.
    arguments = ["--device", "gpu9", "--size", "toy", "--only", "machine,budgets"]
    assert main(["--minutes", "5", "--out", str(tmp_path), *arguments]) == 1
    parts = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]
    assert list(parts) == ["machine", "budgets"]
    assert all(part["status"] == "failed" and "gpu9" in part["error"] for part in parts.values())
    assert "gpu9" in (tmp_path / "gpu.md").read_text("utf-8")


def test_a_part_that_hangs_is_ended_with_its_children_and_keeps_its_figures(tmp_path: Path) -> None:
    program = tmp_path / "hangs.py"
    program.write_text(
        "import json, subprocess, sys, time\n"
        "out = sys.argv[sys.argv.index('--out') + 1]\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(out, 'w').write(json.dumps({'stage': 'x', 'child': child.pid}) + chr(10))\n"
        "time.sleep(600)\n"
    )
    told = argparse.Namespace(device="cpu", size="toy", data=None)
    part = carry_out("inversion", 3.0, told, (str(program),))
    assert part["status"] == "out of time" and part["seconds"] < 30
    (result,) = part["results"]
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(result["child"], 0)
            time.sleep(0.1)
    record = {"time": "now", "size": "toy", "parts": {"inversion": part}}
    assert "| inversion | **not measured** (out of time) |" in markdown(record)


def test_what_may_not_end_comes_behind_what_does() -> None:
    names = list(SHARES)
    assert names[:4] == ["machine", "inversion", "training", "distillation"]
    assert names.index("compiled inversion") > names.index("tests")


def test_a_later_call_measures_what_did_not_come_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = {"status": "done", "seconds": 1.0, "error": "", "results": []}
    parts = {"machine": done, "budgets": {**done, "status": "failed"}}
    record = {"time": "then", "size": "toy", "device": "gpu9", "parts": parts}
    (tmp_path / "gpu.json").write_text(json.dumps(record))
    again = {**done, "seconds": 2.0}
    monkeypatch.setattr("benchmarks.gpu.__main__.carry_out", lambda *given: again)
    arguments = ["--device", "gpu9", "--size", "toy", "--only", "machine,budgets"]
    assert main(["--minutes", "5", "--out", str(tmp_path), *arguments]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]
    assert found == {"machine": done, "budgets": again}


def test_tests_that_take_too_long_say_how_far_they_came() -> None:
    with pytest.raises(RuntimeError, match="the tests took longer than 0 s"):
        run_tests(Task("cpu", "toy", 0.3, None))


def test_time_that_is_left_over_goes_to_the_parts_behind() -> None:
    names = list(SHARES)
    assert share_of(names, 100.0) == pytest.approx(100 * SHARES[names[0]] / sum(SHARES.values()))
    assert share_of(names[-1:], 40.0) == pytest.approx(40.0)
    assert share_of(names, -1.0) == 0.0


def test_a_preset_is_shrunk_to_the_time_and_never_grows() -> None:
    keys_of_preset = read_toml(PRESET)
    before: dict[str, int] = {"num-server-rounds": 0, "generation.iterations": 0}
    for seconds in (0.1, 60.0, 600.0, 6000.0, 1e9):
        keys = shrunk(keys_of_preset, seconds, images=50_000, step=0.01, inversion_step=0.02)
        RunConfiguration.parse({**keys_of_preset, **keys})
        for name in before:
            assert max(1, before[name]) <= keys[name] <= keys_of_preset[name]
            before[name] = keys[name]
    assert before == {name: keys_of_preset[name] for name in before}


def test_synthetic_pictures_can_be_told_apart(tmp_path: Path) -> None:
    from foundation.data import DataSet

    write_learnable_pictures(tmp_path, each=10)
    train, test = (DataSet("folder", str(tmp_path)).load(split) for split in ("train", "test"))
    means = [train.images[train.labels == label].mean(axis=0) for label in range(10)]
    nearest = [
        min(range(10), key=lambda k: ((image - means[k]) ** 2).sum()) for image in test.images
    ]
    assert (nearest == test.labels).mean() > 0.5


def test_local_training_needs_no_flower() -> None:
    """In a process in which Flower cannot be found."""
    program = """
import importlib.machinery
plain = importlib.machinery.PathFinder.find_spec
def without(name, path=None, target=None):
    return None if name.split(".")[0] in ("flwr", "ray") else plain(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(without)
import benchmarks.gpu.without_flower as kit
assert not kit.is_installed()
kit.allow_missing_flower()
assert not kit.is_installed()
from benchmarks import bare_loop, distillation, inversion, training
from strategies import get
algorithm = get("scaffold")
try:
    import flwr.serverapp
    flwr.serverapp.Grid()
except ModuleNotFoundError as error:
    assert "Flower is not installed" in str(error)
    print("fine", algorithm.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["fine", "scaffold"], done.stderr[-2000:]


@pytest.mark.slow
def test_without_flower_the_preset_is_a_bare_loop_and_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preset, "is_installed", lambda: False)
    (found,) = preset.shrunk_preset(Task("cpu", "toy", 60.0, None))
    assert found.how.startswith("a bare loop")
    assert set(found.accuracy) >= {"federated", "distilled"}
    assert all(value is not None and 0 <= value <= 1 for value in found.accuracy.values())
    assert found.seconds["federated"] > 0 and found.seconds["generation"] > 0
