"""A run that is killed at any moment goes on to bitwise the same result."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import foundation.models.evaluation
from fedf2dg.simulation.local_grid import LocalGrid
from foundation import ProgressLog
from foundation.events.log import MetricsFile
from foundation.messages.participants import MissingClients
from foundation.models import client_store
from foundation.settings.configuration import ConfigurationError
from server_app import run_directory
from server_app.checkpoints import CheckpointError
from server_app.clients import Clients
from server_app.run import Run
from tests import sampling

from .conftest import TINY

ROOT = Path(__file__).resolve().parents[2]


class Killed(BaseException):
    """Like a signal: no handler of the app's own catches it."""


class Reaper:
    """Kills a run once at every file it writes, renames or deletes, and inside every computation.

    Without ``--all`` it kills at one in ten of these moments, and at the first of every
    essential kind.

    A killed write leaves half of the file, a killed deletion half of the folder. Every moment is
    known by what is done and to which file, so that the resumed run gets past it.

    Parameters
    ----------
    directory : Path
        The run's directory; what happens elsewhere is left alone.
    monkeypatch : pytest.MonkeyPatch
        Takes all of it back.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.killed: list[str] = []
        self._seen: set[str] = set()

        def save(tensors, path, *given):
            saved(tensors, path, *given)
            if self.takes("write", path):
                os.truncate(path, path.stat().st_size // 2)
                raise Killed(path)

        def write_by(name):
            written = getattr(Path, name)

            def write(path, content, *given):
                if self.takes("write", path):
                    written(path, content[: len(content) // 2], *given)
                    raise Killed(path)
                return written(path, content, *given)

            return write

        def append(metrics, event, **values):
            lines = metrics.path.read_bytes().count(b"\n")
            if self.takes("write", metrics.path, f"line {lines} ({event})"):
                with metrics.path.open("ab") as file:
                    file.write(b'{"event":"rou')
                raise Killed(event)
            return appended(metrics, event, **values)

        def delete(folder, ignore_errors=False):
            if ignore_errors:
                return  # a handler clears up, and a process that is killed runs no handler
            if self.takes("delete", folder):
                for first in sorted(folder.iterdir())[:1]:
                    os.unlink(first)
                raise Killed(folder)
            removed(folder)

        def before(name):
            done = getattr(Path, name)

            def change(path, *given, **named):
                if path.exists() and self.takes(name, path):
                    raise Killed(path)
                return done(path, *given, **named)

            return change

        def inside(what, work):
            def interrupted(*given, **named):
                result = work(*given, **named)
                if self.takes("inside", directory, f"{what} behind {self.newest()}"):
                    raise Killed(what)
                return result

            return interrupted

        saved = client_store.save_file
        appended, removed = MetricsFile.append, shutil.rmtree
        monkeypatch.setattr(client_store, "save_file", save)
        for name in ("write_text", "write_bytes"):
            monkeypatch.setattr(Path, name, write_by(name))
        monkeypatch.setattr(MetricsFile, "append", append)
        monkeypatch.setattr(shutil, "rmtree", delete)
        for name in ("rename", "replace", "unlink", "touch"):
            monkeypatch.setattr(Path, name, before(name))
        # The first client of a round has answered, the first iterations or epochs are done.
        for owner, name in (
            (LocalGrid, "_reply"),
            (ProgressLog, "__call__"),
            (foundation.models.evaluation.Evaluator, "__call__"),
        ):
            monkeypatch.setattr(owner, name, inside(owner.__name__, getattr(owner, name)))

    def newest(self) -> str:
        folder = self.directory / "checkpoints"
        found = sorted(path.name for path in folder.glob("0*")) if folder.is_dir() else []
        return found[-1] if found else "nothing"

    def takes(self, what: str, path: Path, detail: str = "") -> bool:
        """Tell whether this moment is new; then it is the one to die at."""
        path = Path(path)
        done = (self.directory / "summary.json").exists()  # what is written behind it is a report
        if done or not path.is_relative_to(self.directory):
            return False
        moment = f"{what} {path.relative_to(self.directory)} {detail}".strip()
        if moment in self._seen:
            return False
        self._seen.add(moment)
        first = any(
            kind in moment and not any(kind in killed for killed in self.killed)
            for kind in ESSENTIAL
        )
        if not first and not sampling.chosen(moment, one_in=10):
            return False
        self.killed.append(moment)
        return True


#: Moments that must be among those at which the run was killed, and how often at least.
ESSENTIAL = {
    "write checkpoints/local_models/": 4,  # a local model is half written
    "replace checkpoints/local_models/": 4,  # it is written, and not yet in its place
    "unlink checkpoints/local_models/": 1,  # those of the round before are half gone
    "global.safetensors": 7,  # a checkpoint is half written
    "kept.safetensors": 2,  # beside a result that waits for its judgement
    "manifest.json": 7,
    "-judged": 2,
    "replace checkpoints/.0": 7,  # it is written, and not yet in its place
    "delete checkpoints/.0": 2,  # the one before it is half gone
    "write pseudo_data/": 2,
    "write metrics.jsonl": 10,
    "(distillation)": 2,  # between epochs
    "inside . LocalGrid": 3,  # some clients have answered
    "inside . ProgressLog": 2,  # while inverting
    "inside . Evaluator": 5,
    "write .summary.json": 1,
}


@pytest.mark.parametrize("strategy", ["scaffold", "moon"])
def test_killed_at_every_change_of_a_file_it_ends_like_an_uninterrupted_run(
    tiny_run, tmp_path, strategy
):
    keys = {
        "strategy": strategy,
        "num_clients": 2,
        "train_samples": 40,
        "num_server_rounds": 2,
        "generation__batches": 2,
        "validation_share": 0.3,
    }
    whole = tiny_run("whole", **keys)
    resume = {}
    with pytest.MonkeyPatch.context() as patch:
        reaper = Reaper(tmp_path / "parted", patch)
        while True:
            try:
                parted = tiny_run("parted", **keys, **resume)
                break
            except Killed:
                assert not (tmp_path / "parted" / "summary.json").exists()
                resume = {"resume_from": str(tmp_path / "parted")}
    assert len(reaper.killed) == len(set(reaper.killed)) > sampling.share(100, 15)
    for moment, least in ESSENTIAL.items():
        found = sum(moment in killed for killed in reaper.killed)
        assert found >= sampling.share(least, 1), moment
    assert parted.steps() == whole.steps()
    for name, value in whole.model().items():
        assert torch.equal(parted.model()[name], value), name
    assert parted.events() == whole.events()
    assert parted.summary() == whole.summary()
    assert parted.pseudo_data() == whole.pseudo_data()
    assert parted.files() == whole.files()


def test_a_process_killed_at_random_moments_goes_on_to_the_same_result(result_in, tmp_path):
    """SIGKILL of the real command, which leaves what the operating system leaves."""
    settings = [f"{name}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "fedf2dg", "simulate", "--engine", "local", *settings]

    def start(name, *more):
        output = (tmp_path / f"{name}.log").open("ab")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [*command, *more], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )

    def lines():
        path = tmp_path / "parted" / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    whole = start("whole", "--output", str(tmp_path / "whole"))
    moments = []
    draw = random.Random(time.time() if sampling.everything else 0)
    process = start("parted", "--output", str(tmp_path / "parted"))
    for _ in range(sampling.share(3, 1)):
        at, later = lines() + draw.randint(1, 4), draw.uniform(0, 0.2)
        deadline = time.monotonic() + 120
        while process.poll() is None and lines() < at and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(later)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            moments.append((at, later))
        process.wait()
        process = start("parted", f"resume-from={tmp_path / 'parted'}")
    for name, running in (("parted", process), ("whole", whole)):
        status = running.wait(timeout=120)
        assert status == 0, (tmp_path / f"{name}.log").read_text()[-3000:]
    assert moments
    parted, whole = result_in("parted"), result_in("whole")
    assert parted.events() == whole.events(), moments
    assert parted.summary() == whole.summary(), moments
    assert parted.pseudo_data() == whole.pseudo_data(), moments
    for name, value in whole.model().items():
        assert torch.equal(parted.model()[name], value), (name, moments)


def test_a_copy_that_was_killed_is_made_again(tiny_run, tmp_path):
    """resume-from another directory copies its checkpoints first."""
    keys = {"strategy": "scaffold", "num_server_rounds": 1}
    tiny_run("first", **keys, stages="train")
    whole = tiny_run("whole", **keys)
    resume = {**keys, "resume_from": str(tmp_path / "first")}
    with pytest.MonkeyPatch.context() as patch:
        link, made = os.link, []

        def dying(source, target):
            link(source, target)
            made.append(target)
            if len(made) == 4:
                raise Killed(target)

        patch.setattr(os, "link", dying)
        with pytest.raises(Killed):
            tiny_run("second", **resume)
    second = tiny_run("second", **resume)
    assert second.events() == whole.events()


def test_total_time_counts_what_was_done_before_the_kill(tiny_run, tmp_path, monkeypatch):
    commit, died = Run.commit, set()

    def dying(run, step):
        commit(run, step)
        if step not in died:
            died.add(step)
            raise Killed(step)

    monkeypatch.setattr(Run, "commit", dying)
    resume = {}
    while True:
        try:
            run = tiny_run("run", strategy="fedavg", **resume)
            break
        except Killed:
            resume = {"resume_from": str(tmp_path / "run")}
    seconds = json.loads((run.directory / "summary.json").read_text())["seconds"]
    stages = ("federated", "generation", "distillation", "competition")
    assert seconds["total"] >= sum(seconds[stage] for stage in stages)


def test_resuming_a_finished_run_changes_nothing(tiny_run, tmp_path):
    first = tiny_run("run", strategy="scaffold", stages="train")
    model, events, summary = first.model(), first.events(), first.summary()
    again = tiny_run("run", strategy="scaffold", stages="train", resume_from=str(tmp_path / "run"))
    assert all(torch.equal(again.model()[name], value) for name, value in model.items())
    assert (again.events(), again.summary()) == (events, summary)


def test_more_rounds_can_be_added_to_a_trained_run(tiny_run, tmp_path):
    """num-server-rounds binds the post-training stages only."""
    whole = tiny_run("whole", strategy="scaffold", stages="train", num_server_rounds=4)
    tiny_run("run", strategy="scaffold", stages="train", num_server_rounds=2)
    longer = tiny_run(
        "run",
        strategy="scaffold",
        stages="train",
        num_server_rounds=4,
        resume_from=str(tmp_path / "run"),
    )
    assert all(torch.equal(longer.model()[n], value) for n, value in whole.model().items())
    assert longer.events("round") == whole.events("round")


def test_resumed_into_another_directory_leaves_the_first_as_it_was(tiny_run, tmp_path):
    first = tiny_run("first", strategy="scaffold", stages="train", num_server_rounds=2)
    files = {
        path: path.read_bytes() for path in sorted(first.directory.rglob("*")) if path.is_file()
    }
    whole = tiny_run("whole", strategy="scaffold", num_server_rounds=2)
    second = tiny_run(
        "second", strategy="scaffold", num_server_rounds=2, resume_from=str(tmp_path / "first")
    )
    assert {p: p.read_bytes() for p in sorted(first.directory.rglob("*")) if p.is_file()} == files
    assert all(torch.equal(second.model()[n], value) for n, value in whole.model().items())
    assert second.events() == whole.events()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"strategy": "fedavg"}, "strategy = 'fedavg' here, 'scaffold' there"),
        ({"model": "cnn"}, "model = 'cnn' here, "),
        ({"seed": 3}, "seed = 3 here, 0 there"),
        ({"learning_rate": 0.1}, "learning-rate = 0.1 here, 0.05 there"),
        ({"num_clients": 2}, "num-clients = 2 here, 3 there"),
        ({"dirichlet_alpha": 0.5}, "dirichlet-alpha = 0.5 here, 1.0 there"),
    ],
)
def test_other_settings_are_refused_by_name_before_any_work(tiny_run, tmp_path, change, named):
    tiny_run("run", strategy="scaffold", stages="train", num_server_rounds=1)
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(CheckpointError) as error:
        tiny_run(
            "run",
            **{"strategy": "scaffold", "num_server_rounds": 1, **change},
            resume_from=str(tmp_path / "run"),
        )
    assert named in str(error.value)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before


def test_settings_of_later_stages_may_still_change(tiny_run, tmp_path):
    tiny_run("run", strategy="fedavg", stages="train", num_server_rounds=1, post_training="none")
    run = tiny_run(
        "run",
        strategy="fedavg",
        num_server_rounds=1,
        generation__iterations=2,
        distillation__weight=0.5,
        resume_from=str(tmp_path / "run"),
    )
    assert run.events("generation")[0]["iterations"] == 2


def test_a_run_that_failed_can_be_resumed(tiny_run, tmp_path, monkeypatch):
    """Clients that fail below min-successful-clients stop the run; what was done stays usable."""
    from fedf2dg.simulation.local_grid import LocalGrid
    from strategies import TooFewReplies

    whole = tiny_run("whole", strategy="scaffold", stages="train")
    reply = LocalGrid._reply
    trained = []

    def failing(grid, message):
        if message.metadata.message_type == "train":
            trained.append(1)
            if len(trained) > 4:  # in the second round
                from flwr.app import Error, Message

                return Message(Error(2, "RuntimeError: disk on fire"), reply_to=message)
        return reply(grid, message)

    monkeypatch.setattr(LocalGrid, "_reply", failing)
    with pytest.raises(TooFewReplies, match=r"round 2: 1 of 3.*disk on fire"):
        tiny_run("run", strategy="scaffold", stages="train")
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.setattr(LocalGrid, "_reply", reply)
    run = tiny_run("run", strategy="scaffold", stages="train", resume_from=str(tmp_path / "run"))
    assert all(torch.equal(run.model()[n], value) for n, value in whole.model().items())
    assert run.events() == whole.events()


def test_a_run_without_settings_is_not_taken_for_one_with_the_defaults(tmp_path):
    """Killed before its settings were written, it leaves folders and nothing else."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="stopped before it had begun"):
        run_directory.settings_to_resume(tmp_path / "run")


def test_settings_are_written_before_the_clients_are_met(tiny_run, result_in, monkeypatch):
    def nobody(clients, state):
        raise MissingClients("nobody is there")

    monkeypatch.setattr(Clients, "meet", nobody)
    with pytest.raises(MissingClients):
        tiny_run("run", strategy="fedavg", seed=7)
    known = run_directory.settings_to_resume(result_in("run").directory)
    assert (known["seed"], known["strategy"], known["num-clients"]) == (7, "fedavg", 3)
