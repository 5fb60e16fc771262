r"""The inversion objective, term by term: what makes a batch of pixels look like training data.

With ``u`` the batch of images, ``f`` the frozen local model and ``t`` the wanted labels

    L(u) = CE(f(u), t) + a_tv R_tv(u) + a_l2 R_l2(u) + a_bn R_bn(u) + a_c R_compete(u)

(DeepInversion, Yin et al. 2020, eq. 2-6, and FedF2DG, Zhao et al. 2024). In the ``corrected`` form,
total variation and l2 are *per-image means*, so that clients with different budgets are regularised
alike, and the disagreement of two models is the true Jensen-Shannon divergence. The ``reference``
form is what the published scripts compute: norms over the whole batch, and a divergence of clamped
probabilities in the reverse direction.

Calibration of the corrected form. Write ``r_b`` for the norm of one image's differences. The
reference adds ``a ||(r_1, ..., r_B)||_2``, whose gradient on image b, of images of equal norm, is
``a / sqrt(B) * dr_b``. The cross-entropy, a mean over the batch, has a gradient proportional to 1/B
on each image: a client with four times the budget is smoothed twice as much. The mean ``c/B * sum_b
r_b`` has the gradient ``c/B * dr_b`` and a ratio that does not depend on B. Value and gradient
equal the reference's at B = 256, the batch size for which its weights were published, when ``c = a
sqrt(256) = 16 a``: this factor is ``BATCH_CALIBRATION``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundation.settings import Form

BATCH_CALIBRATION = math.sqrt(256.0)
"""Factor on per-image means that gives the reference's strength at batch 256 (see above)."""


def total_variation(images: Tensor, form: Form = "corrected") -> Tensor:
    """Roughness of images (n, C, H, W), n >= 1: a scalar, in units of pixel values.

    Differences to the right, lower and both diagonal neighbours count: Yin et al. 2020, eq. 3,
    R_TV; four directions as in their published CIFAR-10 program.
    """
    differences = (
        images[..., :, 1:] - images[..., :, :-1],
        images[..., 1:, :] - images[..., :-1, :],
        images[..., 1:, 1:] - images[..., :-1, :-1],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
    return torch.stack([_norm(each, form) for each in differences]).sum()


def l2_penalty(images: Tensor, form: Form = "corrected") -> Tensor:
    """Norm, not squared, of images (n, C, H, W), n >= 1: Yin et al. 2020, eq. 3, R_l2."""
    return _norm(images, form)


def _norm(values: Tensor, form: Form) -> Tensor:
    """Per-image mean times ``BATCH_CALIBRATION``, or in the reference the norm of the batch."""
    if form == "reference":
        whole: Tensor = torch.linalg.vector_norm(values)
        return whole
    norms: Tensor = torch.linalg.vector_norm(values, dim=(1, 2, 3))
    return BATCH_CALIBRATION * norms.mean()


def statistics_units(running_var: Tensor) -> Tensor:
    """Return what a layer's means and variances are told in, where they are compared by size: (2,).

    The root mean square over its channels, so that layers count alike whatever their scale; 1 for
    variances of 1.
    """
    return torch.stack((running_var.mean().sqrt(), running_var.square().mean().sqrt()))


def statistics_deviation(
    features: Tensor, running_mean: Tensor, running_var: Tensor, *, relative: bool = False
) -> Tensor:
    """Distance of a batch's channel statistics from those, (C,), a BatchNorm layer remembers.

    The scalar ``||mean - running_mean||_2 + ||var - running_var||_2``, variance biased: Yin et al.
    2020, eq. 4, R_feature. `features`, (n, C, H, W) of any float type, are the *input* of the
    layer; the result is computed in float32 at least.
    """
    features = features.to(running_mean.dtype)
    var, mean = torch.var_mean(features, dim=(0, 2, 3), correction=0)
    of_mean: Tensor = torch.linalg.vector_norm(mean - running_mean)
    of_variance: Tensor = torch.linalg.vector_norm(var - running_var)
    if relative:
        of_mean, of_variance = torch.stack((of_mean, of_variance)) / statistics_units(running_var)
    return of_mean + of_variance


def batch_norm_layers(model: nn.Module) -> list[nn.BatchNorm2d]:
    """BatchNorm layers of a model that remember statistics, in the order of its modules."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
    ]


def record_statistics(model: nn.Module, *, relative: bool = False) -> list[Tensor]:
    """Have every BatchNorm layer note ``statistics_deviation`` of its input, in the list returned.

    It receives one scalar per layer and forward pass, until it is cleared. The model is in
    evaluation mode.
    """
    deviations: list[Tensor] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer.running_mean, Tensor) and isinstance(layer.running_var, Tensor)
        mean, var = layer.running_mean, layer.running_var
        deviations.append(statistics_deviation(inputs[0], mean, var, relative=relative))

    for layer in batch_norm_layers(model):
        layer.register_forward_pre_hook(note)
    return deviations


def jensen_shannon_each(logits_p: Tensor, logits_q: Tensor, temperature: float) -> Tensor:
    """Jensen-Shannon divergence of two softened predictions over its maximum ln 2, in [0, 1].

    The logits, (..., classes) of shapes that broadcast, are divided by `temperature` before the
    softmax.
    """
    return _jensen_shannon_nats(logits_p, logits_q, temperature) / math.log(2.0)


def jensen_shannon(logits_p: Tensor, logits_q: Tensor, temperature: float) -> Tensor:
    """Mean of :func:`jensen_shannon_each` over a batch (n, classes): a scalar in [0, 1]."""
    # Divided last: a division for each image rounds otherwise, and hundreds of steps later other
    # images come out.
    return _jensen_shannon_nats(logits_p, logits_q, temperature).mean() / math.log(2.0)


def _jensen_shannon_nats(logits_p: Tensor, logits_q: Tensor, temperature: float) -> Tensor:
    log_p = F.log_softmax(logits_p / temperature, dim=-1)
    log_q = F.log_softmax(logits_q / temperature, dim=-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
    divergence = 0.5 * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m))
    return divergence.sum(dim=-1)


def clamped_divergence(logits_p: Tensor, logits_q: Tensor, temperature: float) -> Tensor:
    """Reference form of the divergence: KL from the mixture, probabilities clamped to [.01, .99].

    A scalar, limited to [0, 1]. From about a hundred classes on nearly all probabilities lie below
    the clamp and its gradient points elsewhere.
    """
    p = F.softmax(logits_p / temperature, dim=1)
    q = F.softmax(logits_q / temperature, dim=1)
    m = (0.5 * (p + q)).clamp(0.01, 0.99)
    p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
    divergence = 0.5 * (m * (2 * m.log() - p.log() - q.log()))
    return divergence.sum(dim=1).mean().clamp(0.0, 1.0)


def competition(
    local_logits: Tensor,
    global_logits: Tensor,
    temperature: float,
    form: Form = "corrected",
) -> Tensor:
    """Agreement of two models, 1 - JS in [0, 1]: small where they disagree (hard samples).

    Logits are (n, classes): Yin et al. 2020, eq. 5-6, R_compete; used by Zhao et al. 2024 between
    local and global model. The corrected form takes the true divergence, the reference the clamped
    one.
    """
    divergence = jensen_shannon if form == "corrected" else clamped_divergence
    return 1.0 - divergence(local_logits, global_logits, temperature)
