"""What joining gained a site over a model that it trains alone, in words and as a table."""

from collections.abc import Mapping
from typing import Any

from fedf2dg.report.document import Cell, Row, Table
from fedf2dg.report.run_record import mapping
from fedf2dg.report.tables import percent
from foundation.events.family import OwnModels, SiteGain
from foundation.events.reading import from_json
from foundation.scores import FEW, Gain
from foundation.wording import OWN_IS_BETTER

#: Whose model a gain is over.
OF_SITE, OF_SITES = "the site's own model", "the sites' own models"
_LOOK = f"{OWN_IS_BETTER[:1].upper()}{OWN_IS_BETTER[1:]}."


def meaning(own: OwnModels) -> str:
    """Return what the table of gains means; stands under it."""
    trained = (
        "trained a model of its own on its own images alone, from the same weights, with the same "
        "settings and for as many rounds"
        if own.rounds
        else "found a head in closed form on the features of its own images alone"
    )
    lost = any(gain.high < 0 for site in own.sites if (gain := site.gain))
    return (
        f"Every site {trained}, and showed it to nobody. Both models then classified the images "
        "that the site holds out. Intervals are of 95 % and paired, image by image; a gain whose "
        "interval holds 0 may be chance, and counts as not shown."
        + (f" Where a site's own model is better: {OWN_IS_BETTER}." if lost else "")
    )


def own_models_in(summary: Mapping[str, Any]) -> OwnModels | None:
    """Return what a run's summary tells of the sites' own models; None if it had none."""
    told = from_json({**mapping(summary.get("own_models")), "event": OwnModels.event})
    return told if isinstance(told, OwnModels) and told.gain else None


def beside(gain: Gain, whose: str = OF_SITE) -> tuple[str, str]:
    """Return a gain over another model as the level of a verdict, and its kind."""
    size = f"by {100 * abs(gain.value):.1f} points"
    if gain.low > 0:
        return f"better than {whose} {size}", "good"
    if gain.high < 0:
        return f"worse than {whose} {size}", "bad"
    return f"not shown to be better than {whose}", "unsure"


def gain_sentence(gain: Gain, whose: str = OF_SITE) -> str:
    """Return the figures behind it."""
    word = "lost" if gain.value < 0 else "gained"
    said = f"Joining {word} {100 * abs(gain.value):.1f} points over {whose} ({_ends(gain)})."
    return f"{said} {_LOOK}" if gain.high < 0 and whose == OF_SITE else said


def gains_table(own: OwnModels | None) -> Table:
    """Return the gain of all sites together and of each, the worst first."""
    known = [] if own is None else [(site.name, site, g) for site in own.sites if (g := site.gain)]
    places: list[tuple[str, OwnModels | SiteGain, Gain]] = [
        *sorted(known, key=lambda one: one[2].value)
    ]
    if own is not None and own.gain is not None:
        places.insert(0, ("all", own, own.gain))
    rows: list[Row] = []
    for place, told, gain in places:
        word, kind = beside(gain, OF_SITES if told is own else OF_SITE)
        few = "°" if (told.images or 0) < FEW else ""
        rows.append(
            [
                place,
                Cell(f"{word[:1].upper()}{word[1:]}", f"words wide {kind}"),
                f"{told.images:,}",
                percent(told.own),
                percent(told.joined),
                f"{100 * gain.value:+.1f} ({_ends(gain)}){few}",
                f"{told.gained:,}",
                f"{told.lost:,}",
            ]
        )
    header = ["site", "verdict", "held-out images", "own model right", "this model right"]
    header += ["gain in points (95 % interval)", "only this model right", "only the own right"]
    return Table("What joining gained", header, rows, (0, 1), rest_in="summary.json")


def _ends(gain: Gain) -> str:
    low, high = (max(-100.0, 100 * gain.low), min(100.0, 100 * gain.high))
    return f"{low:+.1f} to {high:+.1f}"
