"""What a run's events make of its pages: pictures, the model's card, the last words, the report."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedf2dg.report.figures import to_png
from fedf2dg.report.judgements import plain, verdicts
from fedf2dg.report.model_card import model_card
from fedf2dg.report.pseudo_images import pseudo_grid, read_grid, stored_sets
from fedf2dg.report.report import write_report
from fedf2dg.report.run_record import RunRecord, client_names
from fedf2dg.report.tables import terminal_table
from fedf2dg.report.tested_images import ask_about_test_images
from fedf2dg.report.verdict import Evidence, lines, on_the_whole
from foundation import only_warned, write_whole
from foundation.events.family import Listener, ModelKept, PseudoImagesStored, RunCompleted
from foundation.events.sinks.relay import Relay
from foundation.models.directory import CARD

log = logging.getLogger("flwr.fedf2dg")


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
        ask_about_test_images(event.directory)
    with only_warned("the report"):
        log.info("report: %s", write_report(event.directory))
