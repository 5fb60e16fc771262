"""A killed process of a simulation: Flower hands it out for ever, so the run stops and says so."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from flwr.app import Error, Message

from client_app.app import app as client_app
from fedf2dg.simulation.flower_engine import dead_actor
from fedf2dg.simulation.local_grid import LocalGrid
from foundation.messages.gather import short_reason
from server_app import preflight
from server_app.run import run
from strategies import TooFewReplies

ROOT = Path(__file__).resolve().parents[3]


def test_the_round_is_kept_and_the_next_one_does_not_start(tmp_path):
    keys = {"num-clients": 4, "train-samples": 90, "dirichlet-alpha": 1.0, "local-epochs": 1}
    configuration = preflight.parse(
        {**keys, "output-dir": str(tmp_path / "run"), "min-successful-clients": 1}
    )
    grid = LocalGrid(client_app, 4, configuration.flat())
    pull = grid.pull_messages

    def die(identities):
        replies = pull(identities)
        return [
            died(reply)
            if reply.metadata.src_node_id == 102 and reply.metadata.message_type == "train"
            else reply
            for reply in replies
        ]

    def died(reply):
        text = "ActorDiedError: …\nThe actor is dead because its worker process has died."
        error = Message(Error(0, text), reply_to=reply)
        error.metadata.__dict__.update(reply.metadata.__dict__)
        return error

    grid.pull_messages = die
    with pytest.raises(TooFewReplies, match=r"process of a simulated client died.*resume-from"):
        run(grid, configuration, must_stop=dead_actor)
    assert (tmp_path / "run" / "checkpoints" / "0001-train-0001").is_dir()
    assert not (tmp_path / "run" / "checkpoints" / "0002-train-0002").exists()


# As Ray 2.55 says it, when the second of two nodes was killed.
LOST_NODE = """The actor died unexpectedly before finishing this task.
\tclass_name: ClientAppActor
\tactor_id: bf1b660be227bad0e8785bcc01000000
\tpid: 27517
\tnamespace: 577769c6-7166-4434-93af-88e0b32874c4
\tip: 192.0.2.2
The actor died because its node has died. Node Id: 62f96b972831649d1e178eb11aa3c5a0ea65dc83038e3
\tthe actor's node was terminated unexpectedly: health check failed
"""


def test_a_node_of_a_cluster_that_died_is_named_with_the_way_on():
    said = dead_actor(short_reason(LOST_NODE))
    assert said is not None
    assert said.startswith("the Ray node 192.0.2.2 (id 62f96b972831) died")
    assert "resume-from" in said and "memory" not in said


def test_whatever_else_a_client_says_does_not_stop_a_run():
    assert dead_actor("RuntimeError: no memory") is None


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
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 300
            while not (output / "checkpoints" / "0001-train-0001").exists():
                assert process.poll() is None, said(tmp_path)
                assert time.monotonic() < deadline, said(tmp_path)
                time.sleep(0.1)
            workers = actors(mark)
            assert workers
            os.kill(workers[0], signal.SIGKILL)
            assert process.wait(120) != 0
        finally:
            process.send_signal(signal.SIGINT)  # stops its SuperLink and Ray, too
            process.wait(60)
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
