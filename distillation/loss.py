"""The distillation loss, and what is raised where it stops being a number."""

from torch import Tensor
from torch.nn import functional as F

from foundation import ExpectedError


class DistillationError(ExpectedError, RuntimeError):
    """The loss of a distillation stopped being a number."""


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, weight: float = 1.0
) -> Tensor:
    """Kullback-Leibler divergence of the student's softened prediction from the teacher's.

    w·T²·KL( softmax(z/T) || softmax(s/T) ), mean over the batch.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        (n, classes), s and z.
    temperature : float
        T, above 0. The factor T² keeps gradients of one size whatever T is.
    weight : float (default: 1)
        w.

    Returns
    -------
    Tensor
        Scalar, 0 or more.

    Notes
    -----
    Hinton, Vinyals and Dean 2015, section 2; the loss of Zhao et al. 2024 with w = 1e-3 and T = 3.
    """
    divergence = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return weight * temperature**2 * divergence
