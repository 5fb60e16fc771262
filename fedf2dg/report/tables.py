"""Tables of a run's results, and numbers in words."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedf2dg.report.document import Cell, Row, Table
from fedf2dg.report.run_record import STAGES, mapping, number
from foundation.scores import difference_interval, share_interval
from foundation.wording import NONE, duration

#: What ``fedf2dg diagnose`` writes into a run's directory.
DIAGNOSIS = "diagnosis.json"
#: What stands for the accuracy of a stage that ran and that nobody measured.
NOT_MEASURED = "not measured"
#: What whoever measured measured on.
MEASURED_ON = {"server": "test images of the server", "clients": "held-out images of the clients"}
_OF_SITES = "test images of the sites"

#: What the stages are, before they stand in a table.
EXPLAINED = {
    "federated": "the model after the last federated round",
    "calibrated": "that model after its last layer was refitted to what the clients' images add up "
    "to, so that it prefers no class; not to be taken for calibrated probabilities, whose error "
    "stands above",
    "head": "the model with a last layer computed in closed form from what the clients' images add "
    "up to",
    "distilled": "that model after it learned from images that were generated from the clients' "
    "models, and from what these models say of them",
    "competed": "the distilled model after rounds in which clients train it once more and images "
    "that it finds hard are generated for it",
    "selected": "the model that was kept",
}


@dataclass(frozen=True)
class Stage:
    """What one stage of a run reached: accuracies in [0, 1], its gain in percentage points.

    ``parts`` says what the seconds consist of. Measured was by the "server", the "clients" or
    "nobody", ``on`` what; empty if the stage did not run, or if the run does not say.
    """

    name: str
    accuracy: float | None
    best_on_test: float | None
    gain: float | None
    seconds: float | None
    parts: str = ""
    by: str = ""
    on: str = "images"
    images: int = 0
    also_chose: bool = False

    @property
    def ran(self) -> bool:
        """Whether the run has had this stage."""
        return self.accuracy is not None or bool(self.by) or self.seconds is not None

    @property
    def said(self) -> str:
        """The accuracy in words."""
        return NOT_MEASURED if self.by == "nobody" else percent(self.accuracy)


def stages(summary: Mapping[str, Any]) -> list[Stage]:
    """Return the stages of a run from its summary, whatever of it is missing or null."""
    accuracy, best = mapping(summary.get("accuracy")), mapping(summary.get("best_on_test"))
    seconds, measured = mapping(summary.get("seconds")), mapping(summary.get("measured"))
    spent = {name: number(value) for name, value in seconds.items()}
    method = {name: spent.get(name) for name in ("generation", "distillation")}
    known = {name: value for name, value in method.items() if value is not None}
    time = {
        "federated": spent.get("federated"),
        "distilled": sum(known.values()) if known else None,
        "competed": spent.get("competition"),
    }
    base = number(accuracy.get("federated"))
    found = []
    for name in _in_order({*accuracy, *STAGES}, accuracy):
        reached = number(accuracy.get(name))
        gain = None
        if name != "federated" and reached is not None and base is not None:
            gain = 100 * (reached - base)
        parts = ", ".join(f"{part} {duration(value)}" for part, value in known.items())
        who = mapping(measured.get(name))
        found.append(
            Stage(
                name,
                reached,
                number(best.get(name)),
                gain,
                time.get(name, spent.get(name)),
                parts if name == "distilled" and len(known) > 1 else "",
                str(who.get("by", "")),
                measured_on(who),
                int(number(who.get("images")) or 0),
                who.get("also_chose") is True,
            )
        )
    return found


def measured_on(measured: Mapping[str, Any]) -> str:
    """Return what these images are, as far as a run's summary tells who measured."""
    if measured.get("of_sites") is True:
        return _OF_SITES
    return MEASURED_ON.get(str(measured.get("by")), "images")


def _in_order(names: Collection[str], told: Iterable[str]) -> list[str]:
    """Federated rounds first, the model that was kept last, the stages between as they came."""
    between = [name for name in (*told, *STAGES) if name not in (STAGES[0], "selected")]
    kept = ["selected"] if "selected" in names else []
    return [STAGES[0], *dict.fromkeys(between), *kept]


def measured_sentence(summary: Mapping[str, Any]) -> str:
    """Say who measured the accuracies of a run on how many images; empty if that is not known."""
    found: dict[tuple[str, int, bool], list[str]] = {}
    for stage in stages(summary):
        if stage.by:
            on = stage.on if stage.by in MEASURED_ON else ""
            key = (on, stage.images, stage.also_chose)
            found.setdefault(key, []).append(stage.name)

    def said(on: str, images: int, also_chose: bool) -> str:
        if not on:
            return NOT_MEASURED
        flatters = " that also chose the model, which flatters it" if also_chose else ""
        return f"measured on {images:,} {on}{flatters}"

    if len(found) == 1:
        return f"Accuracy: {said(*next(iter(found)))}"
    return "; ".join(f"{', '.join(which)}: {said(*who)}" for who, which in found.items())


def _shown(summary: Mapping[str, Any]) -> list[Stage]:
    none = summary.get("rounds") == 0
    return [s for s in stages(summary) if s.ran or (s.name == STAGES[0] and not none)]


def terminal_table(summary: Mapping[str, Any]) -> str:
    """Return the table of stages, printed at the end of a run in ASCII, and who measured."""
    rows = [
        [
            stage.name,
            stage.said,
            "" if stage.name == "federated" else points(stage.gain),
            None if stage.seconds is None else f"{stage.seconds:.1f}",
            f"({stage.parts})" if stage.parts else "",
        ]
        for stage in _shown(summary)
    ]
    total = number(mapping(summary.get("seconds")).get("total"))
    footer = ["total", "", "", None if total is None else f"{total:.1f}", ""]
    header = ["stage", "accuracy", "gain", "seconds", ""]
    table = Table("", header, rows, words=(0, -1), footer=footer).terminal()
    said = measured_sentence(summary)
    return f"{table}\n{said}" if said else table


def stage_table(summary: Mapping[str, Any]) -> Table:
    """Return the table of a run's stages, with 95 % intervals where images were counted."""
    rows: list[Row] = []
    found = _shown(summary)
    base = next((stage for stage in found if stage.name == "federated"), None)
    for stage in found:
        kind, share, change = "", "", ""
        if stage.accuracy is not None and stage.images:
            share = _ends(share_interval(stage.accuracy, stage.images), "%")
            if stage.gain is not None and base is not None and base.accuracy is not None:
                low, high = difference_interval(stage.accuracy, base.accuracy, stage.images)
                change = _ends((low, high), "points")
                kind = "gain" if low > 0 else "loss" if high < 0 else ""
        rows.append(
            [
                stage.name,
                Cell(stage.said, "big"),
                Cell(share, "soft"),
                Cell("" if stage.name == "federated" else points(stage.gain), kind),
                Cell(change, "soft"),
                percent(stage.best_on_test),
                duration(stage.seconds),
            ]
        )
    total = number(mapping(summary.get("seconds")).get("total"))
    header = ["stage", "accuracy", "95 % interval", "gain over federated", "95 % interval at most"]
    header += ["best on test", "time"]
    footer: Row = ["whole run", *[""] * 5, duration(total)]
    return Table("Accuracy and time of each stage", header, rows, footer=footer).without_empty()


def ceilings_table(ceilings: Any) -> Table:
    """Return what ``diagnosis.json`` holds as a table: part, description and accuracy."""
    rows = [
        [
            entry["part"],
            entry["what"] + " (simulation only)" * bool(entry.get("simulation_only")),
            percent(entry["accuracy"]),
        ]
        for entry in ceilings or ()
    ]
    return Table("What could be gained", ["part", "with", "accuracy"], rows, words=(0, 1))


def _ends(interval: tuple[float, float], unit: str) -> str:
    low, high = (100 * end for end in interval)
    signed = "+" if unit == "points" else ""
    return f"{low:{signed}.1f} to {high:{signed}.1f} {unit}"


def amount(value: float | None) -> str | None:
    """Return a number of things as one reads it: "1,024"."""
    return None if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal: "81.0 %"."""
    return NONE if share is None else f"{100 * share:.1f} %"


def points(gain: float | None) -> str:
    """Return a difference in percentage points with its sign: "+12.0 points"."""
    return NONE if gain is None else f"{gain:+.1f} points"


def size_in_words(size: float) -> str:
    """Return a number of bytes as one reads it: "312 bytes", "1.2 MB"."""
    unit, name = byte_unit(size)
    return f"{size / unit:,.1f} {name}" if unit > 1 else f"{size:,.0f} {name}"


def byte_unit(size: float) -> tuple[float, str]:
    """Return the decimal unit in which a number of bytes reads well: its size and its name."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return 1000.0**power, unit
    return 1.0, "bytes"
