"""A Flower app of one's own: it runs as it was written, and only its code travels."""

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedf2dg import cli
from fedf2dg.compare import read_plan
from fedf2dg.starters import write_new
from foundation import ConfigurationError
from foundation.settings.configuration import RunConfiguration, key_table, read_toml
from questions.description import code_fingerprint

ROOT = Path(__file__).resolve().parents[2]
TINY = ("num-server-rounds=1", "local-epochs=1", "num-clients=2", "processes=1", "stages=train")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an app's folder, the working directory; what is imported from it is forgotten."""
    write_new(tmp_path / "my-study")
    monkeypatch.chdir(tmp_path / "my-study")
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path / "my-study"
    for name in set(sys.modules) - before:
        if name.startswith("my_study"):
            del sys.modules[name]


def bundle(folder: Path) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(folder))) as content:
        return [name for name in content.namelist() if name != ".info/CONTENT"]


def test_it_runs_as_it_is_written_with_settings_of_its_own(app: Path) -> None:
    arguments = ["simulate", "--engine", "local", "--config", "pyproject.toml", *TINY]
    assert cli.main([*arguments, "--output", "run", "damped.step=0.25"]) == 0
    keys = json.loads((app / "run" / "config.json").read_text("utf-8"))["configuration"]
    assert keys["strategy"] == "my_study.strategy:damped" and keys["damped.step"] == 0.25
    model = json.loads((app / "run" / "model" / "config.json").read_text("utf-8"))
    assert model["architecture"] == "my_study.model:small_net"
    from fedf2dg import load_model

    assert load_model(app / "run").classes == ("upright", "level", "slanted")
    resumed = ["simulate", "--engine", "local", "resume-from=run", "num-server-rounds=2"]
    assert cli.main([*resumed, "--output", "again"]) == 0
    again = json.loads((app / "again" / "config.json").read_text("utf-8"))["configuration"]
    assert again["damped.step"] == 0.25
    assert cli.main([*resumed, "--output", "other", "damped.step=1"]) == 2


def test_it_is_compared_as_its_page_says(app: Path) -> None:
    page = (app / "README.md").read_text("utf-8").splitlines()
    (line,) = [line for line in page if line.startswith("fedf2dg compare")]
    chosen = cli.parse(line.split()[1:])
    plan = read_plan(chosen.config, chosen.settings, RunConfiguration.parse)
    assert [method.name for method in plan.methods] == ["my_study.strategy:damped", "fedavg"]
    assert len(plan.cells) == 6
    for cell in plan.cells:
        # The setting that the strategy of one's own brings is none of the other method's.
        assert ("damped.step" in cell.configuration.flat()) == (cell.method.name != "fedavg")
        assert cell.configuration.model == "my_study.model:small_net"


def test_its_settings_are_checked_as_all_others_are(app: Path) -> None:
    values = read_toml(app / "pyproject.toml")
    parsed = RunConfiguration.parse({**values, "damped.step": "0.5"})  # as a command line has it
    assert RunConfiguration.parse(parsed.flat()) == parsed
    (info,) = [info for name, _, info in key_table(parsed.flat()) if name == "damped.step"]
    assert info.maximum == 1.0
    for wrong, said in {
        "damped.step": "damped.step = 2.0 must be at most 1",
        "damped.stepp": "Did you mean 'damped.step'?",
    }.items():
        with pytest.raises(ConfigurationError) as error:
            RunConfiguration.parse({**values, wrong: 2})
        assert said in str(error.value)


def test_a_section_that_has_the_name_of_ours_is_refused(app: Path) -> None:
    file = app / "my_study" / "strategy.py"
    file.write_text(file.read_text("utf-8").replace('name="damped"', 'name="moon"'), "utf-8")
    values = {"strategy": "my_study.strategy:damped"}
    with pytest.raises(ConfigurationError, match=r"DampedSettings.*now 'moon'"):
        RunConfiguration.parse(values)


def test_server_and_clients_compare_its_files(app: Path) -> None:
    values = read_toml(app / "pyproject.toml")
    before = code_fingerprint(values)
    assert before != code_fingerprint({})
    (app / "notes.py").write_text("# not a part of it\n")
    assert code_fingerprint(values) == before
    with (app / "my_study" / "model.py").open("a") as file:
        file.write("# another network\n")
    assert code_fingerprint(values) != before


def test_code_alone_travels(app: Path) -> None:
    """Of this app, and of the product itself: an allow-list, wherever runs leave their files."""
    for place in ("run", "my_study/run"):
        (app / place).mkdir()
        for name in ("config.json", "metrics.jsonl", "README.md", "notes.toml"):
            (app / place / name).write_text("{}")
    assert sorted(bundle(app)) == [
        *(f"my_study/{name}.py" for name in ("__init__", "client", "data", "model", "server")),
        "my_study/strategy.py",
        "pyproject.toml",
    ]
    ours = bundle(ROOT)
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {name.split("/")[0] for name in ours} <= {*rooms - {"benchmarks"}, "pyproject.toml"}
    assert all(name.endswith(".py") or name == "pyproject.toml" for name in ours)
    assert not any(name.startswith("tests") for name in ours)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-Study", "lower-case"),
        ("1st", "lower-case"),
        ("import", "lower-case"),
        ("my_study", "lower-case"),
        ("a" * 33, "lower-case"),
        ("there", "is there already"),
    ],
)
def test_a_name_that_can_be_no_app_s_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigurationError, match=said):
        write_new(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_its_bundle_runs_through_flower(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``flwr run`` has it: server and clients find its files in the bundle, nowhere else."""
    from fedf2dg.simulation.flower_engine import run_through_flower

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (app / "nowhere").mkdir()
    monkeypatch.chdir(app / "nowhere")
    keys = {"num-server-rounds": 1, "num-clients": 2, "stages": "train", "damped.step": 0.5}
    keys |= {"output-dir": str(app / "run")}
    run_through_flower(keys, 2, io.StringIO(), app / "flower.log", app=app)
    assert json.loads((app / "run" / "summary.json").read_text())["status"] == "completed"
