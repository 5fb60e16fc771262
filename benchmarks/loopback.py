"""A real deployment on the loopback interface: a SuperLink with TLS, SuperNodes with keys.

For the tests and the benchmarks of deployment. Everything lies in one folder, has its own ports and
Flower home, and ends with :meth:`Deployment.close`.
"""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.memory import proportional_size
from fedf2dg.deployment.certificates import write_certificates

BIN = Path(sys.executable).parent
APP = Path(__file__).resolve().parents[1]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# What the server needs and a client must not: its processes are started without them.
SERVER_ONLY = ("sklearn", "matplotlib", "datasets", "pandas", "ray", "torchvision")

# Runs at the start of every process of a SuperNode. Parts only the server needs cannot be imported.
# Before a SuperExec asks for the next message it locks one of a few files, until the client process
# it starts for the message has ended. Not later: a client process that does not tell Flower within
# 30 s of the message's arrival that it is alive is given up, and fifty that start at once on two
# cores do not.
_SITE_CUSTOMIZE = """
import fcntl, os, subprocess, sys, time
from importlib.machinery import PathFinder
from itertools import cycle

find_spec = PathFinder.find_spec
at_once = {at_once}

def find(name, path=None, target=None):
    return None if name.partition(".")[0] in {server_only!r} else find_spec(name, path, target)

PathFinder.find_spec = staticmethod(find)

def take_a_slot():
    for slot in cycle(range(at_once)):
        handle = os.open(os.path.join(os.path.dirname(__file__), f"slot-{{slot}}"), os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError:
            os.close(handle)
            time.sleep(0.1)

if at_once and any(part.endswith("flower-superexec") for part in sys.orig_argv):
    from flwr.supercore.runtime import RuntimeHttpClient

    acquire_task = RuntimeHttpClient.AcquireTask
    slots = []

    def acquire(self, request):
        slots.append(take_a_slot())
        task = acquire_task(self, request)
        if not task.token:
            os.close(slots.pop())
        return task

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.wait()
            os.close(slots.pop())

    RuntimeHttpClient.AcquireTask = acquire
    subprocess.Popen = Popen
"""


def wait_until(what: str, seconds: float, condition: Callable[[], Any], every: float = 0.25) -> Any:
    """Return the condition's first true value; fail when the time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise TimeoutError(f"not within {seconds:g} s: {what}")


class Deployment:
    """One SuperLink, its SuperNodes and its user, all in one folder that ends with the test.

    Parameters
    ----------
    directory : Path
        Where everything lies.
    nodes : int
        SuperNodes that may be started.
    at_once : int (default: 0)
        Client processes that may run at once, over all SuperNodes; 0 for any number. Real sites
        have a machine each; here all share the memory of one.
    """

    def __init__(self, directory: Path, nodes: int, at_once: int = 0) -> None:
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.keys = directory / "keys"
        write_certificates(self.keys, [], nodes)
        sockets = [socket.socket() for _ in range(nodes + 2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        self.port, *self.node_ports = (one.getsockname()[1] for one in sockets)
        for one in sockets:
            one.close()
        (directory / "flwr").mkdir()
        (directory / "flwr" / "config.toml").write_text(
            '[superlink]\ndefault = "edge"\n\n[superlink.edge]\n'
            f'address = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{self.keys / "ca.crt"}"\n'
        )
        blocker = directory / "client-only"
        blocker.mkdir()
        (blocker / "sitecustomize.py").write_text(
            _SITE_CUSTOMIZE.format(at_once=at_once, server_only=SERVER_ONLY)
        )
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "PYTEST"))},
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(directory / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.environment.pop("PYTHONPATH", None)
        self.client_environment = {**self.environment, "PYTHONPATH": str(blocker)}

    # --------------------------------------------------------------------------- processes

    def start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        folder = self.directory / "work" / name
        folder.mkdir(parents=True, exist_ok=True)
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                env=environment or self.environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_superlink(self) -> None:
        self.start(
            "superlink",
            "flower-superlink",
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--ssl-ca-certfile", str(self.keys / "ca.crt")),
            *("--ssl-certfile", str(self.keys / "server.pem")),
            *("--ssl-keyfile", str(self.keys / "server.key")),
            *("--database", str(self.directory / "state.db")),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
        )
        wait_until("the SuperLink answers", 60, self.healthy)

    def healthy(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.keys / "ca.crt"))
        try:
            url = f"https://127.0.0.1:{self.port}/health"
            with urllib.request.urlopen(url, timeout=2, context=context) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def start_supernode(self, number: int, node_config: str, key: Path | None = None) -> None:
        self.start(
            f"node-{number}",
            "flower-supernode",
            *("--superlink", f"127.0.0.1:{self.port}"),
            *("--root-certificates", str(self.keys / "ca.crt")),
            *("--auth-supernode-private-key", str(key or self.keys / f"node-{number}")),
            *("--port", str(self.node_ports[number - 1])),
            *("--node-config", node_config),
            environment=self.client_environment,
        )

    def kill(self, name: str) -> None:
        """End a process and its children at once, as a power cut does."""
        for process in self.members(name):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.processes[name].wait(10)

    def members(self, name: str) -> list[int]:
        """Return a process and its children; Flower starts some in sessions of their own."""
        folder = self.directory / "work" / name
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cwd").readlink() == folder:
                    found.append(int(process.name))
        return found

    def memory(self) -> dict[str, float]:
        """Return the memory of every process with its children, in GB.

        Pages that several processes share, such as PyTorch's code, count in parts (PSS).
        """
        result = dict.fromkeys(self.processes, 0.0)
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                name = (folder / "cwd").readlink()
                if name.parent == self.directory / "work":
                    result[name.name] += proportional_size(folder) / 1e9
        return result

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return COLOURS.sub("", path.read_text("utf-8", errors="replace")) if path.exists() else ""

    def close(self) -> None:
        for name in reversed(self.processes):
            self.kill(name)

    # -------------------------------------------------------------------------------- user

    def flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return COLOURS.sub("", done.stdout + done.stderr)

    def flwr_json(self, *arguments: str) -> dict[str, Any]:
        text = self.flwr(*arguments, "--format", "json")
        content: dict[str, Any] = json.loads(text[text.index("{") :])
        return content

    def register(self, *numbers: int) -> None:
        for number in numbers:
            reply = self.flwr(
                "supernode", "register", str(self.keys / f"node-{number}.pub"), "edge"
            )
            assert "success" in reply.lower() or "registered" in reply.lower(), reply

    def online(self) -> int:
        """Return how many SuperNodes the SuperLink has let in."""
        return self.log("superlink").count("[Fleet.ActivateNode] Activated")

    def submit(self, **keys: Any) -> str:
        """Submit the app and return the run's id."""
        settings = self.directory / "run.toml"
        settings.write_text(
            "".join(f'"{name}" = {json.dumps(value)}\n' for name, value in keys.items())
        )
        answer = self.flwr_json("run", str(APP), "edge", "--run-config", str(settings))
        assert answer.get("success"), answer
        return str(answer["run-id"])

    def status(self, run_id: str) -> tuple[str, str]:
        run = self.flwr_json("ls", "edge", "--run-id", run_id)["runs"][0]
        return run["status"], str(run.get("status-details"))

    def wait(self, run_id: str, seconds: float, every: float = 2.0) -> tuple[str, str]:
        """Return how the run ended; asking costs 2 s of a core each time."""

        def ended() -> tuple[str, str] | None:
            with suppress(subprocess.TimeoutExpired):
                status = self.status(run_id)
                if status[0].startswith("finished"):
                    return status
            return None

        result: tuple[str, str] = wait_until("the run ends", seconds, ended, every)
        return result
