"""Federated averaging with nothing around it: no messages, no checks, no checkpoints, no Flower."""

from dataclasses import dataclass, field
from typing import Self

import torch

from benchmarks.measure import now
from client_app.site import Site
from client_app.training import train_locally
from foundation.data import Description
from foundation.models import Classifier, State, cpu_state, load_state
from foundation.models.evaluation import Evaluator
from foundation.seeds import training_generator
from foundation.settings.configuration import RunConfiguration
from strategies import get, shared_model


@dataclass
class BareFederation:
    """The clients and the models of a federation.

    Parameters
    ----------
    description : Description
        Of the images.
    sites : list of Site
        The clients.
    model : Classifier
        Holds the global model, on the device.
    evaluate : Evaluator
        Measures a model on the test set.
    local_states : list of State
        The clients' models of the last round.
    seconds : float
        Of the rounds.
    """

    description: Description
    sites: list[Site]
    model: Classifier
    evaluate: Evaluator
    local_states: list[State] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, configuration: RunConfiguration) -> Self:
        """Set up what a run of this configuration begins with."""
        clients = configuration.num_clients
        sites = [
            Site.of(configuration, {"partition-id": client, "num-partitions": clients}, {})
            for client in range(clients)
        ]
        description = configuration.data_set.describe()
        device = sites[0].device
        test = configuration.data_set.load("test")
        evaluate = Evaluator(test, description.normalization, device)
        model = shared_model(configuration, description)
        return cls(description, sites, model.to(device), evaluate)


def federated_averaging(configuration: RunConfiguration) -> BareFederation:
    """Train, average and evaluate as a run with the strategy ``fedavg`` does."""
    federation = BareFederation.of(configuration)
    sites, state = federation.sites, cpu_state(federation.model)
    algorithm = get("fedavg").client(configuration)
    start = now()
    for server_round in range(1, configuration.num_server_rounds + 1):
        total = sum(site.batches().samples for site in sites)
        mean = {name: torch.zeros_like(value) for name, value in state.items()}
        federation.local_states = []
        for client, site in enumerate(sites):
            model = load_state(site.model(), state)
            generator = training_generator(configuration.seed, server_round, client)
            train_locally(
                model, site.batches(), algorithm, generator=generator, autocast=site.autocast()
            )
            share = site.batches().samples / total
            local = cpu_state(model)
            federation.local_states.append(local)
            for name, value in local.items():
                if value.is_floating_point():
                    mean[name].add_(value, alpha=share)
        state = mean
        federation.evaluate(load_state(federation.model, state))
    federation.seconds = now() - start
    return federation
