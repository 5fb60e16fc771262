"""baseline=local in whole runs: what joining gained, in the summary, whoever was interrupted."""

import pytest

from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from server_app.checkpoints import BASELINE
from server_app.run import Run

KEYS = {"baseline": "local", "validation_share": 0.3, "stages": "train", "strategy": "fedavg"}


def test_a_federation_of_one_site_gains_nothing(tiny_run):
    """Averaging one model changes nothing, so that the site's own model is the federation's."""
    told = tiny_run("one", **KEYS, num_clients=1, train_samples=60).summary()["own_models"]
    assert (told["gained"], told["lost"]) == (0, 0)
    assert told["own"] == told["joined"] > 0.2
    assert told["rounds"] == 3


def test_without_rounds_neither(tiny_run, tmp_path):
    keys = {**KEYS, "num_clients": 1, "train_samples": 60}
    tiny_run("trained", **{**keys, "baseline": "none"})
    head = {"num_server_rounds": 0, "initial_weights": str(tmp_path / "trained")}
    head |= {"post_training": "head", "stages": "train,generate,distil,compete"}
    # A single form: among several, the federation's sites may prefer another than the first.
    head |= {"head__of": "nearest-mean", "class_statistics_minimum": 1}
    told = tiny_run("head", **{**keys, **head}).summary()["own_models"]
    assert (told["gained"], told["lost"], told["rounds"]) == (0, 0, 0)
    assert told["own"] == told["joined"] > 0.2


def test_interrupted_it_is_asked_again_and_not_twice(tiny_run, tmp_path, monkeypatch):
    whole = tiny_run("whole", **KEYS)
    assert whole.events("own_models") == [{"event": "own_models", **whole.summary()["own_models"]}]
    commit = Run.commit

    def dying(self, step):
        if step == BASELINE:
            raise KeyboardInterrupt
        commit(self, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "commit", dying)
        tiny_run("parted", **KEYS)
    parted = tiny_run("parted", **KEYS, resume_from=str(tmp_path / "parted"))
    assert parted.events() == whole.events()
    assert parted.summary() == whole.summary()
    # A run that had none before can be asked for it when it is done.
    later = tiny_run("later", **{**KEYS, "baseline": "none"})
    assert later.summary()["own_models"] is None
    later = tiny_run("later", **KEYS, resume_from=str(tmp_path / "later"))
    assert later.summary() == whole.summary()


def test_a_resumed_run_tells_none_that_is_unwanted_or_of_an_earlier_model(tiny_run, tmp_path):
    keys = {**KEYS, "num_server_rounds": 1}
    once = tiny_run("run", **keys).summary()["own_models"]
    again = {"resume_from": str(tmp_path / "run"), "output_dir": str(tmp_path / "run")}
    grown = tiny_run("run", **{**keys, **again, "num_server_rounds": 2})
    assert [told["rounds"] for told in grown.events("own_models")] == [2]
    assert grown.summary()["own_models"]["rounds"] == 2 and once["rounds"] == 1
    without = tiny_run("run", **{**keys, **again, "num_server_rounds": 2, "baseline": "none"})
    assert without.summary()["own_models"] is None and not without.events("own_models")


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"strategy": "local"}, "no global model: leave baseline"),
        ({"validation-share": 0.0}, "validation-share above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(keys, match):
    with pytest.raises(ConfigurationError, match=match):
        preflight.parse({"baseline": "local", **keys})


def test_on_a_frozen_encoder_neither(tiny_run, tmp_path):
    """Features that are kept stand for the images, in training as in the comparison."""
    keys = {**KEYS, "num_clients": 1, "train_samples": 60}
    tiny_run("trained", **{**keys, "baseline": "none"})
    frozen = {"freeze": "encoder", "initial_weights": str(tmp_path / "trained")}
    told = tiny_run("frozen", **{**keys, **frozen}).summary()["own_models"]
    assert (told["gained"], told["lost"]) == (0, 0)
    assert told["own"] == told["joined"] > 0.2


def test_it_starts_from_the_sites_own_head_where_the_federation_starts_from_its(tiny_run, tmp_path):
    keys = {**KEYS, "num_clients": 1, "train_samples": 60, "strategy": "fedavg"}
    tiny_run("trained", **{**keys, "baseline": "none"})
    start = {"initial_head": "closed-form", "initial_weights": str(tmp_path / "trained")}
    start |= {"head__of": "nearest-mean", "class_statistics_minimum": 1}
    told = tiny_run("head", **{**keys, **start}).summary()["own_models"]
    assert abs(told["gained"] - told["lost"]) <= 1 and told["own"] > 0.2
