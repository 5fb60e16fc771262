"""A killed process of a simulation: Flower hands it out for ever, so the run stops and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from flwr.app import Error, Message

from strategies import TooFewReplies

ROOT = Path(__file__).resolve().parents[2]


def test_the_round_is_kept_and_the_next_one_does_not_start(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="fedavg", min_successful_clients=1)

    def die(client, reply):
        if client != 2:
            return reply
        text = "ActorDiedError: …\nThe actor is dead because its worker process has died."
        error = Message(Error(0, text), reply_to=reply)
        error.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id
        return error

    run.round()
    run.grid.touch = die
    before = run.state
    run.round()
    assert run.strategy.outcome.clients == (0, 1, 3)
    assert run.state is not before
    with pytest.raises(TooFewReplies, match=r"process of a simulated client died.*resume-from"):
        run.round()


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's workers in /proc")
def test_a_real_worker_of_ray_is_killed(tmp_path):
    """As the kernel does when memory runs out."""
    mark = f"DEAD_PROCESS_TEST={tmp_path}"
    output = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "fedf2dg",
        "simulate",
        "--clients",
        "3",
        "--output",
        str(output),
    ]
    command += ["train-samples=90", "dirichlet-alpha=1.0", "num-server-rounds=500"]
    command += ["local-epochs=1", "stages=train", "min-successful-clients=1"]
    name, value = mark.split("=")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), name: value}
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 300
            while not (output / "checkpoints" / "0001-train-0001").exists():
                assert run.poll() is None, said(tmp_path)
                assert time.monotonic() < deadline, said(tmp_path)
                time.sleep(0.1)
            workers = actors(mark)
            assert workers
            os.kill(workers[0], signal.SIGKILL)
            assert run.wait(120) != 0
        finally:
            run.send_signal(signal.SIGINT)  # stops its SuperLink and Ray, too
            run.wait(60)
    assert "the process of a simulated client died" in said(tmp_path)
    assert not (output / "summary.json").exists()
    assert len(list((output / "checkpoints").glob("0*-train-*"))) == 1


def said(folder):
    return (folder / "log").read_text("utf-8", errors="replace")[-3000:]


def actors(mark):
    """Return Ray's workers whose environment holds a mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_actor = (process / "cmdline").read_bytes().startswith(b"ray::ClientAppActor")
            if is_actor and mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found
