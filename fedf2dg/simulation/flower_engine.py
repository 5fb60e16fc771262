"""A whole run through ``flwr run``: Flower's SuperLink and Ray, with a true exit status.

Every run gets a SuperLink of its own, in a folder of its own, that ends with it. A shared one would
import the app's packages from whatever folder it was first started in, would install the app's
dependencies a second time, and would keep other runs' state.
"""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from fedf2dg.console import Printer, warnings_given
from foundation import ExpectedError
from foundation.members import FOLDER_VARIABLE, own_folder
from foundation.processes import CLIENTS_PER_GPU, cores
from foundation.settings.configuration import as_toml

from .guard import end_groups, groups_of

RunConfig = Mapping[str, str | int | float | bool]

_GUARD = Path(__file__).with_name("guard.py")
_CLUSTER_SECONDS = 5.0
# What Ray puts behind it has up to 64 letters.
_LONGEST_TMPDIR = 40
_STARTUP_SECONDS = 60.0
_SHUTDOWN_SECONDS = 10.0
# What Ray says of a worker that was killed, and what is left of what it says of a lost machine.
_DEAD_ACTOR = "The actor is dead"
_WITH_ITS_NODE = f"{_DEAD_ACTOR} because its Ray node"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)\s*:\s{0,6}")
_CLIENT = re.compile(r"^\(ClientAppActor pid=\d+[^)]*\) ")
# Lines of Flower and Ray that tell a reader of a healthy run nothing.
_NOISE = re.compile(
    r"^\s*$|DEPRECATED|FutureWarning|warnings\.warn\(|Since flwr 1\.32"
    r"|^Federation `|^To change federation size|^\s*flwr federation|^Successfully installed"
    r"|^Starting logstream|^Using SuperLink|^Starting Flower Simulation"
    # How Ray's actors end after the run; it would come behind the report's path.
    r"|Manually terminating ClientAppActor"
)


class FlowerRunError(ExpectedError, RuntimeError):
    """Flower could not start the run, or the run failed; the message is Flower's reason."""


_APP = """\
[project]
name = "fedf2dg-run"
version = "1.0.0"
description = "A run of fedf2dg"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedf2dg"
fab-include = ["*.py"]

[tool.flwr.app.components]
serverapp = "server_of_a_run:app"
clientapp = "client_of_a_run:app"

[tool.flwr.app.config]
"""


def write_app(folder: Path, run_config: RunConfig) -> Path:
    """Write the Flower app of a run: what is installed here, and its settings.

    Its bundle holds two files of code. Simulated clients are on this machine, and import the rest
    from where this process does.
    """
    folder.mkdir()
    for side in ("server", "client"):
        text = f"from fedf2dg import flower_{side}\n\napp = flower_{side}.app\n"
        (folder / f"{side}_of_a_run.py").write_text(text, "utf-8")
    (folder / "pyproject.toml").write_text(_APP + as_toml(run_config), "utf-8")
    return folder


def run_through_flower(
    run_config: RunConfig,
    num_nodes: int,
    output: TextIO,
    log_file: Path,
    gpus: int = 0,
    app: Path | None = None,
) -> None:
    """Submit an app (of this package, or a folder's), and return when the run has completed.

    The run's log goes to ``output``, line by line, without what tells a reader nothing; all that
    Flower printed, with the tracebacks, to ``log_file``. The clients share the ``gpus`` of this
    machine; where there are none, they compute on processors. A run that does not complete is a
    ``FlowerRunError``; a ``KeyboardInterrupt`` stops it.
    """
    _require_cluster(os.environ.get("RAY_ADDRESS", ""))
    with _private_superlink() as (environment, folder):
        settings = folder / "run-config.toml"
        settings.write_text(as_toml(run_config), "utf-8")
        place = str(app or write_app(folder / "app", run_config))
        federation = ("--federation-config", federation_settings(num_nodes, gpus))
        how = ("--run-config", str(settings), *federation)
        submitted = _flwr_json(environment, "run", place, *how)
        if not submitted.get("success"):
            raise FlowerRunError(str(submitted.get("error-message", submitted)))
        run_id = str(submitted["run-id"])
        try:
            _stream(environment, run_id, output, folder / "run.log")
            run = _wait(environment, run_id)
        except KeyboardInterrupt:
            subprocess.run(**_flwr(environment, "stop", run_id), capture_output=True, check=False)
            raise
        finally:
            if log_file.parent.is_dir() and (folder / "run.log").is_file():
                shutil.copyfile(folder / "run.log", log_file)
        if run["status"] != "finished:completed":
            reason = _COLOURS.sub("", str(run.get("status-details") or run["status"]))
            reason = reason.removeprefix("Simulation failed with exception: ")
            known = f" (full log: {log_file})" if log_file.is_file() else ""
            raise FlowerRunError(f"{reason}{known}")


def _require_cluster(address: str) -> None:
    """Refuse the address (host:port) of a Ray cluster where nobody answers; Ray tries for long."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or "/" in host:
        return  # "auto", "local", ray://…: Ray's own ways to find one
    try:
        socket.create_connection((host, int(port)), timeout=_CLUSTER_SECONDS).close()
    except OSError as error:
        raise FlowerRunError(
            f"RAY_ADDRESS = {address!r}: no Ray cluster answers there ({error}). Start one with "
            "ray start --head, or unset the variable to simulate on this machine alone"
        ) from error


def federation_settings(num_nodes: int, gpus: int = 0) -> str:
    """Return what Flower shall know of the simulation.

    Flower starts an actor, a process with PyTorch in it, for every processor that Ray has. Ray gets
    no more processors than there are clients; a cluster that runs already (``RAY_ADDRESS``) keeps
    its own. With GPUs, as many actors are started as can each have a part of one, the rest of the
    processors stays free: an actor that is given no part is shown no GPU.
    """
    settings = [
        f"num-supernodes={num_nodes}",
        "client-resources-num-cpus=1",
        "init-args-logging-level='error'",
    ]
    actors = min(cores(), num_nodes)
    if not os.environ.get("RAY_ADDRESS"):
        settings.append(f"init-args-num-cpus={actors}")
    if gpus:
        share = min(CLIENTS_PER_GPU, max(1, actors // gpus))
        # Rounded down, in the digits that Ray counts in, so that the parts fit.
        settings.append(f"client-resources-num-gpus={math.floor(1e4 / share) / 1e4:g}")
    return " ".join(settings)


@contextmanager
def _private_superlink() -> Iterator[tuple[dict[str, str], Path]]:
    folder = Path(tempfile.mkdtemp(prefix="fedf2dg-flower-"))
    port, control_port = _free_ports(2)
    binaries = Path(sys.executable).parent
    environment = {
        # Without it Ray joins whatever cluster was last started on this machine.
        "RAY_ADDRESS": "local",
        # Ray's own value, 15, lets clients starve beside anything else that computes.
        "RAY_worker_niceness": "0",
        # Ray keeps its sockets there, whose paths may not be long.
        **({"RAY_TMPDIR": "/tmp"} if len(tempfile.gettempdir()) > _LONGEST_TMPDIR else {}),
        **os.environ,
        **_without_proxy(os.environ),
        FOLDER_VARIABLE: own_folder(),
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
        "FLWR_LOCAL_CONTROL_API_PORT": str(control_port),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    # An empty folder to start in: Ray puts it before the app on the clients' import path.
    empty = folder / "empty"
    empty.mkdir()
    (folder / "flwr").mkdir()
    with (folder / "superlink.log").open("wb") as log:
        superlink = subprocess.Popen(
            [
                str(binaries / "flower-superlink"),
                *("--insecure", "--simulation", "--isolation", "subprocess"),
                *("--control-api-address", f"127.0.0.1:{control_port}"),
                *("--host", "127.0.0.1", "--port", str(port)),
                "--disable-runtime-dependency-installation",
            ],
            env=environment,
            cwd=empty,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # It has a session of its own, and would go on with the run if this process were killed.
    guard = subprocess.Popen(
        [sys.executable, "-I", str(_GUARD), str(superlink.pid), str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _await_health(superlink, port, folder / "superlink.log")
        yield environment, folder
    finally:
        _end(superlink)
        shutil.rmtree(folder, ignore_errors=True)
        guard.communicate(b"ended")


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep a proxy out of what speaks to this machine alone."""
    known = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = [*",".join(known).split(","), "127.0.0.1", "localhost"]
    exempt = ",".join(dict.fromkeys(host.strip() for host in hosts if host.strip()))
    return {"no_proxy": exempt, "NO_PROXY": exempt}


def _await_health(superlink: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if superlink.poll() is not None:
            break
        try:
            with directly.open(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    tail = _COLOURS.sub("", log.read_text("utf-8", errors="replace"))[-1000:]
    raise FlowerRunError(f"Flower's SuperLink did not start:\n{tail}")


def _end(superlink: subprocess.Popen[bytes]) -> None:
    below = groups_of(superlink.pid) - {superlink.pid}
    try:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(superlink.pid, kind)
            except ProcessLookupError:
                break
            try:
                superlink.wait(_SHUTDOWN_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    finally:  # also if the user is impatient
        end_groups(below)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_until_all_are_known:
        sockets = [open_until_all_are_known.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _flwr(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Return how a process of Flower's command is started."""
    command = [str(Path(sys.executable).parent / "flwr"), *arguments]
    return {"args": command, "env": environment, "cwd": environment["FLWR_HOME"], "text": True}


def _flwr_json(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    started = _flwr(environment, *arguments, "--format", "json")
    done = subprocess.run(**started, capture_output=True, check=False)
    try:
        content: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError as error:
        text = _COLOURS.sub("", done.stderr + done.stdout).strip()
        raise FlowerRunError(f"flwr {arguments[0]} failed: {text[-1500:]}") from error
    return content


def _stream(environment: Mapping[str, str], run_id: str, output: TextIO, log_file: Path) -> None:
    readable, show = ReadableLog(warnings_given()), Printer(output)
    followed = _flwr(environment, "log", run_id, "--stream")
    ways: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with (
        log_file.open("w", encoding="utf-8") as everything,
        subprocess.Popen(**followed, **ways, errors="replace") as process,
    ):
        assert process.stdout is not None
        for raw in process.stdout:
            everything.write(_COLOURS.sub("", raw))
            if (line := readable(raw)) is not None:
                show(line)


class ReadableLog:
    """Turns Flower's log into what a user of this app wants to read.

    Colours and the level INFO go; so do the blocks of an error, whose reason is reported in one
    line elsewhere: a failed client by a warning, a failed run by :class:`FlowerRunError`. What a
    client's process warns of is shown once, and not if the server or the command has ``said`` it:
    they read the same data.
    """

    def __init__(self, said: Iterable[str] = ()) -> None:
        self._in_error = False
        self._by_command = frozenset(said)
        self._said = set(said)

    def __call__(self, raw: str) -> str | None:
        """Return the line to show, or None."""
        line = _COLOURS.sub("", raw).rstrip()
        client = _CLIENT.match(line)
        line = line[client.end() :] if client else line
        level = _LEVEL.match(line)
        if level:
            self._in_error = level.group(1) in ("ERROR", "CRITICAL")
        elif line.startswith(("Traceback (most recent call last)", "ray::", "ray.exceptions")):
            self._in_error = True
        text = line[level.end() :] if level else line
        if self._in_error or _NOISE.search(text):
            return None
        if not level or level.group(1) != "WARNING":
            return text
        if text in (self._said if client else self._by_command):
            return None
        self._said.add(text)
        return f"WARNING: {text}"


def _wait(environment: Mapping[str, str], run_id: str) -> dict[str, Any]:
    while True:
        run: dict[str, Any] = _flwr_json(environment, "ls", "--run-id", run_id)["runs"][0]
        if run["status"].startswith("finished"):
            return run
        time.sleep(0.5)


def dead_actor(reason: str) -> str | None:
    """Say why a run must stop if a client failed for this reason; None if it can go on."""
    if not reason.startswith(_DEAD_ACTOR):
        return None
    if reason.startswith(_WITH_ITS_NODE):
        node = reason.removeprefix(_WITH_ITS_NODE)
        return (
            f"the Ray node{node}, and Flower would hand out its processes in every round to come. "
            "Start that node again, or go on without it, with resume-from"
        )
    return (
        "the process of a simulated client died, and Flower would hand out the dead one in "
        "every round to come. Most often memory ran out: use fewer processes "
        f"(client-resources-num-cpus) or --engine local, and go on with resume-from. {reason}"
    )
