from typing import Any

import pytest

from foundation.data import DataError, DataSet
from foundation.data.agreement import from_values, to_values


@pytest.mark.parametrize("dataset", ["digits", "cifar100", "tiny-imagenet"])
def test_what_the_server_says_is_what_the_client_reads(dataset: str) -> None:
    description = DataSet(dataset).describe()
    assert from_values(to_values(description)) == description


def test_a_message_without_a_description_is_none() -> None:
    assert from_values({"learning-rate": 0.1}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"data-classes": []},
        {"data-classes": ["0", "0"]},
        {"data-channels": 2},
        {"data-channels": 3},
        {"data-image-size": [8]},
        {"data-image-size": [0, 8]},
        {"data-mean": [float("nan")]},
        {"data-std": [0.0]},
        {"data-std": [float("inf")]},
        {"data-mean": "a"},
    ],
)
def test_what_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="the server's description of the data"):
        from_values({**to_values(DataSet("digits").describe()), **wrong})


def test_a_part_of_a_description_is_refused() -> None:
    values = to_values(DataSet("digits").describe())
    del values["data-std"]
    with pytest.raises(DataError, match="cannot be read"):
        from_values(values)
