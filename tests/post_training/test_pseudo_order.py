"""Which images are ordered, by the paper's rule and balanced over classes."""

import torch

from foundation.settings.configuration import RunConfiguration
from post_training import Settings
from post_training.pseudo_order import order_images

COUNTS = {0: [58, 1, 1], 1: [0, 0, 60], 2: [30, 0, 30]}


def settings(labels):
    return Settings.of(
        RunConfiguration.parse(
            {
                "generation.images-per-client": 20,
                "generation.iterations": 1,
                "generation.labels": labels,
            }
        )
    )


def made(trained, labels):
    data = order_images(trained, settings(labels), "common", 0)
    assert len(data) == 20 * len(trained.num_examples)
    return data


def test_a_class_that_is_rare_gets_images_only_if_labels_are_balanced(make_trained):
    trained = make_trained(counts=COUNTS)
    rare = {
        name: int((made(trained, name).labels == 1).sum()) for name in ("principle", "balanced")
    }
    assert rare["principle"] <= 1
    assert abs(rare["balanced"] - 20) <= 1


def test_only_clients_that_hold_a_class_are_asked_for_it(make_trained):
    data = made(make_trained(counts=COUNTS), "balanced")
    for client, counts in COUNTS.items():
        asked = data.labels[data.sources == client].bincount(minlength=3)
        assert asked.sum() > 0 and asked[torch.tensor(counts) == 0].sum() == 0


def test_where_no_counts_are_known_labels_are_even_already(make_trained):
    data, paper = made(make_trained(), "balanced"), made(make_trained(), "principle")
    assert torch.equal(data.labels, paper.labels)


def test_a_client_that_told_nothing_is_asked_for_all_classes(make_trained):
    counts = {0: [58, 1, 1], 1: [0, 0, 60]}
    data = made(make_trained(counts=counts), "balanced")
    assert data.labels[data.sources == 2].bincount(minlength=3).min() > 0
