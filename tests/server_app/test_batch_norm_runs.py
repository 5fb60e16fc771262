"""Whole runs with BatchNorm statistics that the clients measure, or leave alone."""

import pytest
import torch

SETTINGS = {"post_training": "none", "strategy": "fedavg", "num_server_rounds": 2}


@pytest.fixture
def averaged(tiny_run):
    return tiny_run("averaged", **SETTINGS)


def statistics(run):
    return {name: value for name, value in run.model().items() if "running" in name}


def test_measured_statistics_belong_to_the_model_that_is_kept(tiny_run, averaged):
    measured = tiny_run("measured", batch_norm="measured", **SETTINGS)
    for name, value in averaged.model().items():
        same = torch.equal(value, measured.model()[name])
        assert same is ("running" not in name), name
    (event,) = measured.events("batch_norm")
    assert event["clients"] == [0, 1, 2]
    assert event["failures"] == []
    # The result that is reported is that of the model that is kept.
    (evaluation,) = measured.events("evaluation")
    assert measured.summary()["accuracy"]["federated"] == evaluation["accuracy"]
    assert measured.summary()["traffic"]["batch norm"]["bytes_up"] > 0


def test_frozen_statistics_stay_from_their_round_on(tiny_run):
    early = tiny_run("early", batch_norm="frozen", batch_norm_frozen_from=1, **SETTINGS)
    for name, value in statistics(early).items():
        start = torch.ones_like(value) if name.endswith("var") else torch.zeros_like(value)
        # No round has moved what the initial model has.
        torch.testing.assert_close(value, start)
    late = tiny_run("late", batch_norm="frozen", **SETTINGS)
    one = tiny_run("one", **{**SETTINGS, "num_server_rounds": 1})
    for name, value in statistics(late).items():
        torch.testing.assert_close(value, statistics(one)[name])
