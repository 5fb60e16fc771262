"""A whole federation for real: TLS, keys, unlike sites, an intruder, and two power cuts."""

import json
import sys

import pytest

from benchmarks.loopback import wait_until
from fedf2dg.starters import write_example_sites

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds orphaned processes in /proc"),
]


def test_an_intruder_a_power_cut_at_a_site_and_one_at_the_server(deploy, tmp_path):
    write_example_sites(tmp_path / "sites")
    deployment = deploy(3)
    deployment.start_superlink()
    deployment.register(1, 2)
    # Colour images of four classes in folders; grey ones of four others in a parquet file.
    deployment.start_supernode(1, f"data-path='{tmp_path}/sites/site-2'")
    deployment.start_supernode(2, f"data-path='{tmp_path}/sites/site-3.parquet'")
    deployment.start_supernode(3, f"data-path='{tmp_path}/sites/site-1'")  # its key is unknown
    wait_until("two SuperNodes are let in", 90, lambda: deployment.online() == 2)
    output = tmp_path / "output"
    settings = {
        "dataset": "folder",
        "data-dir": str(tmp_path / "sites" / "server"),
        "output-dir": str(output),
        "num-clients": 2,
        "min-successful-clients": 1,
        "num-server-rounds": 2,
        "node-timeout": 90.0,
        "round-timeout": 30.0,
        "local-epochs": 1,
        "stages": "train,generate,distil",
        "generation.place": "client",
        "generation.images-per-client": 8,
        "generation.iterations": 5,
        "distillation.epochs": 1,
    }
    deployment.submit(**settings)

    def events(kind):
        path = output / "metrics.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    wait_until("the clients are known", 180, lambda: events("clients"))
    deployment.kill("node-2")
    # Its checkpoint names the clients: before it, a resumed run would need both again.
    wait_until(
        "a round without it", 180, lambda: list((output / "checkpoints").glob("0001-train-*"))
    )
    # The SuperLink and the ServerApp with it, in the middle of round 2 or at its end.
    deployment.kill("superlink")
    deployment.start_superlink()
    run_id = deployment.submit(
        **{**settings, "output-dir": "", "resume-from": str(output), "node-timeout": 10.0}
    )
    status, details = deployment.wait(run_id, 300, every=4)
    assert status == "finished:completed", details + deployment.log("superlink")[-3000:]

    intruder = deployment.processes["node-3"].poll()
    assert intruder not in (None, 0), "an unregistered key must be refused"
    clients = events("clients")[0]
    assert sorted(clients["num_examples"]) == [190, 364]
    assert clients["label_counts"] is None
    cut_off = clients["num_examples"].index(364)
    rounds = events("round")
    assert [event["round"] for event in rounds] == [1, 2]
    assert all(event["clients"] == [1 - cut_off] for event in rounds)
    assert [failure["client"] for failure in rounds[0]["failures"]] == [cut_off]
    (generated,) = events("generation")
    assert generated["images"] == 8
    summary = json.loads((output / "summary.json").read_text("utf-8"))
    assert summary["dropped"] == sum(len(event["failures"]) for event in rounds)
    assert summary["accuracy"]["distilled"] is not None
    assert summary["traffic"]["pseudo images"]["bytes_up"] > 0
    assert "label counts" not in summary["traffic"]
    assert (output / "report.html").stat().st_size > 10_000
    assert "Traceback" not in deployment.log("node-1")

    # A new run needs all its clients, and does not wait for them for ever.
    run_id = deployment.submit(
        **{**settings, "output-dir": str(tmp_path / "second"), "node-timeout": 3.0}
    )
    status, details = deployment.wait(run_id, 120)
    assert status == "finished:failed"
    assert "1 of 2 clients were connected after 3 s" in details
