"""FedNova: where it is exact at a finite step size, where only in the limit, and its weights.

On quadratics, client i moves by x - y_i = D_i·(H_i(x - b_i)) with D_i = Σ_k (1 - ηH_i)^k·η: not by
ητ_i times its gradient, except for η → 0. So with unequal τ_i FedNova's fixed point differs from
the minimiser by O(η) — unless the local gradient is constant along the local path up to what
‖a_i‖₁ accounts for. That is so for linear client losses g_i·w with weight decay λ: these are
heterogeneous quadratics (λ/2)‖w + g_i/λ‖² of shared curvature λ and different minima, the identity
x - y_i = η‖a_i‖₁(g_i + λx) is exact with and without momentum, and FedNova is gradient descent on
the weighted objective, whose minimiser is w* = -Σ p_i g_i/λ.
"""

from itertools import pairwise

import pytest
import torch

from strategies.fednova import effective_weights


def error(laboratory, target):
    return float((laboratory.state["weight"] - target).abs().max())


def linear_loss(predictions, targets):
    """⟨x̄, w⟩: the gradient is the mean image, wherever w is."""
    return predictions.mean()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_exact_under_unequal_steps_where_theory_says_and_fedavg_is_not(
    laboratory, curved_clients, momentum
):
    weight_decay = 0.5
    total = sum(client.samples for client in curved_clients)
    target = -sum(client.images.sum(0) for client in curved_clients) / total / weight_decay
    keys = {
        "loss": linear_loss,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "learning_rate": 0.1 if momentum else 0.2,
    }
    fednova = laboratory(curved_clients, strategy="fednova", **keys)
    fednova.rounds(60)
    assert error(fednova, target) <= 1e-9
    fedavg = laboratory(curved_clients, strategy="fedavg", **keys)
    fedavg.rounds(60)
    assert error(fedavg, target) > 1e-3


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_weight_decay_balanced_gradients_leave_it_where_it_is_and_move_fedavg(
    laboratory, make_client, momentum
):
    """Σ p_i·g_i = 0 everywhere: every point is a minimum, so any motion is inconsistency."""
    gradients = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-2.0, 0.25]], dtype=torch.float64)
    sizes, steps = (12, 6, 15), (1, 6, 3)
    gradients[2, 1] = -(12 * -2.0 + 6 * 0.5) / 15
    assert float((torch.tensor(sizes).double() @ gradients).abs().max()) <= 1e-14
    clients = [
        make_client(gradient.expand(n, 2), torch.zeros(n).double(), tau)
        for gradient, n, tau in zip(gradients, sizes, steps, strict=True)
    ]
    keys = {"loss": linear_loss, "momentum": momentum}
    still = laboratory(clients, strategy="fednova", **keys)
    still.rounds(10)
    assert float(still.state["weight"].abs().max()) <= 1e-12
    moved = laboratory(clients, strategy="fedavg", **keys)
    moved.rounds(10)
    assert float(moved.state["weight"].abs().max()) > 1e-1


def test_on_shared_curvature_its_error_vanishes_with_the_step_size_and_fedavgs_does_not(
    laboratory, make_client
):
    """Identical Hessian A = diag(1, 0.6), unequal τ: the fixed point is w* + O(η), so halving η
    halves the error; FedAvg's tends to a constant, the minimiser of Σ p_i·τ_i·f_i."""
    scale = torch.tensor([2.0, 1.2]).double().sqrt()
    images = torch.diag(scale).repeat(2, 1)  # XᵀX/n = diag(1, 0.6)
    minima = torch.tensor([[1.0, -1.0], [-2.0, 3.0]], dtype=torch.float64)
    clients = [
        make_client(images, images @ minimum, steps)
        for minimum, steps in zip(minima, (1, 4), strict=True)
    ]
    target = minima.mean(0)
    errors = {"fednova": [], "fedavg": []}
    for name, found in errors.items():
        for rate in (0.1, 0.05):
            run = laboratory(clients, strategy=name, learning_rate=rate)
            run.rounds(round(7 / rate))
            found.append(error(run, target))
    nova, average = errors["fednova"], errors["fedavg"]
    assert nova[0] > 1e-3, "the test must have something to shrink"
    for coarse, fine in pairwise(nova):
        assert 1.7 < coarse / fine < 2.3
    assert min(average) > 0.5


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equal_steps_on_shared_curvature_are_exact_and_equal_fedavg(
    laboratory, make_client, momentum
):
    images = torch.diag(torch.tensor([1.4, 1.1], dtype=torch.float64))
    minima = torch.tensor([[1.0, -1.0], [-2.0, 3.0], [0.0, 5.0]], dtype=torch.float64)
    # Repeated rows change n_i and leave the Hessian as it is.
    clients = [
        make_client(images.repeat(2 * k, 1), (images @ m).repeat(2 * k), 3)
        for m, k in zip(minima, (1, 2, 4), strict=True)
    ]
    target = (torch.tensor([1.0, 2.0, 4.0]).double() / 7) @ minima
    nova = laboratory(clients, strategy="fednova", momentum=momentum, learning_rate=0.2)
    average = laboratory(clients, strategy="fedavg", momentum=momentum, learning_rate=0.2)
    for _ in range(10):
        torch.testing.assert_close(
            nova.round()["weight"], average.round()["weight"], rtol=1e-13, atol=1e-14
        )
    nova.rounds(60)
    assert error(nova, target) <= 1e-9


def test_effective_weights():
    """w_i = p_i·τ_eff/‖a_i‖₁ with τ_eff = Σ p_i·‖a_i‖₁, by hand: τ_eff = 0.25·2 + 0.75·4 = 3.5."""
    assert effective_weights([0.25, 0.75], [2.0, 4.0]) == pytest.approx([0.4375, 0.65625])
    assert effective_weights([0.2, 0.8], [3.0, 3.0]) == pytest.approx([0.2, 0.8])


def test_steps_are_weighted_in_samples_not_in_batches(laboratory, make_client):
    """One step of every client: x⁺ - x = -η·Σ (n_i/n)·g_i, whatever the number of batches."""
    gradients = torch.tensor([[8.0], [-1.0]], dtype=torch.float64)
    clients = [
        make_client(g.expand(n, 1), torch.zeros(n).double(), 1)
        for g, n in zip(gradients, (1, 7), strict=True)
    ]
    nova = laboratory(clients, strategy="fednova", loss=linear_loss, learning_rate=0.5)
    assert float(nova.rounds(1)) == pytest.approx(-0.5 * (1 * 8.0 - 7 * 1.0) / 8)


def test_large_weight_sums_are_noted_and_warned_about(laboratory, make_client, app_log):
    """Σ w_i = (½·1 + ½·9)·(½/1 + ½/9) = 25/9."""
    clients = [make_client(torch.ones(9, 1).double(), torch.zeros(9).double(), s) for s in (1, 9)]
    nova = laboratory(clients, strategy="fednova")
    nova.round()
    assert nova.strategy.outcome.notes["effective-weight"] == pytest.approx(25 / 9)
    assert "weights sum to 2.78" in app_log.text
    assert "server-learning-rate" in app_log.text
