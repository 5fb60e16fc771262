"""What is written into a message comes out of it, is counted, and nothing else is believed."""

import math

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from foundation.messages.content import Content, Received, payload_bytes
from foundation.messages.records import InvalidContent

STATE = {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(2), "bias": torch.ones(2)}


@pytest.mark.parametrize("joined", [True, False])
def test_tensors_and_numbers_arrive_and_are_counted(joined):
    sent = Content({"arrays": STATE}, {"n": 3, "loss": [0.5, 1.5]}, {"kind": "hard"}, joined)
    records = sent.records()
    found = Received(records)
    state = found.state("arrays", STATE)
    assert all(torch.equal(state[name], value) for name, value in STATE.items())
    assert found.whole_number("n", 0, 3) == 3
    assert found.losses("loss", 2) == [0.5, 1.5]
    assert found.setting("kind") == "hard" and found.setting("other", 7) == 7
    # Eight floats of four bytes, one whole number of eight, and three numbers: no headers or names.
    assert payload_bytes(records) == 8 * 4 + 8 + 3 * 8


@pytest.mark.parametrize("shape", [(2,), (10**9, 10**9), (0,)])
@pytest.mark.parametrize("dtype", ["nonsense", "float64"])
def test_what_nobody_asked_for_counts_no_more_than_it_brings(dtype, shape):
    array = Array(dtype, shape, "numpy.ndarray", b"123")
    assert payload_bytes(RecordDict({"uninvited": ArrayRecord({"a": array})})) in (0, 3)


def test_one_array_for_each_type_only_where_tensors_are_joined():
    counts = [len(Content({"a": STATE}, joined=joined).records()["a"]) for joined in (True, False)]
    assert counts == [2, 3]


@pytest.mark.parametrize(
    "numbers",
    [{}, {"n": -1}, {"n": 4}, {"n": 1.0}, {"n": [1]}, {"n": math.nan}, {"m": 1}],
    ids=str,
)
def test_a_whole_number_out_of_its_range_is_refused(numbers):
    with pytest.raises(InvalidContent):
        Received(RecordDict({"metrics": MetricRecord(numbers)})).whole_number("n", 0, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0]], ids=str)
def test_a_number_that_is_none_is_refused(value):
    with pytest.raises(InvalidContent, match="objective"):
        Received(RecordDict({"metrics": MetricRecord({"objective": value})})).number("objective")


@pytest.mark.parametrize(
    "content",
    [{}, {"metrics": ConfigRecord({"n": 1}), "arrays": ConfigRecord({"weight": 1.0})}],
    ids=["nothing", "records of another kind"],
)
def test_what_is_missing_is_named(content):
    received = Received(RecordDict(content))
    with pytest.raises(InvalidContent, match="lacks its numbers"):
        received.whole_numbers("n", 1, 9)
    with pytest.raises(InvalidContent, match="lacks 'arrays'"):
        received.state("arrays", STATE)
    assert received.setting("kind") is None


def test_a_state_of_other_names_is_refused():
    content = RecordDict({"arrays": ArrayRecord({"other": torch.ones(2)})})
    with pytest.raises(InvalidContent, match="names are not those expected"):
        Received(content).state("arrays", STATE)
