"""A run under one of Flower's strategies is killed, and goes on to bitwise the same model."""

import pytest
import torch

from server_app.rounds import Rounds


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

    carry_out = Rounds.carry_out

    def killed_in_the_third(rounds, server_round, phase):
        if server_round == 3:
            raise Killed
        carry_out(rounds, server_round, phase)

    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "carry_out", killed_in_the_third)
        with pytest.raises(Killed):
            tiny_run("parted", **keys)
    parted = tiny_run("parted", **keys, resume_from=str(tmp_path / "parted"))
    assert parted.steps() == whole.steps()
    for name, value in whole.model().items():
        assert torch.equal(parted.model()[name], value), name
