"""What a generator is trained for, term by term; pure functions of logits, noise and images.

Let z(x) be the logits of the teacher (the ensemble of local models), s(x) those of the student (the
global model), y the class an image is made for, and C the number of classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .objective import jensen_shannon_each


def hard_sample_weights(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return (1 - p_y)^γ, (n,): what the teacher already takes for its class counts less.

    Logits z are (n, C), labels y (n,), γ is 0 or more. No gradient flows through the weights, which
    are those of the generator's cross-entropy in Dai et al. 2024.
    """
    probabilities = logits.detach().softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return (1.0 - probabilities).clamp_min(0.0) ** gamma


def disagreement(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, *, only_where_wrong: bool = False
) -> Tensor:
    """Return the mean of T²·KL( softmax(z/T) || softmax(s/T) ), a scalar of 0 or more.

    The gradient flows through both logits, (n, C), and its size does not fall with T.
    `only_where_wrong` counts images whose most likely class the two agree on as 0 (Zhang et al.
    2022, DENSE, the loss of the decision boundary).
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        log_target=True,
        reduction="none",
    ).sum(dim=1)
    if only_where_wrong:
        divergence = divergence * (student.argmax(dim=1) != teacher.argmax(dim=1))
    return temperature**2 * divergence.mean()


def similarity(noise: Tensor, images: Tensor) -> Tensor:
    """Return exp(-mean_ij d(e_i, e_j)·d(x_i, x_j)), in (0, 1]: 1 where all images are the same.

    Distances of noise e, (n, k), are mean squares, those of images x mean absolute differences. The
    diversity term that FedFTG's generator minimises (Zhang et al. 2022).
    """
    flat = images.flatten(1)
    apart = torch.cdist(flat, flat, p=1.0) / flat.shape[1]
    # Squared distances by products, as noise has a gradient nowhere here.
    told_apart = torch.cdist(noise.detach(), noise.detach()).square() / noise.shape[1]
    return torch.exp(-(told_apart * apart).mean())


def class_weighted_losses(
    answers: Tensor, student: Tensor, labels: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return FedFTG's two terms: what the clients' models say of images of class y.

        mean over images of Σ_k α_k,y · CE(z_k, y), 0 or more
        mean over images of Σ_k α_k,y · JS( softmax(s), softmax(z_k) ), of its maximum, in [0, 1]

    Answers z_k are (n, K, C), the student's s (n, C), labels (n,), and weights (n, K): α_k,y, the
    share of client k among the real images of class y; rows sum to 1. Zhang et al. 2022
    ("Fine-tuning Global Model via Data-Free Knowledge Distillation for Non-IID Federated Learning")
    have KL( softmax(s) || softmax(z_k) ) in place of the Jensen-Shannon divergence JS. It has no
    largest value: a generator that looks for it leaves the images behind.
    """
    said = F.log_softmax(answers, dim=2)
    entropy = -said.gather(2, labels[:, None, None].expand(-1, answers.shape[1], 1)).squeeze(2)
    apart = jensen_shannon_each(answers, student[:, None, :], 1.0)
    return (weights * entropy).sum(dim=1).mean(), (weights * apart).sum(dim=1).mean()
