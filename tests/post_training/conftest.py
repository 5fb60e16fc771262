"""A federation of plain states: random local models, and nobody to ask."""

import pytest
import torch

from foundation.models import build, cpu_state
from post_training.library import TrainedModels
from post_training.trained import Inputs

CLASSES, SHAPE = 3, (1, 8, 8)


def random_state(seed):
    torch.manual_seed(seed)
    return cpu_state(build("cnn", channels=1, image_size=(8, 8), classes=CLASSES))


@pytest.fixture
def make_trained():
    """Return a function that builds one, with anything of it replaced."""

    def make(clients=3, **other):
        return TrainedModels(
            build("cnn", channels=1, image_size=(8, 8), classes=CLASSES),
            random_state(9),
            {client: random_state(client) for client in range(clients)},
            {client: 10 + client for client in range(clients)},
            Inputs(SHAPE, CLASSES),
            **other,
        )

    return make
