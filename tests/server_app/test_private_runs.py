"""Whole runs whose training is differentially private."""

import pytest

from foundation.settings.configuration import ConfigurationError
from strategies.privacy import epsilon_of

PRIVATE = {
    "strategy": "fedavg",
    "model": "resnet8-gn",
    "privacy__clipping": "server-fixed",
    "privacy__noise_multiplier": 0.5,
}


@pytest.mark.parametrize(
    ("clipping", "strategy", "model"),
    [("server-fixed", "fedavg", "resnet8-ws"), ("client-fixed", "fedprox", "resnet8-gn")],
)
def test_a_run_ends_when_its_budget_is_spent_and_says_what_it_gave_away(
    tiny_run, clipping, strategy, model
) -> None:
    budget = epsilon_of(0.5, 2, 1e-5) + 0.1
    keys = {"privacy__clipping": clipping, "strategy": strategy, "model": model}
    run = tiny_run("run", **{**PRIVATE, **keys}, privacy__epsilon=budget, num_server_rounds=3)
    summary = run.summary()
    assert (summary["status"], summary["rounds"], summary["dropped"]) == ("completed", 2, 0)
    assert summary["post_training"] == "none"
    told = summary["privacy"]
    assert told["epsilon"] == pytest.approx(epsilon_of(0.5, 2, 1e-5))
    assert (told["delta"], told["rounds"], told["budget"]) == (1e-5, 2, budget)
    (event,) = run.events("privacy")
    assert event["epsilon"] == told["epsilon"]
    assert [row["epsilon"] for row in run.events("round")][-1] == told["epsilon"]
    assert (
        f"ε = {told['epsilon']:.2f} at δ = 1e-05" in (run.directory / "model/README.md").read_text()
    )
    assert len(run.events("evaluation")) == 1  # the model of the last round that was paid for
    resumed = {**PRIVATE, **keys, "privacy__epsilon": budget, "resume_from": str(run.directory)}
    again = tiny_run("run", num_server_rounds=3, **resumed)
    assert again.summary()["rounds"] == 2


def test_a_resumed_run_has_not_forgotten_what_it_spent(tiny_run) -> None:
    first = tiny_run("first", **PRIVATE, num_server_rounds=1, stages="train")
    keys = {**PRIVATE, "stages": "train", "num_server_rounds": 2}
    second = tiny_run("second", resume_from=str(first.directory), **keys)
    assert second.summary()["privacy"]["epsilon"] == pytest.approx(epsilon_of(0.5, 2, 1e-5))


def test_running_statistics_are_refused(tiny_run) -> None:
    with pytest.raises(ConfigurationError, match="resnet8-gn"):
        tiny_run("run", **{**PRIVATE, "model": "resnet8"})
