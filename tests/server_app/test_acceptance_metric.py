"""acceptance-metric in whole runs: what is asked, what is told, and what is refused."""

import pytest

from foundation.scores import METRICS
from foundation.settings.configuration import ConfigurationError, key_table
from server_app import preflight

KEYS = {"validation_share": 0.3, "stages": "train,generate,distil", "strategy": "fedavg"}


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("balanced-accuracy", "points in balanced accuracy"), ("log-loss", "in log loss")],
)
def test_a_run_is_judged_by_it_and_says_so(tiny_run, metric, unit):
    run = tiny_run("run", **KEYS, acceptance_metric=metric, patience=2)
    (*_, told) = run.summary()["judged"]["verdicts"]
    assert unit in told["sentence"] and told["metric"] == metric
    assert {event["metric"] for event in run.events("round_judged")} == {metric}
    assert {event["metric"] for event in run.events("judgement")} == {metric}


def test_by_default_nothing_more_is_sent_or_said(tiny_run):
    run = tiny_run("run", **KEYS)
    assert "metric" not in run.events("judgement")[0]
    other = tiny_run("other", **KEYS, acceptance_metric="log-loss")
    sent, more = (r.summary()["traffic"]["evaluation"]["bytes_up"] for r in (run, other))
    # Two numbers of 8 bytes for each of five candidates from each of three clients.
    assert more == sent + 2 * 8 * 5 * 3


def test_balanced_accuracy_needs_answers_by_class():
    with pytest.raises(ConfigurationError, match="needs the clients' answers by class"):
        preflight.parse({"acceptance-metric": "balanced-accuracy", "label-counts": "uniform"})
    preflight.parse({"acceptance-metric": "log-loss", "label-counts": "uniform"})


def test_the_key_takes_the_metrics_that_there_are() -> None:
    (info,) = [info for name, _, info in key_table() if name == "acceptance-metric"]
    assert info.choices == tuple(METRICS)
