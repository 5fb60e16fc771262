"""A run that is killed at any step goes on to bitwise the same result."""

from __future__ import annotations

import pytest
import torch

from server_app.checkpoints import CheckpointError
from server_app.federation import Federation

STEPS = 3 + 2 + 1 + 2 * 3


class Killed(BaseException):
    """Like a signal: no handler of the app's own catches it."""


@pytest.fixture
def kill_at_every_step(monkeypatch):
    """Return a function that makes every commit die once, before or after it took effect."""
    commit = Federation.commit

    def install(moment):
        died = set()

        def dying(federation, step):
            first = step not in died
            died.add(step)
            if moment == "before" and first:
                raise Killed(step)
            commit(federation, step)
            if moment == "after" and first:
                raise Killed(step)

        monkeypatch.setattr(Federation, "commit", dying)
        return died

    yield install
    monkeypatch.setattr(Federation, "commit", commit)


@pytest.mark.parametrize(
    ("strategy", "moment"), [("scaffold", "before"), ("scaffold", "after"), ("moon", "before")]
)
def test_killed_at_every_step_it_ends_like_an_uninterrupted_run(
    tiny_run, result_in, tmp_path, kill_at_every_step, strategy, moment
):
    keys = {
        "strategy": strategy,
        "fraction_train": 0.67,
        "generation__batches": 2,
        "competition__rounds": 2,
    }
    whole = tiny_run("whole", **keys)
    died = kill_at_every_step(moment)
    deaths = 0
    resume = {}
    while True:
        try:
            parted = tiny_run("parted", **keys, **resume)
            break
        except Killed:
            deaths += 1
            assert not (tmp_path / "parted" / "summary.json").exists()
            resume = {"resume_from": str(tmp_path / "parted")}
    assert deaths == len(died) == STEPS
    assert parted.steps() == whole.steps()
    for name, value in whole.model().items():
        assert torch.equal(parted.model()[name], value), name
    assert parted.events() == whole.events()
    # A server that was restarted asks for label counts again, and counts their bytes again.
    for run in (parted, whole):
        run.facts = run.summary()
        del run.facts["traffic"]["label counts"]
    assert parted.facts == whole.facts
    assert parted.pseudo_data() == whole.pseudo_data()


def test_total_time_counts_what_was_done_before_the_kill(tiny_run, tmp_path, kill_at_every_step):
    import json

    kill_at_every_step("after")
    resume = {}
    while True:
        try:
            run = tiny_run("run", strategy="fedavg", **resume)
            break
        except Killed:
            resume = {"resume_from": str(tmp_path / "run")}
    seconds = json.loads((run.directory / "summary.json").read_text())["seconds"]
    stages = ("federated", "generation", "distillation", "competition")
    assert seconds["total"] >= sum(seconds[stage] for stage in stages)


def test_resuming_a_finished_run_changes_nothing(tiny_run, tmp_path):
    first = tiny_run("run", strategy="scaffold", stages="train")
    model, events, summary = first.model(), first.events(), first.summary()
    again = tiny_run("run", strategy="scaffold", stages="train", resume_from=str(tmp_path / "run"))
    assert all(torch.equal(again.model()[name], value) for name, value in model.items())
    assert (again.events(), again.summary()) == (events, summary)


def test_more_rounds_can_be_added_to_a_trained_run(tiny_run, tmp_path):
    """num-server-rounds binds the post-training stages only."""
    whole = tiny_run("whole", strategy="scaffold", stages="train", num_server_rounds=4)
    tiny_run("run", strategy="scaffold", stages="train", num_server_rounds=2)
    longer = tiny_run(
        "run",
        strategy="scaffold",
        stages="train",
        num_server_rounds=4,
        resume_from=str(tmp_path / "run"),
    )
    assert all(torch.equal(longer.model()[n], value) for n, value in whole.model().items())
    assert longer.events("round") == whole.events("round")


def test_resumed_into_another_directory_leaves_the_first_as_it_was(tiny_run, tmp_path):
    first = tiny_run("first", strategy="scaffold", stages="train", num_server_rounds=2)
    files = {
        path: path.read_bytes() for path in sorted(first.directory.rglob("*")) if path.is_file()
    }
    whole = tiny_run("whole", strategy="scaffold", num_server_rounds=2)
    second = tiny_run(
        "second", strategy="scaffold", num_server_rounds=2, resume_from=str(tmp_path / "first")
    )
    assert {p: p.read_bytes() for p in sorted(first.directory.rglob("*")) if p.is_file()} == files
    assert all(torch.equal(second.model()[n], value) for n, value in whole.model().items())
    assert second.events() == whole.events()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"strategy": "fedavg"}, "strategy = 'fedavg' here, 'scaffold' there"),
        ({"model": "cnn"}, "model = 'cnn' here, "),
        ({"seed": 3}, "seed = 3 here, 0 there"),
        ({"learning_rate": 0.1}, "learning-rate = 0.1 here, 0.05 there"),
        ({"num_clients": 2}, "num-clients = 2 here, 3 there"),
        ({"dirichlet_alpha": 0.5}, "dirichlet-alpha = 0.5 here, 1.0 there"),
    ],
)
def test_other_settings_are_refused_by_name_before_any_work(tiny_run, tmp_path, change, named):
    tiny_run("run", strategy="scaffold", stages="train", num_server_rounds=1)
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(CheckpointError) as error:
        tiny_run(
            "run",
            **{"strategy": "scaffold", "num_server_rounds": 1, **change},
            resume_from=str(tmp_path / "run"),
        )
    assert named in str(error.value)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before


def test_settings_of_later_stages_may_still_change(tiny_run, tmp_path):
    tiny_run("run", strategy="fedavg", stages="train", num_server_rounds=1, hook="none")
    run = tiny_run(
        "run",
        strategy="fedavg",
        num_server_rounds=1,
        generation__iterations=2,
        distillation__weight=0.5,
        resume_from=str(tmp_path / "run"),
    )
    assert run.events("generation")[0]["iterations"] == 2


def test_a_run_that_failed_can_be_resumed(tiny_run, tmp_path, monkeypatch):
    """Clients that fail below min-successful-clients stop the run; what was done stays usable."""
    from simulation.local_grid import LocalGrid
    from strategies import TooFewReplies

    whole = tiny_run("whole", strategy="scaffold", stages="train")
    reply = LocalGrid._reply
    trained = []

    def failing(grid, message):
        if message.metadata.message_type == "train":
            trained.append(1)
            if len(trained) > 4:  # in the second round
                from flwr.app import Error, Message

                return Message(Error(2, "RuntimeError: disk on fire"), reply_to=message)
        return reply(grid, message)

    monkeypatch.setattr(LocalGrid, "_reply", failing)
    with pytest.raises(TooFewReplies, match=r"round 2: 1 of 3.*disk on fire"):
        tiny_run("run", strategy="scaffold", stages="train")
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.setattr(LocalGrid, "_reply", reply)
    run = tiny_run("run", strategy="scaffold", stages="train", resume_from=str(tmp_path / "run"))
    assert all(torch.equal(run.model()[n], value) for n, value in whole.model().items())
    assert run.events() == whole.events()
