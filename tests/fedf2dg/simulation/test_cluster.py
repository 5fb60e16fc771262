"""A simulation on a Ray cluster that runs already: two nodes of this machine."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedf2dg.simulation.flower_engine import FlowerRunError, _require_cluster

ROOT = Path(__file__).resolve().parents[3]
OBJECT_STORE = 80_000_000


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A head that computes nothing, and a node with one processor, with files of their own.

    Ray notes the latest cluster in its folder, and whoever starts Ray there would join it. The
    folder's name is short because names of sockets must be.
    """
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
            yield nodes.address
        finally:
            nodes.shutdown()


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.skipif(sys.platform != "linux", reason="Ray's clusters of one machine need Linux")
def test_clients_train_on_another_node_of_a_cluster(cluster: str, tmp_path: Path) -> None:
    keys = ["strategy=fedavg", "num-clients=4", "partition=iid", "train-samples=90"]
    keys += ["local-epochs=1", "num-server-rounds=2", "stages=train", "post-training=none"]
    command = [sys.executable, "-m", "fedf2dg", "simulate", "--engine", "flower", *keys]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "run")],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": cluster},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))["rounds"] == 2


def test_an_address_where_no_cluster_answers_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(FlowerRunError, match=f"RAY_ADDRESS = '{address}': no Ray cluster"):
            _require_cluster(address)
    for elsewhere in ("", "auto", "local", "ray://10.0.0.1:10001"):
        _require_cluster(elsewhere)
