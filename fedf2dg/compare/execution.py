"""Carry out runs in processes of their own: as many at once as told, each one resumable."""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fedf2dg.compare.plan import Run, identity
from fedf2dg.console import exit_status, plain_warnings
from fedf2dg.report.run_record import json_in
from fedf2dg.simulation import Engine
from foundation import UsageError
from foundation.processes import begin, share_of_cores, start_context, terminable, threads
from foundation.settings.configuration import ConfigurationError, RunConfiguration

#: What every run imports sooner or later (torch's optimizers, for one, on their first step);
#: loaded once, then forked.
_PRELOAD = [
    "fedf2dg.simulation.simulate",
    "fedf2dg.simulation.local_run",
    "torch._dynamo",
    "scipy.stats",
]
_GRACE_SECONDS = 15.0
_LOG_LINES = 40


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    ``reason`` says why it failed, and is empty if it completed; it is ``refused`` where what was
    asked for cannot be done. ``made`` tells whether it was carried out in this call.
    """

    reason: str = ""
    refused: bool = False
    seconds: float = 0.0
    made: bool = False


class Workshop:
    """Where a comparison's runs are made, so many at once: ``runs/``, with their ``logs/``."""

    def __init__(self, directory: Path, engine: Engine, jobs: int) -> None:
        self.directory = directory
        self.engine = engine
        self.jobs = jobs

    def place(self, run: Run) -> Path:
        """Return a run's directory; one that exists under another label is kept."""
        folder = self.directory / "runs"
        found = sorted(folder.glob(f"*-{run.identity}")) if folder.is_dir() else []
        return found[0] if found else folder / run.name

    def finished(self, run: Run) -> bool:
        """Tell whether a run was completed, with the configuration it should have."""
        directory = self.place(run)
        summary, config = json_in(directory / "summary.json"), json_in(directory / "config.json")
        settings = config.get("configuration", {})
        return (
            summary.get("status") == "completed"
            and identity(settings, run.path, self.engine) == run.identity
        )

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs to be made, in order; shared ones only if something needs them."""
        needed: set[Run] = set()
        for run in reversed(runs):  # followers before what they start from
            wanted = bool(run.cells) or any(
                follower in needed and not _interrupted(self.place(follower))
                for follower in run.followers
            )
            if wanted and not self.finished(run):
                needed.add(run)
        return [run for run in runs if run in needed]

    def make(self, runs: Sequence[Run], done: Callable[[Run, Outcome], None]) -> None:
        """Carry out the runs that are :meth:`missing`, each after the one it starts from.

        ``done`` is called after each, also for one that cannot be started because what it starts
        from failed. Ctrl-C and SIGTERM end the processes; their runs can be continued.
        """
        context = start_context(_PRELOAD)
        waiting = list(runs)
        failed: set[Run] = set()
        going: dict[BaseProcess, tuple[Run, float]] = {}
        with terminable():
            try:
                while waiting or going:
                    for run in [r for r in waiting if r.start in failed]:
                        waiting.remove(run)
                        failed.add(run)
                        before = run.start.title if run.start else ""
                        done(run, Outcome(f"what it starts from failed: {before}"))
                    busy = {run for run, _ in going.values()}
                    ready = [r for r in waiting if r.start not in busy and r.start not in waiting]
                    for run in ready[: self.jobs - len(going)]:
                        waiting.remove(run)
                        going[self._begin(context, run)] = (run, time.monotonic())
                    for process in _ended(list(going)):
                        run, began = going.pop(process)
                        reason = self._verdict(run, process)
                        if reason:
                            failed.add(run)
                        refused = process.exitcode == UsageError.exit_status
                        done(run, Outcome(reason, refused, time.monotonic() - began, made=True))
            finally:
                _end(list(going))

    def _begin(self, context: Any, run: Run) -> BaseProcess:
        directory = self.place(run)
        configuration = self._configuration(run, directory)
        log = self._log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        for last_attempt in (False, True):
            process: BaseProcess = context.Process(
                target=_carry_out,
                args=(configuration, self.engine, str(log), share_of_cores(self.jobs)),
                name=run.name,
            )
            try:
                begin(process)
                break
            except (EOFError, ConnectionError):
                # The server that forks the processes was ended; the next start makes a new one.
                if last_attempt:
                    raise
        return process

    def _configuration(self, run: Run, directory: Path) -> RunConfiguration:
        """Return what makes a run or goes on with it, after clearing what cannot."""
        from server_app.run_directory import reserved

        stages, source = run.stages, self.place(run.start) if run.start else None
        own_stages = _interrupted(directory)
        if own_stages:
            stages, source = own_stages, directory
        elif directory.exists():
            # Broken off before its first step: nothing to go on from. Unless a process that
            # outlived another comparison is at it: then the run ends and says so.
            with contextlib.suppress(ConfigurationError), reserved(directory):
                shutil.rmtree(directory)
        return replace(
            run.configuration,
            stages=stages,
            output_dir=str(directory),
            resume_from=str(source) if source else "",
        )

    def _log(self, run: Run) -> Path:
        return self.directory / "logs" / f"{self.place(run).name}.log"

    def _verdict(self, run: Run, process: BaseProcess) -> str:
        if process.exitcode == 0 and self.finished(run):
            return ""
        code = process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by signal {-code} ({signal.strsignal(-code)})"
        lines = self._log(run).read_text("utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        errors = [line for line in lines if line.startswith("error: ")] or [
            line for line in lines if line.strip()
        ]
        return errors[-1].removeprefix("error: ").strip() if errors else f"exit status {code}"


def _carry_out(
    configuration: RunConfiguration, engine: Engine, log: str, environment: dict[str, str]
) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # a Ctrl-C reaches it once, through the comparison
    print(_command(configuration, engine), flush=True)
    os.environ.update(environment)
    import torch

    from fedf2dg.simulation.simulate import simulate

    torch.set_num_threads(threads())

    def work() -> None:
        if hasattr(signal, "pthread_sigmask"):  # blocked while the process started
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with plain_warnings(sys.stdout), terminable():
            simulate(configuration, engine, sys.stdout)

    sys.exit(exit_status(work))


def _command(configuration: RunConfiguration, engine: Engine) -> str:
    defaults = RunConfiguration().flat()
    keys = [f"{k}={v}" for k, v in configuration.flat().items() if v != defaults.get(k)]
    return shlex.join(["fedf2dg", "simulate", "--engine", engine, *keys])


def _ended(processes: list[BaseProcess]) -> list[BaseProcess]:
    if not processes:
        return []
    sentinels = {process.sentinel: process for process in processes}
    ended = [sentinels[sentinel] for sentinel in wait(list(sentinels))]  # type: ignore[index]
    for process in ended:
        process.join()
    return ended


def _end(processes: list[BaseProcess]) -> None:
    """End processes the way Ctrl-C does, so that they can clean up; then by force."""
    for process in processes:
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGINT)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.terminate()
            process.join()


def _interrupted(directory: Path) -> str:
    """Return the stages of a run that has completed steps of its own but is not finished."""
    if (directory / "summary.json").exists():
        return ""
    config = json_in(directory / "config.json").get("configuration", {})
    folders = sorted((directory / "checkpoints").glob("[0-9]*-*"))
    if not config or not folders:
        return ""
    # Checkpoints copied from the run it started from name that run's stages.
    stages = json_in(folders[-1] / "manifest.json").get("configuration", {}).get("stages")
    return str(stages) if stages == config.get("stages") else ""
