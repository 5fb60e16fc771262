"""A run while it goes on: the pages that its events make, and whoever watches from elsewhere."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from fedf2dg.report.figures import to_png
from fedf2dg.report.judgements import plain, verdicts
from fedf2dg.report.model_card import model_card
from fedf2dg.report.pseudo_images import pseudo_grid, read_grid, stored_sets
from fedf2dg.report.report import write_report
from fedf2dg.report.run_record import RunRecord, client_names, json_in
from fedf2dg.report.tables import terminal_table
from fedf2dg.report.tested_images import keep_test_images
from fedf2dg.report.verdict import Evidence, lines, on_the_whole
from foundation import only_warned, write_whole
from foundation.errors import log
from foundation.events.family import (
    Event,
    Listener,
    ModelKept,
    PseudoImagesStored,
    RunCompleted,
    RunEnded,
)
from foundation.events.reading import mapping, number, read_run
from foundation.events.sinks.relay import Relay
from foundation.models.directory import CARD
from foundation.progress import PROGRESS


def listeners() -> tuple[Listener, ...]:
    """Return what follows a run: its sinks, and its pages."""
    return Relay(pictures), Pages()


class Pages:
    """Writes what is made to be looked at, as soon as a run says that it can be made."""

    def __call__(self, event: Any) -> None:
        """Make what an event is the moment for."""
        match event:
            case PseudoImagesStored():
                with only_warned("the picture of generated images"):
                    pseudo_grid(event.directory, class_names=event.class_names)
            case ModelKept():
                with only_warned("the card of the model"):
                    card = model_card(event.summary, kept=event.stage, model=event.description)
                    write_whole(event.folder / CARD, card)
            case RunCompleted():
                _say_the_end(event)

    def close(self) -> None:
        """Do nothing: every page is finished when it is written."""


def pictures(
    directory: Path, class_names: Sequence[str]
) -> Mapping[tuple[str, int], Callable[[], bytes]]:
    """Return what draws each stored set of pseudo images as PNG, by name and competition round."""
    return {
        (f"{kind} samples", place): partial(_drawn, directory, kind, place, class_names)
        for kind, place in stored_sets(directory)
    }


def _drawn(directory: Path, kind: str, place: int, class_names: Sequence[str]) -> bytes:
    grid = read_grid(directory, kind, place)
    return to_png(grid.figure(class_names, client_names(directory)))


def _say_the_end(event: RunCompleted) -> None:
    summary = event.summary
    evidence = Evidence.of(summary)
    whole, *sites = lines(evidence, event.class_names)
    told = [*sites, *terminal_table(summary).splitlines(), *verdicts(summary)]
    bad = on_the_whole(evidence, event.class_names)[0].kind == "bad"
    log.log(logging.WARNING if bad else logging.INFO, "%s", plain(whole))
    for one in RunRecord.read(event.directory).lost():
        if one.is_serious:
            log.warning("%s", plain(one.sentence))
    for line in told:
        log.info("%s", plain(line))
    with only_warned("what the model says of the test images"):
        keep_test_images(event.directory, event.test_logits)
    with only_warned("the report"):
        log.info("report: %s", write_report(event.directory))


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
    settings = mapping(json_in(directory / "config.json").get("configuration"))
    rounds = number(settings.get("num-server-rounds"))
    return None if rounds is None else int(rounds)
