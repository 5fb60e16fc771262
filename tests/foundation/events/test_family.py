"""Events are read back as they were written; of other releases, as far as they go."""

import json
from pathlib import Path

import pytest

from foundation.events import family
from foundation.events.family import Event, Failure, Measured, RoundDone
from foundation.events.log import EventLog, json_value
from foundation.events.reading import from_json, read_run, to_json
from foundation.scores import Outcomes

ROUND = RoundDone(
    round=2,
    phase="federated",
    accuracy=0.5,
    loss=1.25,
    measured=Measured("clients", 6),
    train_loss=2.0,
    seconds=3.0,
    clients=(0, 1, 3),
    failures=(Failure(2, "no reply in time"),),
    bytes_down=10,
    bytes_up=7,
    notes={"clipped": 1.0},
)
EVENTS = [
    family.RunStarted("now", "moon", "digits", 3),
    family.ClientsMet((10, 20), ((4, 6), (20, 0)), ("north", "south")),
    family.ClientsMet((10, 20), None),
    ROUND,
    family.RoundJudged(3, 2, 1, 40, 0.5, -0.025, 0.03),
    family.StatisticsMeasured("distilled", (0, 1), (), 0.5),
    family.Evaluated(
        "federated",
        0.5,
        1.0,
        ((1, 2), (3, 4)),
        Measured("server", 10),
        family.OnClients(6, 0.5, (family.ClientAccuracy(0, "north", 6, 0.5),)),
    ),
    family.Judged(
        "distilled",
        "federated",
        0.5,
        6,
        0.1,
        0.2,
        "kept: distilled",
        (family.Candidate(0.0, 0.5, 0.0, 0.1), family.Candidate(0.5, 0.6, 0.1, 0.2)),
        (family.ClientJudgement(1, "south", 6, 0.5, 0.4, 0.6),),
        (Failure(0, "gone", "north"),),
        1.0,
    ),
    family.Scored(
        "selected",
        Outcomes.partly(6, 3).as_json(),
        (family.SiteOutcomes(1, "south", Outcomes.partly(6, 3).as_json()),),
    ),
    family.ImagesMade("common", 0, 1, 8, 5, 0.1, 2.0, "server", (4, 4), (), 0, 0),
    family.ImagesMade("dense", 0, 0, 8, 5, 0.1, 2.0),
    family.EpochDone(1, 0.5, None, 0, seconds=0.1),
    family.EpochDone(1, 0.5, 0.25, stage="fedftg", objective=2.0),
    family.Calibrated("bias", "predictions", 1, 3, 90, (0.5, -0.5)),
    family.Calibrated("head", "moments", classes=3, form="ridge", strength=0.1, temperature=2.0),
    family.TeacherTaken(3, 0.5),
    family.Scored("selected", {"images": 3}, (family.SiteOutcomes(0, "north", {"images": 3}),)),
    family.RoundJudged(3, 2, 1, 6, 0.5, -0.1, 0.2),
    family.OwnModels(
        2,
        6,
        0.5,
        0.6,
        2,
        1,
        (family.SiteGain(0, "north", 6, 0.5, 0.6, 2, 1, ((2, 1), (2, 1)), ((3, 0), (2, 1))),),
        (Failure(1, "gone"),),
        1.0,
    ),
    family.OwnLayersJudged(
        "head",
        "f00d",
        (family.OwnLayersOfSite(0, "", 6, 0.5, 0.6, 0.1, 0.2, True),),
        (Failure(1, "gone", "north"),),
        1.0,
    ),
    family.PrivacySpent(3.5, 1e-5, 4, 4, "client-fixed", 1.5, 0.25, None),
    family.RunEnded("failed", "the disk is full"),
]


def test_who_was_not_heard_is_warned_of_in_the_words_of_the_event() -> None:
    said = {type(event).__name__: list(event.warnings) for event in EVENTS if event.warnings}
    assert said == {
        "Judged": ["judgement: north did not judge: gone"],
        "OwnModels": ["own model: client 1 did not compare: gone"],
        "OwnLayersJudged": ["personal head: north did not judge: gone"],
    }


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_read_back_as_it_was_written(event: Event) -> None:
    line = json.dumps(json_value({"event": event.event, **to_json(event)}))
    assert from_json(json.loads(line)) == event


def test_every_kind_that_is_written_is_tried_above() -> None:
    assert {type(event) for event in EVENTS} == {k for k in Event.__subclasses__() if k.event}
    kinds = [kind.event for kind in Event.__subclasses__() if kind.event]
    assert len(set(kinds)) == len(kinds)


def test_keys_that_another_release_did_not_write_are_nothing() -> None:
    event = from_json({"event": "round", "round": 1, "phase": "federated", "accuracy": 0.5})
    assert isinstance(event, RoundDone)
    assert (event.accuracy, event.measured, event.seconds, event.failures) == (0.5, None, None, ())


def test_values_of_another_kind_are_nothing_and_without_its_number_a_round_is_none() -> None:
    wrong = {"event": "round", "round": 1, "accuracy": "high", "clients": 3, "failures": ["x"]}
    event = from_json(wrong)
    assert isinstance(event, RoundDone)
    assert (event.accuracy, event.clients, event.failures) == (None, (), ())
    assert from_json({**wrong, "round": None}) is None
    assert from_json({"event": "something new"}) is None


def test_a_sentence_says_what_is_known_and_no_more() -> None:
    assert ROUND.sentence(rounds=4) == (
        "federated round 2: accuracy 50.00 % on 6 held-out images of the clients, train loss "
        "2.0000, 3 clients, 1 dropped, 3.0 s, 2 of 4 rounds, 6.0 s left"
    )
    bare = from_json({"event": "round", "round": 5, "phase": "competition", "accuracy": None})
    assert bare is not None
    assert bare.sentence(rounds=4) == "competition round 5: accuracy not measured"


def test_what_is_recorded_reaches_file_ledger_log_and_listeners(
    tmp_path: Path, app_log: pytest.LogCaptureFixture
) -> None:
    class Follower(list[Event]):
        closed = False

        def __call__(self, event: Event) -> None:
            self.append(event)

        def close(self) -> None:
            self.closed = True

    follower, entered = Follower(), list[Event]()
    record = EventLog(tmp_path, 4, [follower])
    record.enter = entered.append
    sent = family.BytesSent("model", down=3)
    record(ROUND)
    position = record.position()
    record(sent)
    record(family.RunEnded("failed"))
    assert read_run(tmp_path).events == (ROUND, family.RunEnded("failed"))
    assert follower == entered == [ROUND, sent, family.RunEnded("failed")]
    said = [entry.getMessage() for entry in app_log.records]
    assert said == [ROUND.sentence(4)]
    # A resumed run: what the file keeps is told again to those who follow, and entered no more.
    opened = family.RunOpened(tmp_path, None, ())  # type: ignore[arg-type]
    record.open(opened, position)
    assert follower[3:] == [opened, ROUND] and len(entered) == 3
    record.close()
    assert follower.closed
