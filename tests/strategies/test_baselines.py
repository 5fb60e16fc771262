"""The two baselines of every table: each client alone, and all data pooled."""

import pytest
import torch

from foundation.settings.configuration import ConfigurationError, RunConfiguration


def test_local_only_clients_never_learn_from_each_other(laboratory, curved_clients):
    """Every client reaches its own minimum; the global model stays what it was."""
    run = laboratory(curved_clients, strategy="local", learning_rate=0.2)
    run.rounds(60)
    assert float(run.state["weight"].abs().max()) == 0.0
    for index, client in enumerate(curved_clients):
        own = torch.linalg.lstsq(client.images, client.targets).solution
        torch.testing.assert_close(
            run.strategy.local_models.read(index)["weight"], own, rtol=0, atol=1e-9
        )


def test_local_only_is_measured_as_the_mean_over_clients(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="local")
    run.rounds(2)
    measured = run.strategy.evaluate(
        run.state, lambda state: {"accuracy": float(state["weight"][0]), "loss": 1.0}
    )
    weights = [float(run.strategy.local_models.read(i)["weight"][0]) for i in range(4)]
    assert measured == pytest.approx({"accuracy": sum(weights) / 4, "loss": 1.0})


def test_local_only_under_sampling_continues_a_clients_own_model(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="local", fraction_train=0.5, learning_rate=0.2)
    run.rounds(150)
    for index, client in enumerate(curved_clients):
        own = torch.linalg.lstsq(client.images, client.targets).solution
        torch.testing.assert_close(
            run.strategy.local_models.read(index)["weight"], own, rtol=0, atol=1e-9
        )


def test_centralized_asks_one_client_for_all_data(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="centralized")
    run.rounds(2)
    assert run.strategy.outcome.clients == (0,)
    assert not run.strategy.has_global_model


@pytest.fixture
def site():
    from client_app.site import Site

    def build(node, **keys):
        values = {name.replace("_", "-"): value for name, value in keys.items()}
        return Site.of(RunConfiguration.parse({"strategy": "centralized", **values}), node, {})

    return build


def test_pooled_data_is_what_the_clients_hold_together(site):
    """Also of a subset, and with the clients' wrong labels: else the bound is of another task."""
    keys = {
        "num_clients": 4,
        "train_samples": 200,
        "dirichlet_alpha": 1.0,
        "label_noise": "symmetric",
        "label_noise_rate": 0.5,
    }
    for share, samples in ((0.0, 200), (0.2, 160)):
        keys["validation_share"] = share
        parts = [site({"partition-id": i, "num-partitions": 4}, **keys) for i in range(4)]
        pooled = parts[0].batches(pooled=True)
        assert pooled.samples == sum(len(part.data()) for part in parts)
        assert abs(pooled.samples - samples) <= (20 if share else 0)
    together = torch.cat([torch.from_numpy(part.data().labels) for part in parts])
    assert torch.equal(pooled.labels.sort().values, together.sort().values)


def test_a_client_with_data_of_its_own_does_not_pool(site, tmp_path):
    with pytest.raises(ConfigurationError, match="only a simulation"):
        site({"data-path": str(tmp_path)}).batches(pooled=True)
