"""MOON: the loss, the frozen models, and the previous model as the server keeps it."""

import math

import pytest
import torch

from foundation.models import build, cpu_state
from foundation.settings.configuration import RunConfiguration
from strategies.moon import PREVIOUS, MoonClient, contrastive_loss


def direct_loss(z, towards, away, temperature):
    """Equation 3 of Li et al. 2021, written out image by image."""
    total = 0.0
    for a, b, c in zip(z.tolist(), towards.tolist(), away.tolist(), strict=True):

        def cosine(u, v):
            dot = sum(p * q for p, q in zip(u, v, strict=True))
            return dot / math.sqrt(sum(p * p for p in u)) / math.sqrt(sum(q * q for q in v))

        near, far = math.exp(cosine(a, b) / temperature), math.exp(cosine(a, c) / temperature)
        total -= math.log(near / (near + far))
    return total / len(z)


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_loss_is_equation_3(count, temperature):
    torch.manual_seed(1)
    z, towards, away = torch.randn(3, count, 5, dtype=torch.float64)
    found = contrastive_loss(z, towards, away, temperature)
    assert float(found) == pytest.approx(direct_loss(z, towards, away, temperature), rel=1e-12)


def test_loss_pulls_to_the_global_model_and_away_from_the_previous_one():
    z = torch.tensor([[1.0, 0.0]])
    like, unlike = torch.tensor([[1.0, 0.1]]), torch.tensor([[-1.0, 0.1]])
    assert contrastive_loss(z, like, unlike, 0.5) < contrastive_loss(z, unlike, like, 0.5)


def test_loss_cannot_overflow_at_a_tiny_temperature():
    z = torch.tensor([[1.0, 0.0]])
    assert math.isfinite(float(contrastive_loss(z, -z, z, 1e-4)))


def test_term_is_the_constant_log_2_when_the_previous_model_is_the_global_one():
    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    other = torch.randn(4, 5, dtype=torch.float64)
    loss = contrastive_loss(z, other, other, 0.5)
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert float(torch.autograd.grad(loss, z)[0].abs().max()) < 1e-15


@pytest.fixture
def client():
    return MoonClient(RunConfiguration.parse({"strategy": "moon", "moon.mu": 2.0}))


@pytest.fixture
def model():
    return build("resnet8", classes=3, channels=1, image_size=8, projection_dim=16, seed=1)


def test_first_round_adds_nothing(client, model):
    client.begin_round(model, {})
    images = torch.randn(2, 1, 8, 8)
    assert client.extra_loss(images, model.embed(images)) is None


@pytest.mark.parametrize("count", [1, 4])
def test_extra_loss_is_mu_times_the_term_and_frozen_nets_stay_as_they_are(client, model, count):
    """Also for a batch of one image: the batch axis must survive."""
    previous = build("resnet8", classes=3, channels=1, image_size=8, projection_dim=16, seed=2)
    model.train()
    client.begin_round(model, {PREVIOUS: cpu_state(previous)})
    frozen = [client._global, client._previous]
    before = [cpu_state(net) for net in frozen]
    images = torch.randn(count, 1, 8, 8)
    model.eval()  # one image cannot be normalised by its own batch
    embedding = model.embed(images)
    assert embedding.shape == (count, 16)
    with torch.no_grad():
        towards, away = model.embed(images), previous.eval().embed(images)
    loss = client.extra_loss(images, embedding)
    assert float(loss.detach()) == pytest.approx(
        2.0 * direct_loss(embedding.detach(), towards, away, 0.5), rel=1e-5
    )
    loss.backward()
    for net, then in zip(frozen, before, strict=True):
        assert not net.training
        for name, value in cpu_state(net).items():
            assert torch.equal(value, then[name]), name
        assert all(parameter.grad is None for parameter in net.parameters())
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_frozen_global_model_does_not_move_with_the_one_that_is_trained(client, model):
    previous = cpu_state(model)
    client.begin_round(model, {PREVIOUS: previous})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    for name, value in cpu_state(client._global).items():
        assert torch.equal(value, previous[name]), name


def sent_previous(laboratory):
    """Run a round and return what every sampled client was sent as its previous model."""
    seen = {}
    push = laboratory.grid.push_messages

    def watch(messages):
        messages = list(messages)
        for message in messages:
            if message.metadata.message_type == "train":
                record = message.content.array_records.get(PREVIOUS)
                seen[message.metadata.dst_node_id - 100] = record and record.to_torch_state_dict()
        return push(messages)

    laboratory.grid.push_messages = watch
    laboratory.round()
    laboratory.grid.push_messages = push
    return seen


def test_previous_model_is_the_clients_last_one_and_survives_a_restart(laboratory, curved_clients):
    """Under sampling, "last" is the last round the client took part in, not the last round."""
    moon = laboratory(curved_clients, strategy="moon", fraction_train=0.5, moon__mu=0.0)
    last = {}
    moon.grid.touch = lambda client, reply: (
        last.__setitem__(client, reply.content["arrays"].to_torch_state_dict()) or reply
    )
    gaps = 0
    for server_round in range(12):
        known = dict(last)
        rounds = dict(moon.strategy.local_models.versions)
        seen = sent_previous(moon)
        assert len(seen) == 2
        for client, previous in seen.items():
            gaps += rounds.get(client, server_round) != server_round
            if client not in known:
                assert previous is None
            else:
                assert torch.equal(previous["weight"], known[client]["weight"])
        if server_round == 5:
            versions = moon.strategy.versions()
            moon.strategy = moon.new_strategy()
            moon.strategy.declare(versions)
    assert gaps > 0, "no client ever missed a round: the test shows nothing"
    assert set(last) == {0, 1, 2, 3}


def test_a_client_that_was_dropped_keeps_its_previous_model(laboratory, curved_clients):
    moon = laboratory(curved_clients, strategy="moon")
    moon.round()
    before = moon.strategy.local_models.read(1)["weight"]
    moon.grid.touch = lambda client, reply: None if client == 1 else reply
    moon.round()
    moon.grid.touch = None
    assert torch.equal(sent_previous(moon)[1]["weight"], before)
