"""The first words of report, card and log are right about models whose truth is planted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedf2dg.report import RunRecord, write_report
from fedf2dg.report.judgements import gains_table, helped, meaning, plain
from fedf2dg.report.model_card import model_card
from fedf2dg.report.report import title
from fedf2dg.report.verdict import (
    Evidence,
    Verdict,
    classes_table,
    figures_table,
    lines,
    on_the_whole,
    sites_table,
    verdict,
)
from foundation.events.family import OwnModels, SiteGain
from foundation.events.reading import to_json
from foundation.models import ModelDescription
from foundation.scores import Gain, Outcomes, difference_interval

WriteRun = Callable[..., Path]
NAMES = ("cat", "horse", "ship")
TOO_FEW = "Too few images, or too much of one class, to tell from guessing"


def planted(counts: list[list[int]]) -> Outcomes:
    """Return the outcomes of sure answers: images by true class and answer."""
    labels, answers = [], []
    for truth, row in enumerate(counts):
        for answer, count in enumerate(row):
            labels += [truth] * count
            answers += [answer] * count
    return Outcomes.counted(np.eye(3)[answers] * 4.0, np.array(labels))


GOOD = planted([[30, 2, 1], [2, 30, 1], [1, 1, 30]])
ALWAYS_CAT = planted([[58, 0, 0], [21, 0, 0], [21, 0, 0]])
ONE_UNLEARNABLE = planted([[40, 0, 0], [0, 40, 0], [14, 14, 2]])
WRONG_LABELS = planted([[2, 28, 2], [27, 2, 3], [3, 25, 2]])
MANY = planted([[300, 9, 9], [9, 300, 9], [9, 9, 300]])
UNTOLD = planted([[3, 1, 0], [1, 3, 1], [0, 1, 0]])
HALF_BLIND = planted([[300, 3, 3], [20, 5, 2], [20, 1, 6]])


@pytest.mark.parametrize(
    ("outcomes", "word", "kind"),
    [
        (GOOD, "Better than guessing", "good"),
        (ALWAYS_CAT, "Guessing", "bad"),
        (ONE_UNLEARNABLE, "Better than guessing, but blind at some classes", "unsure"),
        (WRONG_LABELS, "Worse than guessing", "bad"),
        (UNTOLD, "Not to be told from guessing", "bad"),
        # All right, and no other model could have done better.
        (planted([[1, 0, 0], [0, 0, 0], [0, 0, 0]]), TOO_FEW, "unsure"),
        (planted([[4, 1, 0], [0, 0, 0], [0, 0, 0]]), TOO_FEW, "unsure"),  # one class alone
        (
            HALF_BLIND,
            "Tells classes apart, but is not shown to be right more often than guessing",
            "unsure",
        ),
        (None, "Nobody measured it", "unsure"),
    ],
)
def test_planted_truths_are_told(outcomes: Outcomes | None, word: str, kind: str) -> None:
    found = verdict(outcomes, NAMES)
    assert (found.word, found.kind) == (word, kind)


def groups(found: Verdict) -> dict[str, tuple[str, ...]]:
    return {name: getattr(found, name) for name in ("good", "weak", "blind", "unsure")}


def test_for_which_classes() -> None:
    assert groups(verdict(GOOD, NAMES))["good"] == NAMES
    unlearnable = groups(verdict(ONE_UNLEARNABLE, NAMES))
    assert unlearnable["good"] == ("cat", "horse")
    assert unlearnable["blind"] == ("ship",)
    third = planted([[20, 40, 0], [0, 40, 0], [0, 0, 40]])
    assert groups(verdict(third, NAMES))["weak"] == ("cat",)
    # Who always answers cat finds every cat, and knows no cat from a horse.
    assert groups(verdict(ALWAYS_CAT, NAMES))["blind"] == NAMES
    few = groups(verdict(planted([[2, 0, 0], [1, 1, 0], [0, 0, 0]]), NAMES))
    assert few["unsure"] == ("cat", "horse") and "ship" not in str(few)


def test_guessing_is_the_most_frequent_class_where_classes_are_told() -> None:
    said = verdict(ALWAYS_CAT, NAMES).sentence
    assert "right for 58 of 100 images (58.0 %" in said
    assert "always answering “cat”, the most frequent class, would be for 58.0 %" in said
    totals = verdict(Outcomes.partly(100, 58), NAMES).sentence
    assert "guessing among 3 equally frequent classes would be for 33.3 %" in totals
    assert "how frequent they are is not known here" in totals


@pytest.mark.parametrize(
    ("right", "images", "classes", "word"),
    [
        (12, 21, 2, "Not to be told from guessing"),
        (1200, 2100, 2, "Better than guessing"),
        (1000, 10_000, 10, "Guessing"),
        (0, 5, 3, "Guessing"),
        (8, 8, 2, "Better than guessing"),
        (2, 2, 2, TOO_FEW),  # two right answers prove nothing
    ],
)
def test_totals_alone_are_held_against_equal_classes(
    right: int, images: int, classes: int, word: str
) -> None:
    names = [str(label) for label in range(classes)]
    assert verdict(Outcomes.partly(images, right), names).word == word
    # Classes of which no image was measured are no guess.
    assert "among 2 equally" in verdict(Outcomes.partly(9, 9), NAMES, classes=2).sentence


SITES = {
    "north": GOOD,
    "south": WRONG_LABELS,
    "<b>east": planted([[4, 0, 0], [0, 3, 0], [0, 0, 2]]),
}


def evidence(summary: dict[str, Any]) -> Evidence:
    whole = Outcomes.sum(list(SITES.values()))
    assert whole is not None
    sites = [
        {"client": client, "name": name, "outcomes": found.as_json()}
        for client, (name, found) in enumerate(SITES.items())
    ]
    summary["scores"] = {"stage": "selected", "whole": whole.as_json(), "sites": sites}
    summary["measured"] = {"selected": {"by": "clients", "images": whole.images}}
    return Evidence.of(json.loads(json.dumps(summary)))


def test_every_site_is_told_by_name_the_worst_first() -> None:
    found = evidence({})
    said = lines(found, NAMES)
    assert [line.split(":")[0] for line in said[1:]] == ["south", "north", "<b>east"]
    assert all(plain(line).isascii() for line in said)
    words = {str(row[0]): row[1].content for row in sites_table(found, NAMES).rows}  # type: ignore
    assert words["south"] == "Worse than guessing" and words["north"] == "Better than guessing"
    assert len(figures_table(found).rows) == 4


def test_support_is_marked_where_it_is_small() -> None:
    rows = {str(row[0]): row for row in classes_table(SITES["<b>east"], NAMES).rows}
    assert str(rows["cat"][3]).endswith("°")
    assert not str(classes_table(GOOD, NAMES).rows[0][3]).endswith("°")


def test_report_and_card_begin_with_the_verdict(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path, clients=3, classes=3, class_names=NAMES, rounds=2, epochs=2)
    summary = json.loads((run / "summary.json").read_text())
    word = on_the_whole(evidence(summary), NAMES)[0].word
    assert word.endswith(" at south")
    (run / "summary.json").write_text(json.dumps(summary))
    page = write_report(run).read_text("utf-8")
    first = page.index(f">{word}.<")
    assert page.index("<h1>") < first < page.index("&lt;b&gt;east") < page.index('class="facts"')
    assert page.count("Worse than guessing") == 1
    described = ModelDescription("resnet8", 0, NAMES, 3, (8, 8), (0.5,) * 3, (0.2,) * 3)
    card = model_card(summary, kept="competed", model=described)
    assert card.index(f"**{word}.**") < card.index("## How good it is")
    assert r"\<b\>east" in card and "| south | Worse than guessing |" in card


def test_a_run_of_an_earlier_release_is_judged_by_what_it_tells() -> None:
    summary = {
        "accuracy": {"selected": 0.58},
        "measured": {"selected": {"by": "server", "images": 100}},
        "judged": {"clients": {"distilled": [{"name": "north", "images": 9, "kept": 4 / 9}]}},
    }
    alone = Evidence.of(summary)
    assert verdict(alone.whole, NAMES).word == "Better than guessing"  # for all that is known
    assert ALWAYS_CAT.confusion is not None
    wrong = np.eye(3, dtype=int)
    known = Evidence.of(summary, [wrong, ALWAYS_CAT.confusion.tolist()])
    assert verdict(known.whole, NAMES).word == "Guessing"
    assert known.sites["north"].right == 4
    assert Evidence.of({}).whole is None and lines(Evidence.of({}), NAMES)


def own_models(*sites: tuple[str, int, int, int]) -> dict[str, Any]:
    """Return a summary's part about sites' own models: name, images, gained and lost."""
    rows = [
        SiteGain(client, name, images, 0.5, 0.5 + (gained - lost) / images, gained, lost)
        for client, (name, images, gained, lost) in enumerate(sites)
    ]
    images, gained, lost = (sum(site[part] for site in sites) for part in (1, 2, 3))
    return to_json(OwnModels(2, images, 0.5, 0.6, gained, lost, rows, (), 1.0))


def test_joining_is_held_against_the_sites_own_models() -> None:
    summary: dict[str, Any] = {}
    evidence(summary)
    summary["own_models"] = own_models(
        ("north", 98, 20, 2), ("south", 94, 2, 20), ("west", 9, 1, 1)
    )
    found = Evidence.of(json.loads(json.dumps(summary)))
    words = {str(row[0]): row[1] for row in sites_table(found, NAMES).rows}
    assert words["north"].content == (  # type: ignore[union-attr]
        "Better than guessing; better than the site's own model by 18.4 points"
    )
    assert words["south"].content == (  # type: ignore[union-attr]
        "Worse than guessing; worse than the site's own model by 19.1 points"
    )
    # Nobody else told of this site, where nothing else was measured there.
    assert "not shown to be better than the site's own model" in words["west"].content  # type: ignore
    assert "own model" not in words["<b>east"].content  # type: ignore[union-attr]
    gain = Gain.of_counts(23, 23, 201)
    whole = lines(found, NAMES)[0]
    assert "; not shown to be better than the sites' own models: " in whole
    assert f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" in whole
    assert [row[0] for row in gains_table(found.own).rows] == ["all", "south", "west", "north"]
    # The site that does better alone is told what may be the reason, and nobody else.
    hints = [line.split(":")[0] for line in lines(found, NAMES) if "labels be wrong" in line]
    assert hints == ["south"] and found.own and "labels be wrong" in meaning(found.own)


@pytest.mark.parametrize(
    ("sites", "word", "kind"),
    [
        ({"a": GOOD, "b": GOOD}, "Better than guessing", "good"),
        ({"a": MANY, "b": WRONG_LABELS}, "Better than guessing, but not at b", "unsure"),
        ({"a": MANY, "b": UNTOLD}, "Better than guessing, but not shown to be at b", "unsure"),
        ({"a": WRONG_LABELS, "b": WRONG_LABELS}, "Worse than guessing", "bad"),
    ],
)
def test_the_whole_does_not_hide_a_bad_site(
    sites: dict[str, Outcomes], word: str, kind: str
) -> None:
    found, _ = on_the_whole(Evidence(Outcomes.sum(list(sites.values())), sites=sites), NAMES)
    assert (found.word, found.kind) == (word, kind)


def test_the_whole_names_the_site_that_does_better_alone() -> None:
    summary: dict[str, Any] = {"own_models": own_models(("a", 98, 60, 2), ("b", 94, 2, 20))}
    own = Evidence.of(summary).own
    found, _ = on_the_whole(Evidence(GOOD, own=own), NAMES)
    assert found.word.endswith("better than the sites' own models by 20.8 points, but not at b")
    assert found.kind == "unsure"


def test_a_good_model_that_a_site_does_better_without_is_no_good_news() -> None:
    assert verdict(GOOD, NAMES, gain=Gain.of_counts(2, 20, 98)).kind == "bad"
    assert verdict(GOOD, NAMES, gain=Gain.of_counts(2, 2, 98)).kind == "unsure"
    assert verdict(GOOD, NAMES, gain=Gain.of_counts(20, 2, 98)).kind == "good"
    assert verdict(ALWAYS_CAT, NAMES, gain=Gain.of_counts(20, 2, 100)).kind == "bad"


def judged(run: Path, *verdicts: tuple[str, float, float, float], selected: str) -> RunRecord:
    """Add judgements to a run: stage, step, gain, standard error."""
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    rows = [
        {"stage": stage, "step": step, "gain": gain, "standard_error": error}
        for stage, step, gain, error in verdicts
    ]
    summary["judged"] = {"images": 60, "selected": selected, "verdicts": rows}
    (run / "summary.json").write_text(json.dumps(summary))
    return RunRecord.read(run)


@pytest.mark.parametrize(
    ("verdicts", "selected", "said"),
    [
        ([("distilled", 1.0, 0.10, 0.02)], "distilled", "Post-training helped: +10.0 ± 3.9 points"),
        ([("distilled", 1.0, 0.03, 0.02)], "distilled", "Undecided whether post-training helped"),
        ([("distilled", 0.0, -0.1, 0.02)], "federated", "Post-training did not help"),
        # Only what was taken counts, and independent errors add in squares.
        (
            [("distilled", 1.0, 0.1, 0.03), ("hard", 0.0, -0.9, 0.1), ("competed", 0.5, 0.1, 0.04)],
            "competed",
            "Post-training helped: +20.0 ± 9.8 points",
        ),
    ],
)
def test_whether_post_training_helped(
    write_run: WriteRun, tmp_path: Path, verdicts: Any, selected: str, said: str
) -> None:
    sentence = helped(judged(write_run(tmp_path / "run"), *verdicts, selected=selected))
    assert said in sentence
    assert "the clients' 60 held-out images" in sentence


def test_a_stage_that_no_client_judged_is_compared_on_what_measured_it(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    summary["accuracy"] = {"federated": 0.5, "distilled": 0.6, "competed": None, "selected": 0.6}
    summary["measured"] = {"federated": {}, "distilled": {"by": "server", "images": 400}}
    (run / "summary.json").write_text(json.dumps(summary))
    low, high = (100 * end for end in difference_interval(0.6, 0.5, 400))
    assert helped(RunRecord.read(run)) == (
        "No client judged post-training: distillation changed the accuracy by +10.0 points "
        f"({low:+.1f} to {high:+.1f} at most) on 400 test images of the server."
    )


def test_the_baselines_are_not_called_what_they_are_not(
    write_run: WriteRun, tmp_path: Path
) -> None:
    local = write_run(tmp_path / "local", configuration={"strategy": "local"})
    assert "The clients&#39; own models classify " in write_report(local).read_text("utf-8")
    pooled = write_run(tmp_path / "centralized", configuration={"strategy": "centralized"})
    assert title(RunRecord.read(pooled)).endswith(" of 10 clients in one place")


def test_a_run_that_goes_on_has_no_verdict(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", stop_after="round 3")
    assert helped(RunRecord.read(run)) == ""
    assert "uessing." not in write_report(run).read_text("utf-8")


def test_what_was_learned_from_what(write_run: WriteRun, tmp_path: Path) -> None:
    few = write_run(
        tmp_path / "few",
        classes=3,
        clients=1,
        class_names=["cat", "dog", "owl"],
        configuration={"dataset": "folder"},
    )
    images = sum(RunRecord.read(few).met.num_examples)
    expected = f"A classifier of cat, dog and owl, learned from {images:,.0f} images of 1 client"
    assert title(RunRecord.read(few)) == expected
    many = RunRecord.read(write_run(tmp_path / "many", clients=7))
    assert title(many).startswith("A classifier of 10 classes (digits), learned from ")
    assert title(many).endswith(" of 7 clients")


def test_a_server_without_images_shows_what_the_clients_told_of_each_class(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run(tmp_path, clients=3, classes=3, class_names=NAMES, stop_after="train")
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    kept = [line for line in lines if json.loads(line)["event"] != "evaluation"]
    (run / "metrics.jsonl").write_text("\n".join(kept) + "\n", "utf-8")
    assert "No confusion matrix was measured." in write_report(run).read_text("utf-8")
    summary = json.loads((run / "summary.json").read_text())
    evidence(summary)
    (run / "summary.json").write_text(json.dumps(summary))
    page = write_report(run).read_text("utf-8")
    assert "Which classes are taken for which" in page and "Confusion matrices, kept" in page
    assert "Always answering the most frequent class gives" in page


def test_where_several_classes_are_the_most_frequent_none_is_named() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    logits = np.eye(3)[labels] * 9.0
    said = verdict(Outcomes.counted(logits[:4], labels[:4]), ("cat", "dog", "owl")).sentence
    assert "guessing among 2 equally frequent classes would be for 50.0 %" in said
    said = verdict(Outcomes.counted(logits, labels), ("cat", "dog", "owl")).sentence
    assert "always answering one of the 2 most frequent classes would be for 40.0 %" in said
