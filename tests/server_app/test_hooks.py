"""The post-training hook: named, switched off, or replaced, by one line each."""

from __future__ import annotations

import torch

from server_app.hooks import HOOKS


def test_switched_off_by_one_key(tiny_run):
    run = tiny_run("run", strategy="fedavg", num_server_rounds=1, hook="none")
    assert run.summary()["accuracy"]["distilled"] is None
    assert [step[5:] for step in run.steps()] == ["train-0001"]
    assert not (run.directory / "pseudo_data").exists()


def test_another_one_is_one_line_in_the_table(tiny_run, monkeypatch):
    class Zero:
        """Sets the global model to zero, and looks at what a hook may look at."""

        def __call__(self, federation):
            assert federation.strategy.last_local_models() == [0, 1, 2]
            model = federation.global_model()
            state = {name: torch.zeros_like(v) for name, v in model.state_dict().items()}
            federation.set_global(state)
            federation.close_stage("zeroed")
            federation.commit("generate-00")

    monkeypatch.setitem(HOOKS, "zero", Zero)
    run = tiny_run("run", strategy="fedavg", num_server_rounds=1, hook="zero")
    assert all(not value.any() for value in run.model().values())
    assert [event["stage"] for event in run.events("evaluation")] == ["federated", "zeroed"]


def test_baselines_without_a_global_model_have_no_post_training(tiny_run, app_log):
    run = tiny_run("run", strategy="local", num_server_rounds=1)
    assert run.summary()["accuracy"]["distilled"] is None
    assert "no global model" in app_log.text
