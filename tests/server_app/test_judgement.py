"""The judgement of candidates: their errors, the rule, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from foundation.scores import paired_standard_error
from questions.evaluation import Scores
from server_app.judgement import (
    CAUTION,
    STEPS,
    Tally,
    Verdict,
    decide,
    tallies,
)


def judge(candidates: tuple[Tally, ...], held_out: int = 100) -> Verdict:
    return decide(candidates, before="federated", stage="distilled", clients=3, held_out=held_out)


def candidates(*gains: tuple[int, int], images: int = 100) -> tuple[Tally, ...]:
    """λ = 0 with half of the images right, and candidates that gain and lose so many."""
    before = Tally(images // 2, 0, 0, images)
    return before, *(Tally(images // 2 + up - down, up, down, images) for up, down in gains)


def answers(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels, and right or wrong by candidate, of clients of different sizes."""
    generator = np.random.default_rng(seed)
    chances = np.linspace(0.4, 0.8, len(STEPS))[:, None]
    return [
        (generator.integers(0, 4, n), generator.random((len(STEPS), n)) < chances)
        for n in generator.integers(3, 60, 7)
    ]


@pytest.mark.parametrize("columns", [1, 4])
def test_the_sums_over_clients_are_those_of_the_pooled_images(columns: int) -> None:
    given = answers()
    parts = [Scores.counted(labels, right, [0.0] * 5, columns) for labels, right in given]
    pooled = np.concatenate([right for _, right in given], axis=1)
    for row, tally in zip(pooled, tallies(Scores.sum(parts)), strict=True):
        difference = row.astype(int) - pooled[0]
        assert tally.images == pooled.shape[1]
        assert tally.accuracy == pytest.approx(row.mean())
        assert tally.gain == pytest.approx(difference.mean())
        assert (tally.gained, tally.lost) == ((difference == 1).sum(), (difference == -1).sum())


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    generator = np.random.default_rng(1)
    images, shares = 200, (0.15, 0.08, 0.77)
    drawn = generator.multinomial(images, shares, size=20000)
    gains = (drawn[:, 0] - drawn[:, 1]) / images
    errors = paired_standard_error(drawn[:, 0], drawn[:, 1], images)
    assert errors.mean() == pytest.approx(gains.std(), rel=0.03)


@pytest.mark.parametrize("images", [1, 2, 60, 10_000])
def test_one_image_is_less_than_its_standard_error(images: int) -> None:
    assert paired_standard_error(0, 0, images) > 0
    assert paired_standard_error(1, 0, images) >= 1 / images
    assert paired_standard_error(images, 0, images) > 0


def test_clients_as_strata_are_no_less_certain_than_the_pool() -> None:
    """The variance within clients is at most the pooled one, which is what is reported."""
    difference = np.concatenate([right[-1].astype(int) - right[0] for _, right in answers(3)])
    parts = np.array_split(difference, 5)
    images = len(difference)
    within = sum(len(part) * part.var() for part in parts) / images**2
    pooled = paired_standard_error((difference == 1).sum(), (difference == -1).sum(), images)
    assert within**0.5 <= pooled


def test_equal_candidates_change_nothing() -> None:
    verdict = judge(candidates(*[(0, 0)] * 4))
    assert verdict.step == 0 and verdict.sentence.startswith("kept: federated; distilled gained 0")


def test_the_best_candidate_is_kept() -> None:
    assert judge(candidates((4, 0), (15, 2), (12, 5), (3, 9))).step == 0.5
    assert judge(candidates((4, 0), (8, 0), (12, 0), (20, 1))).step == 1


def test_of_equals_the_one_nearest_to_the_model_before_is_kept() -> None:
    assert judge(candidates((9, 1), (9, 1), (9, 1), (9, 1))).step == 0.25


def test_of_equal_gains_the_more_certain_one_is_kept() -> None:
    assert judge(candidates((20, 10), (10, 0), (30, 20), (25, 15))).step == 0.5


def test_a_gain_within_its_error_is_not_taken() -> None:
    gained, lost = 21, 19
    assert gained - lost < CAUTION * 100 * paired_standard_error(gained, lost, 100)
    assert judge(candidates(*[(gained, lost)] * 4)).step == 0


@pytest.mark.parametrize("harm", [1, 10, 50])
def test_harm_is_never_taken(harm: int) -> None:
    assert judge(candidates(*[(3, 3 + harm)] * 4)).step == 0


def test_more_images_with_the_same_rates_decide_more() -> None:
    assert judge(candidates(*[(3, 2)] * 4, images=20)).step == 0
    assert judge(candidates(*[(300, 200)] * 4, images=2000)).step > 0


def test_where_nobody_holds_images_out_the_result_is_kept_and_called_unjudged() -> None:
    verdict = judge((), held_out=0)
    assert verdict.step == 1 and verdict.images == 0
    assert verdict.sentence == "kept: distilled, not judged: no client holds images out"


def test_where_no_judge_answers_the_model_before_is_kept() -> None:
    verdict = judge((), held_out=100)
    assert verdict.step == 0
    assert "federated" in verdict.sentence and "answered" in verdict.sentence


def test_the_sentence_says_what_was_gained_on_how_many_images_of_whom() -> None:
    refused = decide(
        candidates(*[(9, 9)] * 4, images=140),
        before="federated",
        stage="distilled",
        clients=1,
        held_out=140,
    )
    assert refused.sentence == (
        "kept: federated; distilled gained 0.0 ± 6.1 points on 140 held-out images of 1 client: "
        "undecided, less than these images can tell apart"
    )
    # The stage's own result, though a step a quarter of the way would have done no harm.
    harmful = judge(candidates((1, 1), (2, 6), (2, 12), (2, 20)))
    assert harmful.sentence.startswith("kept: federated; distilled lost 18.0 ± ")
    taken = judge(candidates((0, 0), (30, 0), (20, 0), (10, 0)))
    assert taken.sentence.startswith(
        "kept: distilled at λ = 0.5 (0: federated, 1: distilled); distilled gained 30.0 ± "
    )
    assert taken.sentence.endswith("points on 100 held-out images of 3 clients")


@pytest.mark.parametrize(
    ("gained", "lost", "images", "step", "undecided"),
    [
        (2, 1, 19, 0.25, True),
        (2, 0, 19, 0.25, True),
        (1, 3, 19, 0, True),
        (12, 7, 100, 0.25, True),
        (20, 5, 100, 0.25, False),
    ],
)
def test_a_gain_within_its_error_is_called_undecided_whatever_is_kept(
    gained: int, lost: int, images: int, step: float, undecided: bool
) -> None:
    verdict = judge(candidates(*[(gained, lost)] * 4, images=images))
    assert verdict.step == step
    assert ("undecided" in verdict.sentence) == undecided


def test_a_single_image_that_decides_is_called_undecided() -> None:
    verdict = judge(candidates(*[(1, 0)] * 4, images=19))
    assert verdict.step == 0.25
    assert verdict.sentence.endswith("undecided, less than these images can tell apart")


def test_a_tie_that_is_kept_says_why() -> None:
    given = {"before": "federated", "stage": "calibrated", "clients": 3, "held_out": 100}
    kept = decide(candidates(*[(5, 5)] * 4), **given, needs_proof=False)
    assert kept.sentence.startswith("kept: calibrated; calibrated gained 0.0")
    assert kept.sentence.endswith("as a correction of this kind rarely harms")
    refused = decide(candidates(*[(5, 5)] * 4), **given)
    assert refused.sentence.endswith("less than these images can tell apart")


def test_nothing_measured_makes_no_tally() -> None:
    assert tallies(None) == ()
    nothing = Scores.counted(np.array([], int), np.zeros((5, 0), bool), [0.0] * 5, 4)
    assert tallies(nothing) == ()


def proven(gained: int, lost: int, images: int = 60) -> Verdict:
    tallies = candidates(*[(gained, lost)] * 4, images=images)
    return decide(tallies, before="a", stage="b", clients=3, held_out=images, needs_proof=False)


@pytest.mark.parametrize(
    ("gained", "lost", "step"), [(5, 1, 1.0), (0, 0, 1.0), (2, 3, 1.0), (0, 4, 0.0)]
)
def test_a_step_that_needs_no_proof_is_kept_unless_the_images_speak_against_it(
    gained: int, lost: int, step: float
) -> None:
    verdict = proven(gained, lost)
    assert verdict.step == step
    word = "lost" if lost > gained else "gained"
    assert f"b {word} {100 * abs(gained - lost) / 60:.1f} ±" in verdict.sentence


def test_what_lost_whole_may_still_be_kept_in_part() -> None:
    tallies = candidates((6, 0), (3, 0), (0, 3), (0, 6), images=60)
    verdict = decide(tallies, before="a", stage="b", clients=3, held_out=60, needs_proof=False)
    assert verdict.step == 0.25
