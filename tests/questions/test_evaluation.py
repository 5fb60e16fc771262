"""Scores of held-out images: counted by hand, and refused where they cannot be."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from foundation.messages.content import Content, Received, payload_bytes
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent
from foundation.scores import BINS, SCORE_BINS, Outcomes
from questions.description import DescriptionRequest
from questions.evaluation import MOST_CLASSES, EvaluationRequest, Scores

LABELS = np.array([0, 0, 1, 1, 1, 2])
CORRECT = np.array(
    [[True, False, True, True, False, False], [True, True, False, True, False, True]]
)


PREDICTED = np.array([[0, 1, 1, 1, 0, 0], [0, 0, 2, 1, 2, 2]])
LOGITS = [np.eye(3)[row] * 2.0 for row in PREDICTED]


def scores(columns: int) -> Scores:
    losses = [Outcomes.counted(logits, LABELS).loss for logits in LOGITS]
    return Scores.counted(LABELS, CORRECT, losses, columns, LOGITS)


def reply(scores: Scores, **changed: object) -> RecordDict:
    return Content(numbers={**scores.content().numbers, **changed}).records()


def checked(content: RecordDict, held_out: list[int]) -> Scores:
    request = EvaluationRequest({}, {}, [0.0, 1.0])
    return request.checked(Participant(0, 100, 9, tuple(held_out)), Received(content))


def described(content: RecordDict) -> Participant:
    return DescriptionRequest().checked(Participant(0, 100, 0), Received(content))


def test_counts_by_class_are_those_of_counting_by_hand():
    found = scores(3)
    assert found.total.tolist() == [2, 3, 1]
    assert found.correct.tolist() == [[1, 2, 0], [2, 1, 1]]
    assert found.gained.tolist() == [[0, 0, 0], [1, 0, 1]]
    assert found.lost.tolist() == [[0, 0, 0], [0, 1, 0]]


def test_totals_are_the_sums_over_classes():
    by_class, alone = scores(3), scores(1)
    for name in ("total", "correct", "gained", "lost"):
        np.testing.assert_array_equal(
            getattr(by_class, name).sum(axis=-1), getattr(alone, name)[..., 0]
        )
    assert alone.accuracy(0) == by_class.accuracy(0) == 0.5


def test_the_sum_over_clients_is_that_of_their_images_together():
    halves = [
        Scores.counted(LABELS[rows], CORRECT[:, rows], [1.0, 1.5], 3)
        for rows in (slice(0, 2), slice(2, 6))
    ]
    whole, added = scores(3), Scores.sum(halves)
    for name in ("total", "correct", "gained", "lost"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(added, name))
    assert added.loss.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([0.0, -0.8, 0.0, 1.5], None),
        ([0.1, -0.8, 0.0, 1.5], "do not fit together"),  # the first differs from itself
        ([0.0, -3.1, 0.0, 1.5], "do not fit together"),  # (Σd)² > n Σd²
        ([0.0, 0.0, 0.0, 6 * 37.0**2], "do not fit together"),  # more than six can come to
        ([0.0, 0.0, 0.0, -1.0], "do not fit together"),
        ([0.0, float("inf"), 0.0, 1.0], "not finite numbers"),
        ([0.0, 0.0], "not 4 numbers"),
    ],
)
def test_changes_of_losses_are_those_of_so_many_images(told, words):
    request = EvaluationRequest({}, {}, [0.0, 1.0], compares_losses=True)
    received = Received(reply(scores(3), loss_changes=told))
    if words is None:
        found = request.checked(Participant(0, 100, 9, (2, 3, 1)), received)
        assert found.loss_changes.tolist() == [told[:2], told[2:]]
        return
    with pytest.raises(InvalidContent, match=words):
        request.checked(Participant(0, 100, 9, (2, 3, 1)), received)


@pytest.mark.parametrize("columns", [1, 3])
def test_honest_scores_pass_as_they_are(columns):
    sent = scores(columns)
    found = checked(sent.content().records(), sent.total.tolist())
    for name in ("total", "correct", "gained", "lost", "loss"):
        np.testing.assert_array_equal(getattr(sent, name), getattr(found, name))
    assert [one.as_json() for one in found.outcomes] == [one.as_json() for one in sent.outcomes]
    assert len(found.outcomes) == 2 and (found.outcomes[0].confusion is None) == (columns == 1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"total": [2, 3, 2]}, "joined with"),
        ({"total": [3, 2, 1]}, "joined with"),
        ({"total": [2, 3]}, "not 3 numbers"),
        ({"correct": [1, 2, 0, 2, 1, 2]}, "more images"),
        ({"correct": [1, 2, 0, 2, 2, 1]}, "do not add up"),
        ({"correct": [1, 2, 0, 2, -1, 1]}, "whole numbers"),
        ({"correct": [1.0, 2.0, 0.0, 2.0, 1.0, 1.0]}, "whole numbers"),
        ({"gained": [0, 0, 0, 1, 1, 1], "lost": [0, 0, 0, 0, 2, 0]}, None),
        ({"gained": [0, 0, 0, 1, 2, 1], "lost": [0, 0, 0, 0, 3, 0]}, "cannot give"),
        ({"gained": [1, 0, 0, 1, 0, 1], "lost": [1, 0, 0, 0, 1, 0]}, "cannot give"),
        ({"loss": [1.0]}, "not 2 numbers"),
        ({"loss": [1.0, -2.0]}, "below 0"),
        ({"loss": [100.0, 100.0]}, "do not fit together"),
        ({"loss_squares": [0.0, 0.0]}, "do not fit together"),
        ({"loss_squares": [1.0]}, "not 2 numbers"),
        ({"bins": [0.0] * 2 * 3 * BINS}, "bins of confidence"),
        ({"bins": [float("nan")] * 2 * 3 * BINS}, "bins of confidence"),
        ({"confusion": [0] * 2 * 9}, "confusion matrix"),
        ({"confusion": [1, 1, 0, 1, 2, 0, 1, 0, 0, 1, 1, 0, 0, 1, 2, 0, 0, 1]}, "confusion"),
        ({"histograms": [0] * 2 * 2 * 3 * SCORE_BINS}, "histograms"),
        ({"histograms": [-1] * 2 * 2 * 3 * SCORE_BINS}, "whole numbers"),
    ],
)
def test_impossible_scores_are_refused(changed, words):
    sent = scores(3)
    if words is None:
        assert checked(reply(sent, **changed), [2, 3, 1]).lost[1].tolist() == [0, 2, 0]
        return
    with pytest.raises(InvalidContent, match=words):
        checked(reply(sent, **changed), [2, 3, 1])


def test_a_model_whose_outputs_are_not_finite_has_an_infinite_loss():
    first = float(scores(3).loss[0])
    found = checked(reply(scores(3), loss=[first, float("nan")]), [2, 3, 1])
    assert found.loss.tolist() == [first, float("inf")]


def test_more_classes_than_a_matrix_is_told_of_are_told_in_totals():
    classes = MOST_CLASSES + 1
    labels = np.array([0, 1, classes - 1])
    logits = np.eye(classes)[labels]
    right = np.ones((1, 3), dtype=bool)
    loss = Outcomes.counted(logits, labels).loss
    sent = Scores.counted(labels, right, [loss], classes, [logits])
    request = EvaluationRequest({})
    held_out = Participant(0, 100, 9, tuple(sent.total.tolist()))
    found = request.checked(held_out, Received(sent.content().records()))
    assert found.outcomes[0].confusion is None and found.outcomes[0].right == 3


VALUES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8),
    st.lists(st.floats(), max_size=8),
    st.integers(-5, 5),
    st.floats(),
)


@given(
    values=st.dictionaries(
        st.sampled_from(["total", "correct", "gained", "lost", "loss", "other"]), VALUES
    )
)
def test_whatever_a_client_sends_is_scores_or_is_refused(values):
    content = RecordDict({"metrics": MetricRecord(values)})
    try:
        found = checked(content, [2, 3, 1])
    except InvalidContent:
        return
    assert (found.correct <= found.total).all()


@given(
    values=st.dictionaries(
        st.sampled_from(["num-examples", "partition-id", "num-partitions", "held-out"]), VALUES
    ),
    name=st.text(),
)
def test_whatever_a_client_says_of_itself_is_possible_or_is_refused(values, name):
    site = ConfigRecord({"site-name": name})
    content = RecordDict({"metrics": MetricRecord(values), "config": site})
    try:
        found = described(content)
    except InvalidContent:
        return
    assert found.num_examples > 0
    assert all(count >= 0 for count in found.held_out)
    assert found.site_name.isprintable()


def test_a_description_arrives_as_it_was_sent():
    numbers = {"num-examples": 50, "partition-id": 2, "num-partitions": 4}
    by_class = {"held-out": [3, 0, 2], "label-counts": [20, 30, 0]}
    sent = Content(numbers={**numbers, **by_class}, settings={"site-name": "Clinic North"})
    assert described(sent.records()) == Participant(
        2, 100, 50, (3, 0, 2), "Clinic North", (20, 30, 0), partitions=4
    )


STATE = {"weight": torch.arange(3.0), "count": torch.tensor(2)}


@pytest.mark.parametrize(
    ("target", "bytes_sent"),
    [
        ({"weight": torch.ones(3), "count": torch.tensor(5)}, 2 * (12 + 8)),
        ({**STATE, "weight": torch.ones(3)}, 12 + 8 + 12),
        (STATE, 2 * (12 + 8)),
    ],
    ids=["all", "one", "none"],
)
def test_candidates_arrive_as_they_were_sent_and_what_they_share_is_sent_once(target, bytes_sent):
    sent = EvaluationRequest(STATE, target, [0.0, 0.25, 1.0])
    assert payload_bytes(sent.content().records()) == bytes_sent
    found = EvaluationRequest.received(Received(sent.content().records()), STATE)
    assert list(found.steps) == list(sent.steps)
    for mine, theirs in zip(sent, found, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in STATE)


@pytest.mark.parametrize(
    ("target", "steps"), [(None, [0.5]), (STATE, [-0.1]), (STATE, [0.0, 1.5]), (STATE, [])]
)
def test_candidates_that_lie_between_no_states_are_refused(target, steps):
    with pytest.raises(InvalidContent):
        EvaluationRequest(STATE, target, steps)


def test_a_message_without_candidates_is_refused():
    with pytest.raises(InvalidContent, match="lists no candidates"):
        EvaluationRequest.received(Received(RecordDict()), STATE)
