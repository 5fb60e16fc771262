"""What a real deployment on this machine costs, and what becomes of it when parts fail.

    python -m benchmarks.deployment load --nodes 10
    python -m benchmarks.deployment superlink-restart
    python -m benchmarks.deployment node-killed
    python -m benchmarks.deployment node-restart
    python -m benchmarks.deployment network-cut
    python -m benchmarks.deployment slow-client
    python -m benchmarks.deployment missing-node

SuperLink and SuperNodes are real processes with TLS and keys on the loopback interface; every site
has its own folder of the embedded digits. A cut of the network is played by stopping a SuperNode's
processes (SIGSTOP) and continuing them later: to the others that is the same. Memory is counted
with shared pages in parts (PSS). At most ``--at-once`` client processes run at a time.
"""

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loopback import Deployment, wait_until
from fedf2dg.starters import write_folders
from foundation.data import DataSet

START = time.monotonic()


def say(*what: object) -> None:
    print(f"{time.monotonic() - START:7.1f} s", *what, flush=True)


def write_sites(directory: Path, nodes: int) -> None:
    write_folders(directory / "server" / "test", DataSet("digits").load("test"), "L")
    train = DataSet("digits").load("train")
    order = np.random.default_rng(0).permutation(len(train))
    for number, rows in enumerate(np.array_split(order, nodes), start=1):
        write_folders(directory / f"site-{number}", train.subset(rows), "L")


class Scenario:
    """A federation that is up, and a run of it."""

    def __init__(self, directory: Path, nodes: int, at_once: int) -> None:
        self.nodes = nodes
        self.output = directory / "output"
        self.sites = directory / "sites"
        write_sites(self.sites, nodes)
        self.federation = Deployment(directory, nodes, at_once)

    def start(self) -> None:
        nodes = self.nodes
        self.federation.start_superlink()
        self.federation.register(*range(1, nodes + 1))
        say("SuperLink is up,", nodes, "keys are registered")
        for number in range(1, nodes + 1):
            self.start_node(number)
        wait_until("all nodes", 60 + 10 * nodes, lambda: self.federation.online() == nodes)
        say(nodes, "SuperNodes are connected")

    def start_node(self, number: int) -> None:
        self.federation.start_supernode(number, f"data-path='{self.sites}/site-{number}'")

    def submit(self, **keys: Any) -> str:
        settings = {
            "dataset": "folder",
            "data-dir": str(self.sites / "server"),
            "output-dir": str(self.output),
            "num-clients": self.nodes,
            "num-server-rounds": 3,
            "local-epochs": 1,
            "stages": "train",
            "node-timeout": 180.0,
            "round-timeout": 600.0,
            **keys,
        }
        run_id = self.federation.submit(**settings)
        say("submitted", run_id)
        return run_id

    def events(self, kind: str) -> list[dict[str, Any]]:
        path = self.output / "metrics.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def after_round(self, number: int) -> None:
        wait_until(f"round {number}", 900, lambda: len(self.events("round")) >= number)

    def finish(self, run_id: str, seconds: float = 900) -> str:
        status, details = self.federation.wait(run_id, seconds)
        say("the run ended:", status, details, f"(load average {os.getloadavg()[0]:.1f})")
        for event in self.events("round"):
            say(
                f"round {event['round']}: {event['seconds']:.0f} s, "
                f"{len(event['clients'])} clients, failures {event['failures']}"
            )
        return status

    def while_training(self, number: int) -> int:
        """Wait until a SuperNode's client process is in the middle of a message; return its id."""

        def client_process() -> int | None:
            for process in self.federation.members(f"node-{number}"):
                maps = Path(f"/proc/{process}/maps").read_text("utf-8")
                if "libtorch_cpu" in maps:
                    return process
            return None

        process: int = wait_until(f"SuperNode {number} trains", 120, client_process)
        return process

    def signal(self, name: str, which: signal.Signals) -> None:
        for process in self.federation.members(name):
            os.kill(process, which)


def load(scenario: Scenario) -> None:
    idle = scenario.federation.memory()
    run_id = scenario.submit(**{"num-server-rounds": 2, "label-counts": "uniform"})
    server, everything = 0.0, 0.0
    asked = time.monotonic()
    while True:
        began = time.monotonic()
        now = scenario.federation.memory()
        looking = time.monotonic() - began
        server = max(server, now["superlink"])
        everything = max(everything, sum(now.values()))
        if (scenario.output / "summary.json").exists():
            break
        if time.monotonic() > asked + 60:  # each look costs 2 s of a core
            if scenario.federation.status(run_id)[0].startswith("finished"):
                break
            asked = time.monotonic()
        time.sleep(max(1.0, 20 * looking))  # so that looking takes a twentieth of a core at most
    scenario.finish(run_id)
    nodes = [value for name, value in idle.items() if name.startswith("node-")]
    say(f"idle: SuperLink {idle['superlink']:.2f} GB, a SuperNode {np.mean(nodes):.2f} GB")
    say(f"SuperLink and ServerApp at their peak: {server:.2f} GB")
    say(f"all processes at their peak: {everything:.1f} GB")


def superlink_restart(scenario: Scenario) -> None:
    run_id = scenario.submit()
    scenario.after_round(1)
    say("SuperLink is killed")
    scenario.federation.kill("superlink")
    time.sleep(5)
    scenario.federation.start_superlink()
    say("SuperLink is up again, with its database")
    scenario.finish(run_id)
    again = scenario.submit(**{"resume-from": str(scenario.output)})
    scenario.finish(again)


def node_killed(scenario: Scenario) -> None:
    run_id = scenario.submit()
    scenario.after_round(1)
    scenario.while_training(1)
    scenario.federation.kill("node-1")
    say("SuperNode 1 is killed while it trains")
    scenario.finish(run_id)


def node_restart(scenario: Scenario) -> None:
    run_id = scenario.submit(**{"round-timeout": 180.0, "num-server-rounds": 5})
    scenario.after_round(1)
    scenario.while_training(1)
    scenario.federation.kill("node-1")
    say("SuperNode 1 is killed while it trains, and started again and again until it stays")
    # What a supervisor does: for a minute the SuperLink takes the old process for alive, and
    # refuses the new one (exit code 305).
    ended, starts = threading.Event(), [0]

    def supervise() -> None:
        while not ended.wait(5):
            if scenario.federation.processes["node-1"].poll() is not None:
                scenario.start_node(1)
                starts[0] += 1

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        scenario.finish(run_id)
    finally:
        ended.set()
        supervisor.join()
    say(starts[0], "starts")


def network_cut(scenario: Scenario) -> None:
    run_id = scenario.submit(**{"num-server-rounds": 4})
    scenario.after_round(1)
    say("SuperNode 1 is cut off")
    scenario.signal("node-1", signal.SIGSTOP)
    scenario.after_round(2)
    say("SuperNode 1 is back")
    scenario.signal("node-1", signal.SIGCONT)
    scenario.finish(run_id)


def slow_client(scenario: Scenario) -> None:
    """One client's training takes longer than round-timeout, and it answers too late."""
    run_id = scenario.submit(**{"round-timeout": 30.0, "num-server-rounds": 4})
    scenario.after_round(1)
    stopped = scenario.while_training(1)
    os.kill(stopped, signal.SIGSTOP)
    say("the training process of SuperNode 1 is stopped")
    scenario.after_round(2)
    os.kill(stopped, signal.SIGCONT)
    say("it goes on")
    scenario.finish(run_id)


def missing_node(scenario: Scenario) -> None:
    scenario.federation.kill(f"node-{scenario.nodes}")
    run_id = scenario.submit(**{"num-clients": scenario.nodes + 1, "node-timeout": 20.0})
    scenario.finish(run_id)


SCENARIOS: dict[str, Callable[[Scenario], None]] = {
    "load": load,
    "superlink-restart": superlink_restart,
    "node-killed": node_killed,
    "node-restart": node_restart,
    "network-cut": network_cut,
    "slow-client": slow_client,
    "missing-node": missing_node,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=8, help="client processes at once")
    chosen = parser.parse_args()
    say(f"load average before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="fedf2dg-deployment-") as folder:
        scenario = Scenario(Path(folder), chosen.nodes, chosen.at_once)
        try:
            scenario.start()
            SCENARIOS[chosen.scenario](scenario)
        finally:
            scenario.federation.close()


if __name__ == "__main__":
    main()
