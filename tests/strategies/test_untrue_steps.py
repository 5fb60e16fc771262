"""A client that says it made one step must not weigh a hundredfold."""

import pytest
import torch

from foundation.data import Batches, ImageData, Normalization
from foundation.models import StateLayout, build
from foundation.settings.configuration import RunConfiguration
from strategies import get
from tests.meeting import meeting

LIAR = 2


def says_one_step(client, reply):
    if client == LIAR:
        reply.content["metrics"]["local-steps"] = 1
    return reply


@pytest.mark.parametrize("clip", [0.0, 2.0])
@pytest.mark.parametrize("strategy", ["fednova", "scaffold"])
def test_the_liar_is_named_and_the_minimum_of_the_others_is_reached(
    laboratory, curved_clients, minimiser, strategy, clip
):
    """Believed, its steps of momentum 0.9 count 361 times: both strategies leave every bound."""
    honest = [client for index, client in enumerate(curved_clients) if index != LIAR]
    for client in curved_clients:
        client.steps = 5
    keys = {"momentum": 0.9, "learning_rate": 0.02, "clip_update_norm": clip}
    run = laboratory(curved_clients, strategy=strategy, **keys)
    run.grid.touch = says_one_step
    run.rounds(150)
    (failure,) = run.strategy.outcome.failures
    assert failure.client == LIAR
    assert "says that it made 1 local steps; 30 samples make 5" in failure.reason
    distance = float((run.state["weight"] - minimiser(honest)).norm())
    # FedNova's fixed point differs from the minimum by O(learning rate), SCAFFOLD's does not.
    assert distance < (0.2 if strategy == "fednova" else 1e-6)


@pytest.mark.parametrize("model", ["cnn", "resnet8"])
@pytest.mark.parametrize("samples", [2, 7, 8, 9, 16, 17, 100])
def test_the_server_expects_what_an_honest_client_does(model, samples, tmp_path):
    """With and without BatchNorm, which cannot train on a last batch of one image."""
    configuration = RunConfiguration.parse({"batch-size": 8, "local-epochs": 3, "num-clients": 1})
    shape = (1, 32, 32)
    classifier = build(model, classes=2, channels=1, image_size=shape[1:], seed=0)
    images = torch.zeros(samples, *shape, dtype=torch.uint8).numpy()
    batches = Batches(
        ImageData(images, torch.zeros(samples, dtype=torch.int64).numpy(), ("a", "b")),
        normalization=Normalization((0.5,), (0.5,)),
        batch_size=8,
        drop_singleton=classifier.has_batch_norm,
    )
    made = sum(len(list(batches.epoch(torch.Generator()))) for _ in range(3))
    strategy = get("fedavg").server(configuration, StateLayout.of(classifier), tmp_path, meeting(1))
    strategy.expected_examples = lambda client: samples
    assert strategy.expected_steps(0) == made


def test_the_pooled_set_is_everybodys(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="centralized")
    run.round()
    assert run.strategy.outcome.clients == (0,)
    pooled = sum(client.samples for client in curved_clients)
    assert run.strategy.expected_examples(0) == pooled
