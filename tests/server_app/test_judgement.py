"""The judgement of candidates: counts, their errors, and what a client that lies can do."""

from __future__ import annotations

import numpy as np
import pytest

from server_app.judgement import STEPS, Score, paired_standard_error, tally


def score(before: np.ndarray, after: np.ndarray, labels: np.ndarray, classes: int) -> Score:
    """What an honest client says of two models' answers (right or wrong) to its images."""

    def by_class(flags: np.ndarray) -> tuple[int, ...]:
        return tuple(np.bincount(labels[flags], minlength=classes).tolist())

    return Score(by_class(after), by_class(after & ~before), by_class(before & ~after))


def federation(clients: int = 7, classes: int = 4, candidates: int = 5, seed: int = 0):
    """Clients of different sizes with answers of several candidates drawn at random."""
    generator = np.random.default_rng(seed)
    scores, held_out, answers = {}, {}, []
    for client in range(clients):
        images = int(generator.integers(3, 60))
        labels = generator.integers(0, classes, images)
        right = generator.random((candidates, images)) < np.linspace(0.4, 0.8, candidates)[:, None]
        scores[client] = [score(right[0], row, labels, classes) for row in right]
        held_out[client] = tuple(np.bincount(labels, minlength=classes).tolist())
        answers.append(right)
    return scores, held_out, np.concatenate(answers, axis=1)


def test_honest_scores_add_up_to_the_pooled_images() -> None:
    scores, held_out, answers = federation()
    for candidate, counted in enumerate(tally(scores, held_out)):
        assert counted.images == answers.shape[1]
        assert counted.accuracy == pytest.approx(answers[candidate].mean())
        difference = answers[candidate].astype(int) - answers[0]
        assert counted.gain == pytest.approx(difference.mean())
        assert counted.wins == (difference == 1).sum()
        assert counted.losses == (difference == -1).sum()


def test_totals_say_the_same_as_classes() -> None:
    scores, held_out, _ = federation()
    totals = {
        client: [Score((sum(s.correct),), (sum(s.wins),), (sum(s.losses),)) for s in given]
        for client, given in scores.items()
    }
    assert tally(totals, {c: (sum(row),) for c, row in held_out.items()}) == tally(scores, held_out)


def test_the_order_of_the_answers_does_not_matter() -> None:
    scores, held_out, _ = federation(clients=50)
    backwards = {client: scores[client] for client in reversed(scores)}
    assert tally(backwards, held_out) == tally(scores, held_out)


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    generator = np.random.default_rng(1)
    images, shares = 200, (0.15, 0.08, 0.77)
    drawn = generator.multinomial(images, shares, size=20000)
    gains = (drawn[:, 0] - drawn[:, 1]) / images
    errors = paired_standard_error(drawn[:, 0], drawn[:, 1], images)
    assert errors.mean() == pytest.approx(gains.std(), rel=0.03)


@pytest.mark.parametrize("images", [1, 2, 60, 10_000])
def test_one_image_never_decides(images: int) -> None:
    assert paired_standard_error(0, 0, images) > 0
    assert paired_standard_error(1, 0, images) >= 1 / images
    assert paired_standard_error(images, 0, images) > 0


def test_strata_are_not_less_certain_than_the_pool() -> None:
    """Clients are strata: the variance within them is at most the pooled one that is reported."""
    _, _, answers = federation(clients=5, seed=3)
    difference = answers[-1].astype(int) - answers[0]
    parts = np.array_split(difference, 5)
    images = len(difference)
    within = sum(len(part) * part.var() for part in parts) / images**2
    pooled = paired_standard_error((difference == 1).sum(), (difference == -1).sum(), images)
    assert within**0.5 <= pooled


@pytest.mark.parametrize("claim", [10**9, -(10**9)])
def test_a_client_that_lies_moves_no_more_than_its_own_images(claim: int) -> None:
    scores, held_out, _ = federation()
    honest = tally(scores, held_out)
    own = sum(held_out[2])
    for wins, losses in ((claim, claim), (claim, 0), (0, claim)):
        lie = Score((claim,) * 4, (wins,) * 4, (losses,) * 4)
        lied = tally({**scores, 2: [scores[2][0], *[lie] * 4]}, held_out)
        for before, after in zip(honest, lied, strict=True):
            assert abs(after.correct - before.correct) <= own
            assert abs(after.gain - before.gain) <= 2 * own / before.images
            assert 0 <= after.correct <= after.images
            assert after.wins >= 0 and after.losses >= 0
            assert after.wins - after.losses == after.correct - lied[0].correct


def test_clients_unknown_or_without_images_count_nothing() -> None:
    scores, held_out, _ = federation()
    more = {**scores, 98: scores[0], 99: scores[1]}
    assert tally(more, {**held_out, 99: (0, 0, 0, 0)}) == tally(scores, held_out)
    assert tally({99: scores[1]}, {99: (0, 0, 0, 0)}) == []
    assert tally({}, held_out) == []


def test_a_client_that_is_gone_takes_its_images_along() -> None:
    scores, held_out, _ = federation()
    gone = {client: given for client, given in scores.items() if client != 3}
    assert tally(gone, held_out)[0].images == tally(scores, held_out)[0].images - sum(held_out[3])


def test_the_first_candidate_is_the_model_before() -> None:
    assert STEPS[0] == 0.0 and STEPS[-1] == 1.0 and list(STEPS) == sorted(STEPS)
