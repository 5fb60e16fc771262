"""A run under one of Flower's strategies is killed, and goes on to bitwise the same model."""

from __future__ import annotations

import pytest
import torch

from server_app.federation import Federation


class Killed(BaseException):
    """Like a signal: no handler of the app's own catches it."""


@pytest.mark.parametrize("strategy", ["fedadam", "fedavgm"])
def test_it_resumes_with_what_the_strategy_remembers(tiny_run, tmp_path, monkeypatch, strategy):
    keys = {
        "strategy": strategy,
        "num_clients": 2,
        "train_samples": 40,
        "num_server_rounds": 3,
        "stages": "train",
    }
    whole = tiny_run("whole", **keys)

    train_round = Federation.train_round

    def killed_in_the_third(federation, server_round, phase):
        if server_round == 3:
            raise Killed
        train_round(federation, server_round, phase)

    with monkeypatch.context() as patch:
        patch.setattr(Federation, "train_round", killed_in_the_third)
        with pytest.raises(Killed):
            tiny_run("parted", **keys)
    parted = tiny_run("parted", **keys, resume_from=str(tmp_path / "parted"))
    assert parted.steps() == whole.steps()
    for name, value in whole.model().items():
        assert torch.equal(parted.model()[name], value), name
