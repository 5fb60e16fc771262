"""Watch a run that goes on in another process: its events as lines, its report rendered anew."""

import json
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from fedf2dg.report.report import write_report
from foundation.events.family import Event, RunEnded
from foundation.events.reading import mapping, number, read_run
from foundation.progress import PROGRESS

Say = Callable[[str], None]


def follow(
    run_directory: Path | str,
    *,
    every: float = 3.0,
    say: Say = print,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Print a run's events as they come and keep its report up to date, until the run ends.

    The run may not have created its directory yet. ``every`` is in seconds. Ctrl-C ends the
    watching alone (``KeyboardInterrupt``); the run goes on. Returns the report of the finished run.
    """
    directory = Path(run_directory)
    shown: tuple[Event, ...] = ()
    last_progress = ""
    waiting = broken_off = False
    while True:
        try:
            events = read_run(directory).events
        except FileNotFoundError:
            events = ()
        if not events and not waiting:
            waiting = True
            say(f"waiting for a run in {directory}")
        end = _end(events)
        if events != shown:
            pairs = zip(events, shown, strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if same < len(shown):
                say("the run was resumed from an earlier step")
            for event in events[same:]:
                if line := event.sentence(_rounds(directory)):
                    say(line)
            # A run that had broken off before may be being resumed at this moment.
            broken_off = not shown and end is not None and end.status != "completed"
            if broken_off:
                say("this goes on when the run is resumed (Ctrl-C to stop watching)")
            shown = events
            report = write_report(directory)
            # The summary is written right after the last event; the report is to hold it.
            if end and (directory / "summary.json").is_file():
                return report
        elif end and not broken_off:
            return write_report(directory)
        if (progress := _progress(directory)) and progress != last_progress:
            say(progress)
            last_progress = progress
        sleep(every)


def _end(events: Sequence[Event]) -> RunEnded | None:
    last = events[-1] if events else None
    return last if isinstance(last, RunEnded) else None


def _progress(directory: Path) -> str:
    """Return the line of the work that goes on; empty if there is none, or half of it."""
    try:
        content = (directory / PROGRESS).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return content.rstrip("\n") if content.endswith("\n") else ""


def _rounds(directory: Path) -> int | None:
    try:
        config = mapping(json.loads((directory / "config.json").read_bytes()))
    except (OSError, ValueError):
        return None
    rounds = number(mapping(config.get("configuration")).get("num-server-rounds"))
    return None if rounds is None else int(rounds)
