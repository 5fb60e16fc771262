"""Parameters that are not trained, such as a pretrained encoder's, stay bit for bit."""

import pytest
import torch
from flwr.app import ArrayRecord

from foundation.models import StateLayout

STRATEGIES = ["fedavg", "fedprox", "scaffold", "fednova", "moon", "local", "centralized"]
FLOWERS = [
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "fedavgm",
    "qfedavg",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
    "multikrum",
    "bulyan",
]
KEYS = {"momentum": 0.9, "weight_decay": 0.01, "learning_rate": 0.05, "clip_update_norm": 1.0}
KEYS["robust__malicious_clients"] = 0  # with one, krum and bulyan would need more than four clients


class Scaled(torch.nn.Module):
    """Predicts ⟨scale·image, w⟩; only w is trained, and it comes behind what is frozen."""

    def __init__(self, frozen=True):
        super().__init__()
        scale = torch.full((3,), 2.0, dtype=torch.float64)
        if frozen:
            self.scale = torch.nn.Parameter(scale, requires_grad=False)
        else:
            self.scale = scale
        self.weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def embed(self, images):
        return images * self.scale

    def classify(self, features):
        return features @ self.weight


@pytest.mark.parametrize("name", STRATEGIES + FLOWERS)
def test_stay_and_the_others_move_as_if_they_were_constants(laboratory, curved_clients, name):
    plain = laboratory(curved_clients, strategy=name, model=Scaled(frozen=False), **KEYS)
    plain.rounds(3)
    run = laboratory(curved_clients, strategy=name, model=Scaled(), **KEYS)
    begin = {key: value.clone() for key, value in run.state.items()}
    run.rounds(3)
    assert run.strategy.outcome.failures == ()
    assert torch.equal(run.state["scale"], begin["scale"])
    assert torch.equal(run.state["weight"], plain.state["weight"])
    local = run.strategy.local_models.read(0)
    assert torch.equal(local["scale"], begin["scale"])
    assert not torch.equal(local["weight"], begin["weight"])


def test_have_no_control(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="scaffold", model=Scaled(), **KEYS)
    run.rounds(2)
    assert set(run.strategy.control) == set(run.strategy.client_control(0)) == {"weight"}


@pytest.mark.parametrize("name", STRATEGIES)
def test_nobody_can_move_them(laboratory, curved_clients, name):
    def move(client, reply):
        if client == 0:
            state = dict(reply.content["arrays"].to_torch_state_dict())
            joint = next(iter(state))
            changed = state[joint].clone()
            changed[0] += 1e-3  # the first entry is the scale's
            reply.content["arrays"] = ArrayRecord({joint: changed})
        return reply

    run = laboratory(curved_clients, strategy=name, model=Scaled(), **KEYS)
    begin = run.state["scale"].clone()
    run.grid.touch = move
    if name == "centralized":
        with pytest.raises(Exception, match="'scale' is frozen, and was changed"):
            run.round()
        return
    run.round()
    (failure,) = run.strategy.outcome.failures
    assert failure.client == 0
    assert "'scale' is frozen" in failure.reason
    assert torch.equal(run.state["scale"], begin)


def test_the_layout_names_them_apart():
    layout = StateLayout.of(Scaled())
    assert (layout.parameters, layout.frozen) == (("weight",), ("scale",))
    assert not layout.float_buffers and not layout.integer_buffers
