"""Whether a model is good enough, where, and for which classes: the first words of every page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np

from fedf2dg.report.document import Cell, Columns, Note, Part, Picture, Section, Table
from fedf2dg.report.figures import confidence, to_svg
from fedf2dg.report.judgements import (
    OF_SITE,
    OF_SITES,
    beside,
    gain_sentence,
    gains_table,
    meaning,
    own_models_in,
)
from fedf2dg.report.run_record import mapping, number
from fedf2dg.report.tables import amount, measured_on, percent
from foundation import counted, scores
from foundation.events.family import OwnModels
from foundation.scores import FEW, Figure, Gain, Outcomes, share_interval
from foundation.wording import listed, named

# Of verdicts, as the page's style calls them, the worst first.
_KINDS = ("bad", "unsure", "good")
# Sites that a log names.
_MOST_LINES = 12
#: What the words of a verdict mean; stands under every table that has some.
MEANING = (
    "Guessing is always answering the most frequent class. A model is good at a class where it "
    "finds more than half of the class's images, weak where it finds fewer, and blind where it "
    "finds fewer than a quarter, or answers the class no more often for its images than for "
    "others. All of it is said only where "
    "the 95 % interval says so too: of other images of the same kind, 19 of 20 such intervals hold "
    f"the true share. A ° marks what rests on fewer than {FEW} images."
)

_FIGURES = (
    "Accuracy is the share that is right. Balanced accuracy is the mean of the classes' recalls: a "
    "frequent class counts no more than a rare one. AUROC is the chance that an image of a class "
    "scores higher for it than one of another class: 0.5 is guessing. Log loss (natural logarithm) "
    "punishes answers that are sure and wrong; guessing answers the classes' shares each time. The "
    "calibration error is the mean gap between how sure the model is and how often "
    "it is right, in 15 bins. Intervals: Wilson's for shares, Newcombe's for AUROC."
)
_SURE = (
    "Left: how often the model is right where it is so sure (points, with 95 % intervals); on the "
    "dotted line its confidence can be taken at its word. Right: what is left where it answers "
    "only from some confidence on."
)


@dataclass(frozen=True)
class Evidence:
    """What is known of a model from labelled images: from all of them, and by name of the site.

    ``on`` and ``on_sites`` say what these images are. Images that ``also_chose`` the model of
    several flatter it. ``classes`` is how many were measured, where that is known; 0: all of them.
    ``own`` is how the model does beside those that the sites trained alone.
    """

    whole: Outcomes | None = None
    on: str = "images"
    sites: Mapping[str, Outcomes] = field(default_factory=dict)
    also_chose: bool = False
    classes: int = 0
    on_sites: str = "held-out images"
    own: OwnModels | None = None

    @classmethod
    def of(cls, summary: Mapping[str, Any], confusions: Sequence[Any] = ()) -> Self:
        """Return what a run's summary tells of the model that it kept.

        Runs of earlier releases tell shares alone; the server's confusion matrices may know more.
        """
        told = mapping(summary.get("scores"))
        measured = mapping(mapping(summary.get("measured")).get("selected"))
        sites = {
            str(row.get("name")): outcomes
            for row in _rows(told.get("sites"))
            if (outcomes := Outcomes.read(row.get("outcomes"))) is not None
        }
        whole = Outcomes.read(told.get("whole"))
        if whole is None:
            share = number(mapping(summary.get("accuracy")).get("selected"))
            whole = _partly(share, measured.get("images"), confusions)
        if not sites:
            judged = list(mapping(mapping(summary.get("judged")).get("clients")).values())
            for row in _rows(judged[-1] if judged else None):
                outcomes = _partly(number(row.get("kept")), row.get("images"))
                if outcomes is not None:
                    sites[str(row.get("name", row.get("client")))] = outcomes
        own = own_models_in(summary)
        for told_site in () if own is None else own.sites:
            # Where the server alone measures, sites have said no more than this.
            if told_site.name not in sites and told_site.images:
                table = told_site.joined_confusion
                confusion = None if table is None else np.asarray(table, np.int64)
                right = round((told_site.joined or 0.0) * told_site.images)
                sites[told_site.name] = Outcomes.partly(told_site.images, right, confusion)
        on = measured_on(measured)
        classes = int(number(measured.get("classes")) or 0)
        return cls(whole, on, sites, measured.get("also_chose") is True, classes, own=own)

    def gain_at(self, site: str) -> Gain | None:
        """Return what joining gained a site."""
        found = () if self.own is None else self.own.sites
        return next((told.gain for told in found if told.name == site), None)


def _rows(found: Any) -> list[Mapping[str, Any]]:
    return [mapping(row) for row in found] if isinstance(found, list) else []


def _partly(share: float | None, images: Any, confusions: Sequence[Any] = ()) -> Outcomes | None:
    """Return what a share of so many images tells, with the matrix that is of the same answers."""
    count = int(number(images) or 0)
    if share is None or not count:
        return None
    right = round(share * count)
    tables = (np.asarray(table, np.int64) for table in confusions)
    fits = (table for table in tables if (table.sum(), np.trace(table)) == (count, right))
    return Outcomes.partly(count, right, next(fits, None))


@dataclass(frozen=True)
class Verdict:
    """What can be said of a model on some images.

    ``word`` says it in a few words, ``numbers`` in a sentence with figures; ``kind``, "good",
    "unsure" or "bad", is a class of the page's style. The names are of the classes that the model
    is good, weak or blind at, and of those of which there are too few images to tell.
    """

    word: str
    kind: str
    numbers: str
    good: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()

    @property
    def classes(self) -> str:
        """What it is good at and what it is not, in sentences; empty if that is not known."""
        groups = {
            "Good": self.good,
            "Weak": self.weak,
            "Blind": self.blind,
            "Undecided, for want of images,": self.unsure,
        }
        return " ".join(f"{lead} at {listed(names)}." for lead, names in groups.items() if names)

    @property
    def sentence(self) -> str:
        """All of it."""
        return f"{self.word}: {self.numbers} {self.classes}".strip()


def verdict(
    outcomes: Outcomes | None,
    names: Sequence[str],
    on: str = "images",
    classes: int = 0,
    gain: Gain | None = None,
    whose: str = OF_SITE,
) -> Verdict:
    """Judge a model by what it says of some images, which ``on`` describes.

    ``classes`` (default: all that have a name) are those to guess among where nobody tells how
    frequent each is. ``gain`` is that over another model, and ``whose`` that is.
    """
    if outcomes is None or not outcomes.images:
        return Verdict("Nobody measured it", "unsure", "no labelled image was asked about.")
    right = scores.accuracy(outcomes)
    most, always = _guessing(outcomes, names, classes or len(names))
    groups = _groups(outcomes, names)
    numbers = (
        f"right for {outcomes.right:,} of {outcomes.images:,} {on} ({percent(right.value)}; of "
        f"other such images {_ends(right)})"
    )
    numbers += f"; {always}." if always else "."
    balanced = scores.balanced_accuracy(outcomes)
    knows = balanced.known and balanced.low > 1 / max(1, len(scores.with_images(outcomes)))
    word, kind = "Better than guessing", "good"
    if most is not None and right.low <= most:
        word = "Guessing" if right.value <= most else "Not to be told from guessing"
        word = "Worse than guessing" if right.high < most else word
        kind = "bad"
        if knows:
            word = "Tells classes apart, but is not shown to be right more often than guessing"
            kind = "unsure"
        elif (right.high >= most or most == 1.0) and share_interval(1.0, outcomes.images)[
            0
        ] <= most:
            # A model that is right for all of them could not be told from guessing either.
            word, kind = "Too few images, or too much of one class, to tell from guessing", "unsure"
    elif groups["blind"] or groups["weak"]:
        word += f", but {'blind' if groups['blind'] else 'weak'} at some classes"
        kind = "unsure"
    if gain is not None:
        level, of_gain = beside(gain, whose)
        word, kind = f"{word}; {level}", min(kind, of_gain, key=_KINDS.index)
        numbers += f" {gain_sentence(gain, whose)}"
    return Verdict(word, kind, numbers, **groups)


def _guessing(outcomes: Outcomes, names: Sequence[str], classes: int) -> tuple[float | None, str]:
    """Return the share that guessing reaches, and the sentence about it."""
    labels = outcomes.labels
    if labels is not None:
        most, often = scores.guessing(outcomes), np.flatnonzero(labels == labels.max())
        if len(often) > 1:
            said = f"always answering one of the {len(often)} most frequent classes"
            if len(often) == len(scores.with_images(outcomes)):
                said = f"guessing among {len(often)} equally frequent classes"
            return most, f"{said} would be for {percent(most)}"
        said = f"always answering “{named(names, int(often[0]))}”, the most frequent class,"
        return most, f"{said} would be for {percent(most)}"
    if classes < 2:
        return None, ""
    share = 1 / classes
    return share, (
        f"guessing among {classes} equally frequent classes would be for {percent(share)}, and "
        "how frequent they are is not known here"
    )


def _groups(outcomes: Outcomes, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {"good": [], "weak": [], "blind": [], "unsure": []}
    kinds = zip(scores.recalls(outcomes), scores.specificities(outcomes), strict=True)
    for label, (recall, specificity) in enumerate(kinds):
        if recall.known:
            found[_of_class(recall, specificity)].append(named(names, label))
    return {kind: tuple(of_kind) for kind, of_kind in found.items()}


def _of_class(recall: Figure, specificity: Figure) -> str:
    # How often the class is the answer to images of others: what its own images get by chance.
    by_chance = 1 - specificity.value if specificity.known else 0.0
    if recall.value <= by_chance:
        return "unsure" if recall.few and recall.high >= 0.5 else "blind"
    if recall.low > max(0.5, by_chance):
        return "good"
    if recall.high < 0.5:
        return "weak" if recall.low > by_chance and recall.high >= 0.25 else "blind"
    return "unsure"


def on_the_whole(evidence: Evidence, names: Sequence[str]) -> tuple[Verdict, str]:
    """Return the verdict on all images, and the figures behind it as a sentence or two."""
    gain = None if evidence.own is None else evidence.own.gain
    found = verdict(evidence.whole, names, evidence.on, evidence.classes, gain, OF_SITES)
    found = _with_exceptions(found, evidence, names)
    said = f"{found.numbers[:1].upper()}{found.numbers[1:]}"
    if evidence.also_chose:
        said += " These images also chose the model of several, which flatters it a little."
    return found, said


def _with_exceptions(found: Verdict, evidence: Evidence, names: Sequence[str]) -> Verdict:
    """Name in a verdict on all images the sites where it does not hold."""
    guessing, semicolon, level = found.word.partition("; ")
    alone = {site: verdict(images, names) for site, images in evidence.sites.items()}
    bad = {site: told.word for site, told in alone.items() if told.kind == "bad"}
    lost = (
        []
        if evidence.own is None
        else [told.name for told in evidence.own.sites if (gain := told.gain) and gain.high < 0]
    )
    if bad and guessing.startswith("Better"):
        joined = "and" if ", but" in guessing else "but"
        shown = " shown to be" if any(word.startswith("Not") for word in bad.values()) else ""
        guessing += f", {joined} not{shown} at {listed(list(bad))}"
    if lost and level.startswith("better"):
        level += f", but not at {listed(lost)}"
    if (word := f"{guessing}{semicolon}{level}") == found.word:
        return found
    return replace(found, word=word, kind=min(found.kind, "unsure", key=_KINDS.index))


def opening(evidence: Evidence, names: Sequence[str]) -> list[Part]:
    """Return the verdict on the whole and on each site, as a page begins with it."""
    found, said = on_the_whole(evidence, names)
    parts: list[Part] = [Note(f"{found.word}.", f"verdict {found.kind}"), Note(said)]
    if found.classes:
        parts.append(Note(found.classes))
    if (table := sites_table(evidence, names)).rows:
        parts += [table, Note(MEANING, "note")]
    if evidence.own is not None:
        parts += [gains_table(evidence.own), Note(meaning(evidence.own), "note")]
    return parts


def lines(evidence: Evidence, names: Sequence[str]) -> list[str]:
    """Return the verdict on the whole and on the sites, a line each, as a log ends with it."""
    whole, _ = on_the_whole(evidence, names)
    sites = _worst_first(evidence, names)
    said = [whole.sentence, *(f"{at.site}: {at.verdict.sentence}" for at in sites[:_MOST_LINES])]
    if (more := len(sites) - _MOST_LINES) > 0:
        said.append(f"{counted(more, 'other site')}: see the report")
    return said


class _At(NamedTuple):
    site: str
    outcomes: Outcomes
    verdict: Verdict


def _worst_first(evidence: Evidence, names: Sequence[str]) -> list[_At]:
    found = (
        _At(site, told, verdict(told, names, evidence.on_sites, gain=evidence.gain_at(site)))
        for site, told in evidence.sites.items()
    )
    return sorted(found, key=lambda at: _KINDS.index(at.verdict.kind))


def sites_table(evidence: Evidence, names: Sequence[str]) -> Table:
    """Return the verdict on each site."""
    columns: Columns[_At] = {
        "site": lambda at: at.site,
        "verdict": lambda at: Cell(at.verdict.word, f"words wide {at.verdict.kind}"),
        "right": lambda at: f"{at.outcomes.right:,} of {at.outcomes.images:,}",
        "share (95 % interval)": lambda at: _with_ends(scores.accuracy(at.outcomes)),
        "guessing": lambda at: percent(_guessing(at.outcomes, names, len(names))[0]),
        "good at": lambda at: Cell(listed(at.verdict.good), "words"),
        "blind or weak at": lambda at: Cell(listed((*at.verdict.blind, *at.verdict.weak)), "words"),
    }
    return Table.of(
        "The model at each site",
        columns,
        _worst_first(evidence, names),
        words=(0, 1, -2, -1),
        rest_in="summary.json",
    ).without_empty()


def classes_table(outcomes: Outcomes, names: Sequence[str]) -> Table:
    """Return what the model does on each class; without rows where classes are not told."""
    recalls, specificities = scores.recalls(outcomes), scores.specificities(outcomes)
    precisions, f1_scores = scores.precisions(outcomes), scores.f1_scores(outcomes)
    areas = scores.areas(outcomes) or [scores.UNKNOWN] * len(recalls)

    def judged(label: int) -> Cell:
        recall = recalls[label]
        word = _of_class(recall, specificities[label]) if recall.known else "no image"
        kind = {"good": "good", "weak": "unsure", "blind": "bad"}.get(word, "soft")
        return Cell("undecided" if word == "unsure" else word, f"words {kind}")

    columns: Columns[int] = {
        "class": lambda label: named(names, label),
        "verdict": judged,
        "images": lambda label: amount(recalls[label].images),
        "recall: found (95 % interval)": lambda label: _with_ends(recalls[label]),
        "precision: right when answered": lambda label: _with_ends(precisions[label]),
        "specificity": lambda label: _with_ends(specificities[label], ends=False),
        "F1": lambda label: _with_ends(f1_scores[label], ends=False),
        "AUROC": lambda label: _with_ends(areas[label], 1, ends=False),
    }
    of_all, words = range(len(recalls)), (0, 1)
    return Table.of("The model on each class", columns, of_all, words=words, rest_in="summary.json")


def figures_table(evidence: Evidence) -> Table:
    """Return the figures of the field for the whole and for each site, with their intervals."""
    places = {"all": evidence.whole, **evidence.sites}
    below = partial(_with_ends, between="\n")  # eight columns are as many as a page is wide
    columns: Columns[tuple[str, Outcomes]] = {
        "on the images of": lambda at: at[0],
        "images": lambda at: amount(at[1].images),
        "accuracy": lambda at: below(scores.accuracy(at[1])),
        "balanced accuracy": lambda at: below(scores.balanced_accuracy(at[1])),
        "mean AUROC": lambda at: below(scores.mean_area(at[1]), 1),
        "log loss": lambda at: below(scores.log_loss(at[1]), 1),
        "log loss of guessing": lambda at: (
            None if (known := scores.entropy(at[1])) is None else f"{known:.3f}"
        ),
        "calibration error": lambda at: below(scores.calibration_error(at[1])),
    }
    known = [(place, outcomes) for place, outcomes in places.items() if outcomes is not None]
    return Table.of("Figures with 95 % intervals", columns, known, rest_in="summary.json")


def details(evidence: Evidence, names: Sequence[str]) -> Iterator[Section]:
    """Return what a page says of a model class by class, in figures, and of its confidence."""
    whole, parts = evidence.whole, list[Part]()
    if whole is None:
        return
    if (table := classes_table(whole, names)).rows:
        parts += [table] if evidence.sites else [table, Note(MEANING, "note")]
    if unnamed := scores.never_named(whole):
        said = listed([named(names, label) for label in unnamed])
        parts.append(Note(f"It never answers {said}.", "warning"))
    parts += [figures_table(evidence), Note(_FIGURES, "note")]
    yield Section("For which classes", parts)
    if whole.bins.any():
        kept = scores.abstaining(whole)
        columns: Columns[tuple[float, Figure, Figure]] = {
            "answers from a confidence of": lambda row: f"{100 * row[0]:.0f} %",
            "answered": lambda row: _with_ends(row[1]),
            "right of these": lambda row: _with_ends(row[2]),
        }
        drawn = confidence(whole.bins, [(t, a.value, r.value) for t, a, r in kept])
        told = (
            "Points of confidence and share that is right; curves of abstaining, as in the table."
        )
        table = Table.of("Abstaining where it is not sure", columns, kept)
        yield Section("How sure it is", [Picture(to_svg(drawn, "sure", told), _SURE), table])


def _with_ends(
    figure: Figure, unit: float = 100, between: str = " ", ends: bool = True
) -> str | None:
    """Return a figure with the ends of its interval, where it has one: "81.0 % (75.1 to 86.0)"."""
    if not figure.known:
        return None
    form, sign = (".1f", " %") if unit == 100 else (".3f", "")
    said = f"{unit * figure.value:{form}}{sign}"
    if not ends:
        return said
    if figure.low == figure.low:  # an interval
        said += f"{between}({unit * figure.low:{form}} to {unit * figure.high:{form}})"
    return f"{said}°" if figure.few else said


def _ends(figure: Figure) -> str:
    return f"{100 * figure.low:.1f} to {100 * figure.high:.1f} %" if figure.known else ""
