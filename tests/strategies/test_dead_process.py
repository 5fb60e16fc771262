"""A killed process of a simulation: Flower hands it out for ever, so the run stops and says so."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message

from strategies import TooFewReplies


def test_the_round_is_kept_and_the_next_one_does_not_start(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="fedavg", min_successful_clients=1)

    def die(client, reply):
        if client != 2:
            return reply
        text = "ActorDiedError: …\nThe actor is dead because its worker process has died."
        error = Message(Error(0, text), reply_to=reply)
        error.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id
        return error

    run.round()
    run.grid.touch = die
    before = run.state
    run.round()
    assert run.strategy.outcome.clients == (0, 1, 3)
    assert run.state is not before
    with pytest.raises(TooFewReplies, match=r"process of a simulated client died.*resume-from"):
        run.round()
