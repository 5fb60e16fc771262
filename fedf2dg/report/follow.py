"""Watch a run that goes on in another process: its events as lines, its report rendered anew."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedf2dg.report.report import write_report
from fedf2dg.report.tables import NOT_MEASURED, percent
from foundation import counted
from foundation.events.metrics import Event, mapping, number, read_events
from foundation.progress import PROGRESS
from foundation.wording import duration, rounds_left

Say = Callable[[str], None]


def follow(
    run_directory: Path | str,
    *,
    every: float = 3.0,
    say: Say = print,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Print a run's events as they come and keep its report up to date, until the run ends.

    Parameters
    ----------
    run_directory : Path | str
        The run's directory; the run may not have created it yet.
    every : float (default: 3)
        Seconds between two looks at the run.
    say : Callable (default: print)
        Receives one line per event.
    sleep : Callable (default: time.sleep)
        Waits so many seconds.

    Returns
    -------
    Path
        The report, of the finished run.

    Raises
    ------
    MetricsError
        If the metrics file is damaged.
    KeyboardInterrupt
        If the user stops watching; the run goes on.
    """
    directory = Path(run_directory)
    shown: list[Event] = []
    last_progress = ""
    waiting = False
    broken_off = False
    while True:
        try:
            events = read_events(directory / "metrics.jsonl")
        except FileNotFoundError:
            events = []
        if not events and not waiting:
            waiting = True
            say(f"waiting for a run in {directory}")
        if events != shown:
            same = 0
            while same < min(len(events), len(shown)) and events[same] == shown[same]:
                same += 1
            if same < len(shown):
                say("the run was resumed from an earlier step")
            for event in events[same:]:
                line = event_line(event, _rounds(directory))
                if line:
                    say(line)
            end = events[-1] if events and events[-1].get("event") == "end" else {}
            # A run that had broken off before may be being resumed at this moment.
            broken_off = not shown and end.get("status", "completed") != "completed"
            if broken_off:
                say("this goes on when the run is resumed (Ctrl-C to stop watching)")
            shown = events
            report = write_report(directory)
            # The summary is written right after the last event; the report is to hold it.
            if end and (directory / "summary.json").is_file():
                return report
        elif shown and shown[-1].get("event") == "end" and not broken_off:
            return write_report(directory)
        if (progress := _progress(directory)) and progress != last_progress:
            say(progress)
            last_progress = progress
        sleep(every)


def _progress(directory: Path) -> str:
    """Return the line of the work that goes on; empty if there is none, or half of it."""
    try:
        content = (directory / PROGRESS).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return content.rstrip("\n") if content.endswith("\n") else ""


def _rounds(directory: Path) -> int | None:
    """Return how many federated rounds a run is to have, if it says so."""
    try:
        config = mapping(json.loads((directory / "config.json").read_bytes()))
    except (OSError, ValueError):
        return None
    rounds = number(mapping(config.get("configuration")).get("num-server-rounds"))
    return None if rounds is None else int(rounds)


def event_line(event: Mapping[str, Any], rounds: int | None = None) -> str:
    """Say an event of ``metrics.jsonl`` in one line; empty if it is not worth one.

    Parameters
    ----------
    event : Mapping
        The event.
    rounds : int, optional
        Federated rounds that the run is to have, if that is known.
    """
    kind = event.get("event")
    took = number(event.get("seconds"))
    reached = number(event.get("accuracy"))
    accuracy = f"accuracy {NOT_MEASURED if reached is None else percent(reached)}"
    who = mapping(event.get("measured"))
    if who.get("by") == "clients":
        accuracy += f" on {who.get('images')} held-out images of the clients"
    time_taken = duration(took) if took is not None else ""
    competition = event.get("competition_round")
    if kind == "start":
        said = [f"{event.get('strategy')} on {event.get('dataset')}, seed {event.get('seed')}"]
        said.append(f"started {event.get('time')}")
    elif kind == "clients":
        sizes = event.get("num_examples")
        known = sizes if isinstance(sizes, list) else []
        said = [counted(len(known), "client")]
        said.append(counted(round(sum(number(n) or 0 for n in known)), "image"))
    elif kind == "round":
        failures = event.get("failures")
        dropped = len(failures) if isinstance(failures, list) else 0
        said = [f"{event.get('phase')} round {event.get('round')}: {accuracy}"]
        said += [f"{dropped} dropped" if dropped else "", time_taken]
        done = number(event.get("round"))
        if rounds is not None and done is not None and event.get("phase") == "federated":
            said.append(rounds_left(int(done), rounds, took))
    elif kind == "generation":
        said = [f"{event.get('images')} {event.get('kind')} samples generated", time_taken]
    elif kind == "distillation":
        where = f" of competition round {competition}" if competition else ""
        said = [f"distillation epoch {event.get('epoch')}{where}: {accuracy}", time_taken]
    elif kind == "judgement":
        said = [str(event.get("sentence")), time_taken]
    elif kind == "evaluation":
        said = [f"{event.get('stage')} model: {accuracy}"]
    elif kind == "end":
        reason = event.get("reason")
        said = [f"run {event.get('status')}" + (f": {reason}" if reason else "")]
    else:
        return ""
    return ", ".join(part for part in said if part)
