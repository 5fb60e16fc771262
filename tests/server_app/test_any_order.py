"""Fifty clients that are asked and answer in any order give the same run, bit for bit."""

import random

import pytest
import torch

from foundation.messages import gather

MANY = {
    "num_clients": 50,
    "train_samples": 800,
    "partition": "iid",
    "validation_share": 0.2,
    "num_server_rounds": 1,
    "evaluation": "both",
    "batch_norm": "measured",
    "post_training": "calibration,fedf2dg",
    "generation__images_per_client": 1,
    "generation__iterations": 1,
    "distillation__epochs": 1,
    "stages": "train,generate,distil",
}


@pytest.fixture
def in_disorder(monkeypatch):
    """Return a function after which every question is asked and answered in a drawn order."""
    exchange = gather.exchange
    asked: list[str] = []

    def begin(seed: int) -> list[str]:
        draw = random.Random(seed)

        def disorderly(grid, messages, timeout):
            messages = draw.sample(found := list(messages), k=len(found))
            asked.extend({message.metadata.message_type for message in messages})
            replies = list(exchange(grid, iter(messages), timeout))
            return iter(draw.sample(replies, k=len(replies)))

        monkeypatch.setattr(gather, "exchange", disorderly)
        return asked

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("place", ["server", "client"])
def test_the_order_in_which_clients_answer_changes_nothing(tiny_run, in_disorder, place):
    keys = {**MANY, "generation__place": place}
    orderly = tiny_run("orderly", **keys)
    asked = in_disorder(7)
    again = tiny_run("again", **keys)
    told = {"describe", "evaluation", "batch_norm", "class_statistics"}
    kinds = {"train"} | {f"query.{name}" for name in told}
    own = {"query.pseudo_images"} if place == "client" else set()
    assert set(asked) == kinds | own
    assert again.summary() == orderly.summary()
    assert again.events() == orderly.events()
    assert again.pseudo_data() == orderly.pseudo_data()
    assert all(torch.equal(again.model()[name], v) for name, v in orderly.model().items())
