"""The judgement of candidates: their errors, the rule, and what it says."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from foundation.scores import LARGEST_LOSS, METRICS, Gain, loss_changes, paired_standard_error
from questions.evaluation import Scores
from server_app.judgement import (
    CAUTION,
    STEPS,
    Tally,
    Verdict,
    tallies,
)


def judge(candidates: tuple[Tally, ...], held_out: int = 100) -> Verdict:
    return Verdict(candidates, before="federated", stage="distilled", clients=3, held_out=held_out)


def candidates(*gains: tuple[int, int], images: int = 100) -> tuple[Tally, ...]:
    """λ = 0 with half of the images right, and candidates that gain and lose so many."""

    def tally(up: int, down: int) -> Tally:
        gain = Gain.of_counts(up, down, images)
        return Tally(gain.value, gain.standard_error, images // 2 + up - down, images)

    return tally(0, 0), *(tally(up, down) for up, down in gains)


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
        error = paired_standard_error((difference == 1).sum(), (difference == -1).sum(), len(row))
        assert tally.standard_error == error


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


def two_models(
    seed: int, sizes: tuple[int, ...] = (120, 40, 15)
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels of unequal classes, and the logits of two models, of which the second is better."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    truth = np.eye(len(sizes))[labels]
    first = truth + generator.normal(0, 1, truth.shape)
    return labels, [first, first + 0.4 * truth + generator.normal(0, 0.5, truth.shape)]


def scored(labels: np.ndarray, logits: list[np.ndarray], columns: int) -> Scores:
    right = np.stack([values.argmax(axis=1) == labels for values in logits])
    scores = Scores.counted(labels, right, [0.0] * len(logits), columns)
    return replace(scores, loss_changes=loss_changes(logits, labels))


def in_parts(labels: np.ndarray, logits: list[np.ndarray], columns: int) -> Scores:
    """The same images at three clients."""
    parts = [
        scored(labels[place::3], [values[place::3] for values in logits], columns)
        for place in range(3)
    ]
    whole = Scores.sum(parts)
    assert whole is not None
    return whole


def test_gains_are_differences_of_the_figures_of_scikit_learn() -> None:
    labels, logits = two_models(0)
    answers = [values.argmax(axis=1) for values in logits]
    shares = [np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in logits]
    expected = {
        "accuracy": [accuracy_score(labels, found) for found in answers],
        "balanced-accuracy": [balanced_accuracy_score(labels, found) for found in answers],
        "log-loss": [-log_loss(labels, found) for found in shares],
    }
    whole = in_parts(labels, logits, 3)
    for metric, (before, after) in expected.items():
        assert tallies(whole, metric)[1].gain == pytest.approx(after - before, abs=1e-12)
        assert tallies(whole, metric)[1].accuracy == expected["accuracy"][1]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metrics_standard_error_is_that_of_repeated_draws(metric: str) -> None:
    """Classes are strata: how many images there are of each does not vary."""
    found = [tallies(scored(*two_models(seed), 3), metric)[1] for seed in range(400)]
    spread = np.std([tally.gain for tally in found])
    # Accuracy's is that of the pool, which strata cannot exceed.
    assert np.mean([tally.standard_error for tally in found]) == pytest.approx(spread, rel=0.12)


def test_of_equal_classes_balanced_accuracy_is_accuracy() -> None:
    labels, logits = two_models(3, sizes=(30, 30, 30))
    plain, balanced = (tallies(in_parts(labels, logits, 3), name)[1] for name in list(METRICS)[:2])
    assert balanced.gain == pytest.approx(plain.gain)
    assert balanced.standard_error <= plain.standard_error + 1e-12


def test_a_model_that_forgets_a_rare_class_is_refused_by_balanced_accuracy_alone() -> None:
    labels = np.repeat([0, 1], [95, 20])
    before, after = labels.copy(), np.zeros_like(labels)
    before[:60:2] = 1  # 30 images of the frequent class are taken for the rare one
    logits = [4.0 * np.eye(2)[answers] for answers in (before, after)]

    def kept(metric: str) -> int:
        found = tallies(scored(labels, logits, 2), metric)
        steps = (0.0, 1.0)
        return Verdict(
            found, before="a", stage="b", clients=1, held_out=115, steps=steps, metric=metric
        ).chosen

    assert kept("accuracy") == 1 and kept("balanced-accuracy") == 0


def test_log_loss_tells_models_apart_that_answer_the_same() -> None:
    labels, (first, _) = two_models(1)
    whole = scored(labels, [first, 0.5 * first], 3)
    plain, sure = tallies(whole)[1], tallies(whole, "log-loss")[1]
    assert plain.gain == 0 and sure.gain != 0 and not sure.undecided


def test_one_sure_and_wrong_answer_is_bounded_and_one_image_tells_no_spread() -> None:
    labels, (first, _) = two_models(2)
    wild = first.copy()
    wild[0] = [-1e9, 0.0, 0.0]
    broken = first.copy()
    broken[0] = np.nan
    for found in tallies(scored(labels, [first, wild, broken], 3), "log-loss")[1:]:
        assert -LARGEST_LOSS <= found.gain * len(labels) < -LARGEST_LOSS + 5
    single = tallies(scored(labels[:1], [first[:1], first[:1] + np.eye(3)[:1]], 3), "log-loss")
    assert single[1].gain > 0 and single[1].bound == -np.inf
    assert Verdict(single, before="a", stage="b", clients=1, held_out=1, steps=(0, 1)).chosen == 0


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("accuracy", "gained 2.0 ± 3.9 points on"),
        ("balanced-accuracy", "gained 2.0 ± 3.9 points in balanced accuracy on"),
        ("log-loss", "gained 0.020 ± 0.039 in log loss on"),
    ],
)
def test_the_verdict_names_the_figure(metric: str, said: str) -> None:
    found = (Tally(0.0, 0.02, 50, 100), Tally(0.02, 0.02, 50, 100))
    verdict = Verdict(
        found, before="a", stage="b", clients=1, held_out=9, steps=(0, 1), metric=metric
    )
    assert said in verdict.sentence


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
    refused = Verdict(
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
    kept = Verdict(candidates(*[(5, 5)] * 4), **given, needs_proof=False)
    assert kept.sentence.startswith("kept: calibrated; calibrated gained 0.0")
    assert kept.sentence.endswith("as a correction of this kind rarely harms")
    refused = Verdict(candidates(*[(5, 5)] * 4), **given)
    assert refused.sentence.endswith("less than these images can tell apart")


def test_nothing_measured_makes_no_tally() -> None:
    assert tallies(None) == ()
    nothing = Scores.counted(np.array([], int), np.zeros((5, 0), bool), [0.0] * 5, 4)
    assert tallies(nothing) == ()


def proven(gained: int, lost: int, images: int = 60) -> Verdict:
    tallies = candidates(*[(gained, lost)] * 4, images=images)
    return Verdict(tallies, before="a", stage="b", clients=3, held_out=images, needs_proof=False)


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
    verdict = Verdict(tallies, before="a", stage="b", clients=3, held_out=60, needs_proof=False)
    assert verdict.step == 0.25
