"""The command: exit statuses, and one readable line instead of a traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.common.config import fuse_dicts, parse_config_args
from PIL import Image

from fedf2dg import cli
from fedf2dg.compare import read_plan
from foundation.data import DataSet
from foundation.settings.algorithms import MoonSettings
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app import preflight, run_directory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(capfd, tmp_path, monkeypatch):
    """Return a function that runs the command in this process: status, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            status = cli.main(list(arguments))
        except SystemExit as end:  # argparse's own errors
            status = end.code
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


def simulate(command, *arguments):
    return command("simulate", "--engine", "local", *arguments)


WRONG = {
    "key": (["learning-rates=1"], ["'learning-rates'", "'learning-rate'"]),
    "strategy": (["strategy=fedfoo"], ["'fedfoo'", "bulyan, centralized", "scaffold"]),
    "dataset": (["dataset=mnits"], ["'mnits'", "digits"]),
    "model": (["model=resnet9"], ["'resnet9'", "resnet8", "vgg11"]),
    "partition": (["partition=random"], ["'random'", "dirichlet", "classes, dirichlet"]),
    "post-training": (["post-training=magic"], ["'magic'", "fedf2dg", "none"]),
    "stage": (["stages=train,sleep"], ["'sleep'", "compete"]),
    "whole-number": (["num-server-rounds=ten"], ["num-server-rounds = 'ten'", "whole number"]),
    "number": (["learning-rate=fast"], ["learning-rate = 'fast'", "a number"]),
    "fraction-of-a-client": (["num-clients=2.5"], ["num-clients = '2.5'", "whole number"]),
    "range": (["fraction-train=1.5"], ["fraction-train = 1.5", "at most 1"]),
    "nan": (["learning-rate=nan"], ["learning-rate = nan", "finite"]),
    "form": (["strategy"], ["'strategy'", "KEY=VALUE"]),
    "clients-option": (["--clients", "0"], ["num-clients = 0", "at least 1"]),
    "twice": (["--clients", "3", "num-clients=4"], ["--clients 3 and num-clients=4 contradict"]),
    "toml": (["--config", "nowhere.toml"], ["nowhere.toml", "No such file"]),
    "no-resume": (["stages=distil"], ["stages = 'distil'", "resume-from"]),
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG.values(), ids=WRONG)
def test_bad_usage_is_one_line_and_status_2(command, tmp_path, arguments, expected):
    status, out, err = simulate(command, *arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
    for part in expected:
        assert part in err
    assert list(tmp_path.iterdir()) == [], "something was made before the check"


FAILING = {
    "too-many-clients": (["num-clients=2000"], ["2000", "1438"]),
    "too-many-for-the-minimum": (
        ["num-clients=144", "partition=iid"],
        ["144", "10", "at most 143", "lower min-partition-size"],
    ),
    "unlucky-draws": (
        ["num-clients=100", "dirichlet-alpha=0.01"],
        ["raise dirichlet-alpha", "lower min-partition-size"],
    ),
    "too-many-samples": (["train-samples=99999"], ["train-samples", "1438"]),
    "resume-nothing": (["resume-from=nothing"], ["nothing", "not the directory of a run"]),
}


@pytest.mark.parametrize(("arguments", "expected"), FAILING.values(), ids=FAILING)
def test_what_cannot_work_is_one_line_and_not_status_0(command, tmp_path, arguments, expected):
    status, out, err = simulate(command, *arguments)
    assert status in (1, 2)
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
    for part in expected:
        assert part in err.lower() or part in err
    assert list(tmp_path.iterdir()) == [], "something was made before the check"


@pytest.mark.parametrize("output", ["taken", "taken/below"])
def test_output_that_is_a_file(command, tmp_path, output):
    (tmp_path / "taken").write_text("mine")
    status, _, err = simulate(command, "--output", output)
    assert status == 2
    assert "taken" in err
    assert len(err.strip().splitlines()) == 1
    assert (tmp_path / "taken").read_text() == "mine"


def test_output_among_other_files(command, tmp_path):
    (tmp_path / "docs" / "images").mkdir(parents=True)
    status, _, err = simulate(command, "--output", "docs")
    assert status == 2
    assert "holds no run, but 'images'" in err
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["images"]
    # A log is not in the way, nor what a file system keeps for itself.
    (tmp_path / "new" / "lost+found").mkdir(parents=True)
    (tmp_path / "new" / "slurm-1.out").touch()
    status, _, err = simulate(command, "--output", "new", "strategy=fedfoo")
    assert "fedfoo" in err
    assert run_directory.locate(RunConfiguration(output_dir=str(tmp_path / "new")))


def test_output_that_cannot_be_made(command, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    DataSet("digits").load("train")  # the cache's folders are there already
    DataSet("digits").load("test")
    monkeypatch.setattr(Path, "mkdir", refuse)
    status, _, err = simulate(command, "--output", "new")
    assert status == 2
    assert err == f"error: output-dir = '{tmp_path}/new': Permission denied\n"


def resumable(tmp_path, finished, **settings):
    """Write what a killed run leaves of its settings."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    configuration = {**RunConfiguration().flat(), **settings, "a-key-of-old": 1}
    (folder / "config.json").write_text(json.dumps({"configuration": configuration}))
    if finished:
        (folder / "checkpoints" / "finished").touch()
    return f"resume-from={folder}"


@pytest.mark.parametrize("finished", [False, True])
def test_a_resumed_run_keeps_the_settings_that_are_not_named(tmp_path, capsys, finished):
    again = resumable(
        tmp_path,
        finished,
        **{"num-clients": 4, "distillation.epochs": 7, "seed": 3, "stages": "train,generate"},
        **{"output-dir": "elsewhere"},
    )
    configuration = cli.configured(cli.parse(["simulate", again, "seed=5"]))
    assert configuration.num_clients == 4
    assert configuration.distillation.epochs == 7
    assert configuration.seed == 5
    assert configuration.output_dir == ""
    assert (configuration.stages == "train,generate") == (not finished)
    said = capsys.readouterr().out
    assert said.startswith("as before: ")
    assert "num-clients=4" in said and "distillation.epochs=7" in said and "seed" not in said


def test_a_home_directory_and_a_lost_record_lose_no_settings(tmp_path, monkeypatch):
    resumable(tmp_path, False, **{"num-clients": 4})
    step = tmp_path / "run" / "checkpoints" / "0001-train-0001"
    step.mkdir()
    (tmp_path / "run" / "config.json").rename(step / "manifest.json")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.configured(cli.parse(["simulate", "resume-from=~/run"])).num_clients == 4


def test_a_resumed_run_without_a_record_is_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigurationError, match="holds no settings"):
        cli.configured(cli.parse(["simulate", f"resume-from={tmp_path}"]))


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    command = [sys.executable, "-m", "fedf2dg", "keys"]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_used_output_directory(command, tmp_path):
    (tmp_path / "used" / "checkpoints" / "0001-train-00").mkdir(parents=True)
    (tmp_path / "used" / "config.json").write_text("{}")
    status, _, err = simulate(command, "--output", "used")
    assert status == 2
    assert "already holds a run" in err
    assert "resume-from=" in err


def test_unknown_command_and_engine(command):
    assert command("dance")[0] == 2
    status, _, err = command("simulate", "--engine", "steam")
    assert status == 2
    assert "flower" in err
    assert "local" in err


def test_report_of_nothing(command):
    status, _, err = command("report", "nowhere")
    assert status != 0
    assert err.startswith("error: nowhere")
    assert len(err.strip().splitlines()) == 1


def test_help_lists_every_key_with_its_default(command):
    from foundation.settings.configuration import key_table

    status, out, _ = command("simulate", "--help")
    assert status == 0
    for name, default, info in key_table():
        assert f"\n  {name} = " in out
        assert info.meaning.split()[0] in out
        if isinstance(default, str) and default:
            assert f'{name} = "{default}"' in out


@pytest.mark.parametrize("columns", ["", "wide", "0", "80"])
def test_help_bears_any_width_of_the_terminal(command, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    status, out, _ = command("simulate", "--help")
    assert status == 0 and "num-server-rounds" in out


def test_bugs_keep_their_traceback(command, monkeypatch):
    """An error nobody foresaw must not be dressed up as the user's mistake."""
    from server_app import preflight

    def bug(values):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(preflight, "parse", bug)
    with pytest.raises(ZeroDivisionError):
        cli.main(["simulate", "--engine", "local"])


def test_interruption_has_its_status(command, monkeypatch):
    from server_app import preflight

    def interrupt(values):
        raise KeyboardInterrupt

    monkeypatch.setattr(preflight, "parse", interrupt)
    status, _, err = simulate(command)
    assert status == 130
    assert "interrupted" in err


TINY = [
    "strategy=fedavg",
    "num-clients=2",
    "train-samples=60",
    "dirichlet-alpha=1.0",
    "num-server-rounds=1",
    "local-epochs=1",
    "generation.images-per-client=4",
    "generation.iterations=2",
    "distillation.epochs=1",
]


@pytest.mark.usefixtures("drawn_reports")
def test_a_run_and_its_report_again(command, tmp_path):
    status, out, err = simulate(command, "--output", "run", *TINY)
    assert status == 0, err
    files = {path.name for path in (tmp_path / "run").iterdir()}
    expected = {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "pseudo_data"}
    assert expected | {"report.html"} <= files
    for word in ("federated", "distilled", "competed", "report: "):
        assert word in out
    before = (tmp_path / "run" / "summary.json").read_bytes()
    (tmp_path / "run" / "report.html").unlink()
    status, out, _ = command("report", "run")
    assert status == 0
    assert "report.html" in out
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    # What it found is replaced only if that is said; its settings need not be.
    status, _, err = simulate(command, "resume-from=run", "stages=distil")
    assert status == 2 and "replace the results of distil" in err
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    status, out, err = simulate(command, "resume-from=run", "stages=distil", "--output", "run")
    assert status == 0, err
    said = out.splitlines()[0]
    assert said.startswith("as before: ") and "strategy=fedavg num-clients=2" in said


def test_settings_files_and_arguments_in_their_order(command, tmp_path, monkeypatch):
    """Later files win over earlier ones, KEY=VALUE and options over files."""

    (tmp_path / "a.toml").write_text("seed = 1\nbatch-size = 8\nnum-clients = 4\n")
    (tmp_path / "b.toml").write_text("seed = 2\n[moon]\nmu = 3.0\n")
    seen = []
    from fedf2dg.simulation import local_run

    monkeypatch.setattr(local_run, "run_locally", seen.append)
    arguments = ["--config", "a.toml", "--config", "b.toml", "--clients", "5"]
    status, _, err = simulate(command, *arguments, "local-epochs=2", "data-dir=x")
    assert status == 0, err
    (configuration,) = seen
    assert configuration.seed == 2
    assert configuration.batch_size == 8
    assert configuration.section(MoonSettings).mu == 3.0
    assert configuration.local_epochs == 2
    assert configuration.num_clients == 5
    assert configuration.data_dir == str(tmp_path / "x")
    assert Path(configuration.output_dir).parent == tmp_path / "outputs"
    assert Path(configuration.output_dir).name.endswith("-scaffold-digits-s2")


def test_installed_command_in_a_process_of_its_own(tmp_path):
    """No traceback and no warnings of libraries around the one line, as a user sees it."""
    done = subprocess.run(
        [sys.executable, "-m", "fedf2dg", "simulate", "strategy=fedfoo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown strategy 'fedfoo'")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_terminated_ends_like_one_that_is_interrupted(tmp_path, sent):
    """What timeout, service managers and a closed terminal send must not leave processes behind."""
    if signal.getsignal(sent) is signal.SIG_IGN:
        pytest.skip("the tests run under nohup or the like, whose children ignore the signal too")
    command = [sys.executable, "-m", "fedf2dg", "simulate", "--engine", "local", "processes=2"]
    keys = ["num-clients=2", "train-samples=60", "local-epochs=1", "num-server-rounds=500"]
    with subprocess.Popen(
        [*command, "--output", str(tmp_path / "run"), "dirichlet-alpha=1.0", *keys],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "round 1:" in line:
                break
        run.send_signal(sent)
        assert "interrupted" in run.stdout.read()  # to its end: every process has closed it
    assert run.returncode == 130


@pytest.mark.parametrize("arguments", [["keys"], ["simulate", "--help"]])
def test_a_stream_that_cannot_show_every_letter_ends_no_command(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "fedf2dg", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"dirichlet-alpha" in done.stdout


def test_a_preset_and_pairs_are_joined_in_a_file_that_flwr_run_reads(tmp_path, capsys):
    pairs = ["class-names=ants,bees", "image-shape=3x128x128", "local-epochs=5", "output-dir=out"]
    file = tmp_path / "photographs.toml"
    given = ["simulate", "--config", "photographs", *pairs]
    assert cli.main([*given, "--write-config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    values = parse_config_args([str(file)])
    expected = cli.configured(cli.parse(given))
    assert preflight.parse({**RunConfiguration().flat(), **values}) == expected
    assert values["local-epochs"] == 5  # given, though it is the default
    assert "dirichlet-alpha" in values and "distillation.temperature" not in values
    assert fuse_dicts(RunConfiguration().flat(), values)["initial-weights"] == "imagenet"
    assert cli.main([*given, "--write-config", str(tmp_path / "photographs")]) == 2
    assert "NAME.toml" in capsys.readouterr().err


@pytest.mark.parametrize("sites", [2, 4])
def test_the_folders_tell_how_many_sites_there_are_whatever_a_preset_says(tmp_path, sites):
    data, file = tmp_path / "data", tmp_path / "sites.toml"
    for site in range(sites):
        for name in ("ants", "bees"):
            place = data / f"site-{site}" / name
            place.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(place / "0.png")
    pairs = [f"data-dir={data}", "partition=folders"]

    def clients(*arguments):
        return cli.configured(cli.parse(["simulate", "--config", *arguments])).num_clients

    assert clients("photographs", *pairs) == sites
    plan = read_plan([cli.settings_file("photographs")], pairs, preflight.parse)
    assert plan.cells[0].configuration.num_clients == sites
    given = ["simulate", "--config", "photographs", *pairs, "--write-config", str(file)]
    assert cli.main(given) == 0 and clients(str(file)) == sites
    # What is said of these folders counts, and is held against them later.
    assert clients("photographs", *pairs, "num-clients=3") == 3
    assert clients("photographs", *pairs, "--clients", "3") == 3
    file.write_text('partition = "folders"\nnum-clients = 3\ndataset = "folder"\n')
    assert clients(str(file), *pairs) == 3
