"""What training ends with: early, with the best round, or with an average the clients prefer."""

import pytest
import torch
from safetensors.torch import load_file

from foundation.models import StateLayout
from foundation.models.aggregation import RunningAverage
from foundation.scores import Gain
from foundation.settings.configuration import ConfigurationError
from server_app import preflight
from server_app.checkpoints import CheckpointError
from server_app.judgement import Tally
from server_app.training_result import BestRound, TrainingResult

KEYS = {
    "strategy": "fedavg",
    "stages": "train",
    "validation_share": 0.3,
    "model": "cnn",
    "batch_norm": "averaged",
}


@pytest.fixture
def told(monkeypatch):
    """Have the clients say what a test wants of each round after the first: gained, lost."""

    def say(*found):
        answers = iter(found)

        def judged(self, state):
            genuine(self, state)
            gained, lost = next(answers)
            gain = Gain.of_counts(gained, lost, 27)
            tally = Tally(gain.value, gain.standard_error, 10 + gained - lost, 27)
            self._last = (tally, self._last[1])
            return self._last[0]

        monkeypatch.setattr(TrainingResult, "_judged", judged)

    genuine = TrainingResult._judged
    return say


def test_it_stops_after_rounds_without_a_gain_and_keeps_the_best(tiny_run, told):
    told((6, 1), (1, 2), (0, 3))
    run = tiny_run("early", num_server_rounds=9, patience=2, evaluation="clients", **KEYS)
    assert run.summary()["measured"]["selected"]["also_chose"]
    summary = run.summary()
    assert summary["rounds"] == 4
    judged = run.events("round_judged")
    assert [(event["round"], event["best"], event["waited"]) for event in judged] == [
        (2, 2, 0),
        (3, 2, 1),
        (4, 2, 2),
    ]
    (verdict,) = run.events("judgement")
    assert verdict["stage"] == "best_round" and verdict["before"] == "federated"
    assert verdict["gain"] == pytest.approx(3 / 27)
    assert "kept: round 2 of 4" in verdict["sentence"]
    assert summary["judged"]["selected"] == "best_round"
    kept, last = (
        load_file(run.directory / d / "model.safetensors") for d in ("model", "model-last")
    )
    assert any(not torch.equal(kept[name], last[name]) for name in kept)
    assert all(torch.equal(kept[name], value) for name, value in run.model().items())


def test_a_last_round_that_is_no_worse_is_kept(tiny_run, told):
    """A gain too small to start the waiting anew is a gain all the same."""
    told((6, 1), (2, 2))
    run = tiny_run("equal", num_server_rounds=3, patience=1, **KEYS)
    (verdict,) = run.events("judgement")
    assert verdict["step"] == 0 and "kept: round 3 of 3" in verdict["sentence"]
    assert run.summary()["judged"]["selected"] == "federated"
    assert "best_round" not in run.summary()["accuracy"]
    last = load_file(run.directory / "model-last" / "model.safetensors")
    assert all(torch.equal(last[name], value) for name, value in run.model().items())


def test_without_a_loss_all_rounds_are_run_and_the_last_is_kept(tiny_run, told):
    told((6, 1), (6, 1))
    run = tiny_run("late", patience=1, **KEYS)
    assert run.summary()["rounds"] == 3
    assert not run.events("judgement")
    kept, last = (
        load_file(run.directory / d / "model.safetensors") for d in ("model", "model-last")
    )
    assert all(torch.equal(kept[name], last[name]) for name in kept)


@pytest.mark.parametrize("kind", ["window", "geometric"])
def test_where_nobody_judges_the_average_is_the_result(tiny_run, kind, monkeypatch):
    seen = []
    add = RunningAverage.add
    monkeypatch.setattr(RunningAverage, "add", lambda self, s: seen.append(s) or add(self, s))
    keys = {**KEYS, "acceptance": "none"}
    run = tiny_run(kind, global_average=kind, global_average_rounds=2, **keys)
    assert len(seen) == 3
    weights = {"window": [0, 1 / 2, 1 / 2], "geometric": [1 / 7, 2 / 7, 4 / 7]}[kind]
    for name, value in run.model().items():
        expected = sum(w * state[name].double() for w, state in zip(weights, seen, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    assert run.summary()["accuracy"].keys() >= {"federated", "averaged"}


def test_judges_are_offered_the_average_with_statistics_of_its_own(tiny_run):
    keys = {**KEYS, "model": "resnet8", "global_average": "window"}
    run = tiny_run("judged", **keys)
    (measured,) = run.events("batch_norm")
    assert measured["stage"] == "averaged"
    (verdict,) = run.events("judgement")
    assert (verdict["stage"], verdict["before"]) == ("averaged", "federated")
    assert [candidate["step"] for candidate in verdict["candidates"]] == [0, 0.25, 0.5, 0.75, 1]


def test_killed_between_rounds_it_goes_on_to_the_same_result(tiny_run, monkeypatch):
    keys = {**KEYS, "patience": 2, "global_average": "window", "global_average_rounds": 2}
    whole = tiny_run("whole", num_server_rounds=4, **keys)
    after = TrainingResult.after_round

    class Killed(BaseException):
        pass

    def kill(self, server_round):
        if server_round == 3:
            raise Killed
        after(self, server_round)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingResult, "after_round", kill)
        with pytest.raises(Killed):
            tiny_run("parted", num_server_rounds=4, **keys)
    folder = str(whole.directory.parent / "parted")
    parted = tiny_run("parted", num_server_rounds=4, resume_from=folder, **keys)
    assert all(torch.equal(value, whole.model()[name]) for name, value in parted.model().items())
    assert parted.events() == whole.events()
    with pytest.raises(CheckpointError, match="training has ended, after 4 rounds"):
        tiny_run("parted", num_server_rounds=6, resume_from=folder, **keys)


def test_chance_is_the_expected_largest_of_as_many_draws():
    draws = torch.randn(20_000, 9, generator=torch.Generator().manual_seed(0))
    expected = float(draws.max(1).values.mean())
    assert BestRound(rounds=9).chance(0.02) == pytest.approx(0.02 * expected, rel=0.02)
    assert BestRound(rounds=1).chance(0.02) == 0


def test_a_window_is_as_large_as_its_models():
    layout = StateLayout(("w",), (), ())
    average = RunningAverage("window", 2, layout)
    for value in range(5):
        average.add({"w": torch.full((3,), float(value))})
    assert sum(v.numel() for n, v in average.memory().items() if n != "weight") == 6


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"patience": 2, "validation-share": 0.0}, "patience = 2 needs a validation-share"),
        ({"strategy": "local", "patience": 2}, "'local' has no global model: leave patience = 2"),
        ({"strategy": "local", "global-average": "window"}, "'window'"),
    ],
)
def test_what_nobody_could_choose_is_refused(keys, said):
    with pytest.raises(ConfigurationError, match=said):
        preflight.parse(keys)
