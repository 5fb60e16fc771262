"""Co-Boosting (Dai et al. 2024): DENSE's loop, with images and ensemble that improve each other.

Three things are added to :mod:`post_training.dense`. The generator's cross-entropy weighs an image
with (1 − p_y)^γ, so that what the ensemble takes for its class already counts less. Before the
student sees an image, it is moved by ε·sign(∇ Σ_c u_c·softmax(z/4)_c) for a random direction u, so
that the answers to it are more diverse. And the ensemble's weights take sign steps against the
cross-entropy of the pool's own classes, of a size μ/K·0.99^epoch.

Where this departs from the paper: as DENSE here does; and the weights stay on the simplex, so that
a step changes whom the ensemble trusts and not how sure it is.
"""

import torch
from torch import Tensor, nn

from foundation.models.classifier import Ensemble
from foundation.settings.peers import CoBoostingSettings
from generation import PixelRange
from generation.generator import Terms, pixel_bounds

from .dense import Dense, Pool, distil_growing_pool
from .local_ensemble import refuse
from .method import Method, Settings
from .trained import Trained

# Slopes that differ by less than rounding does have no sign.
_ROUNDING = 1e-12


def on_simplex(values: Tensor) -> Tensor:
    """Return the nearest weights, 0 or more, that sum to 1, of (K,) (Duchi et al. 2008)."""
    descending = values.sort(descending=True).values
    places = torch.arange(1, len(values) + 1, device=values.device)
    surplus = (descending.cumsum(0) - 1) / places
    kept = int((descending > surplus).sum())
    return (values - surplus[kept - 1]).clamp_min(0.0)


def weight_slope(weights: Tensor, answers: Tensor, labels: Tensor) -> Tensor:
    """Return ∂/∂w_k of the mean of CE(Σ_k w_k·z_k, y): the mean of Σ_c (p_c - 1[c = y])·z_k,c.

    Weights w are (K,), answers z (n, K, classes), labels y (n,); the slope is (K,) float64.
    """
    logits = answers.double()
    errors = torch.einsum("k,nkc->nc", weights.double(), logits).softmax(dim=1)
    errors[torch.arange(len(labels)), labels] -= 1.0
    return torch.einsum("nc,nkc->k", errors, logits) / len(labels)


def sign_step(weights: Tensor, answers: Tensor, labels: Tensor, size: float) -> Tensor:
    """Return weights after one step against the cross-entropy of the images' own classes.

    Of the slope only the part along the simplex counts: scaling all weights alike would change how
    sure the ensemble is, and not whom it trusts. Each weight moves by `size` before the step is
    brought back to the simplex.
    """
    slope = weight_slope(weights, answers, labels)
    slope = slope - slope.mean()
    direction = torch.where(slope.abs() > _ROUNDING * (1 + slope.abs().max()), slope.sign(), 0.0)
    return on_simplex(weights.double() - size * direction).to(weights)


# Of the paper's program: of the compared predictions, of those that images are moved by, and the
# decay of the step on the weights.
_DISAGREEMENT_TEMPERATURE = 3.0
_DIVERSITY_TEMPERATURE = 4.0
_DECAY = 0.99


class CoBoosting(Dense):
    """Weights that learn, and images that are moved before they are seen."""

    name = "co_boosting"
    settings: CoBoostingSettings

    def __init__(self, settings: CoBoostingSettings, pixel_range: PixelRange | None) -> None:
        super().__init__(settings)
        self._pixel_range = pixel_range

    @property
    def terms(self) -> Terms:
        """Return DENSE's with γ, wherever ensemble and student stand."""
        return Terms(
            bn_weight=self.settings.bn_weight,
            disagreement_weight=self.settings.disagreement_weight,
            disagreement_temperature=_DISAGREEMENT_TEMPERATURE,
            gamma=self.settings.gamma,
        )

    def weights(self, now: Tensor, pool: Pool, epoch: int) -> Tensor:
        """Take a sign step for each batch of the pool."""
        size = self.settings.mu / len(now) * _DECAY**epoch
        for rows in torch.arange(len(pool.labels)).split(self.settings.batch_size):
            now = sign_step(now, pool.answers[rows], pool.labels[rows], size)
        return now

    def lesson(
        self, ensemble: Ensemble, pool: Pool, rows: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return moved images, and what the ensemble says of them."""
        if self.settings.epsilon == 0:
            return super().lesson(ensemble, pool, rows, draw)
        images, answers = pool.images[rows], pool.answers[rows]
        direction = 2 * torch.rand(answers.shape[0], answers.shape[2], generator=draw) - 1
        low, high = (end.to(images) for end in pixel_bounds(self._pixel_range, images.shape[1]))
        moved = diversified(
            images, ensemble, direction.to(images), self.settings.epsilon / 255 * (high - low)
        ).clamp(low, high)
        with torch.no_grad():
            return moved, ensemble(moved)


def diversified(images: Tensor, ensemble: nn.Module, direction: Tensor, size: Tensor) -> Tensor:
    """Return x + size·sign(∇_x Σ_c u_c·softmax(z(x)/4)_c): predictions go along a direction.

    Output-diversified sampling (Tashiro et al. 2020), as Dai et al. 2024 use it, for images x
    (n, C, H, W), the frozen ensemble's logits z and directions u (n, classes), and sizes (C, 1, 1).
    """
    start = images.detach().clone().requires_grad_()
    predictions = (ensemble(start) / _DIVERSITY_TEMPERATURE).softmax(dim=1)
    (gradient,) = torch.autograd.grad((direction * predictions).sum(), start)
    return images + size * gradient.sign()


def run(trained: Trained, settings: Settings) -> None:
    """Grow the pool and distil it, with weights that learn."""
    teaching = CoBoosting(settings.section(CoBoostingSettings), trained.inputs.pixel_range)
    distil_growing_pool(trained, teaching, settings.seed)


def _suits(model: nn.Module, settings: Settings) -> None:
    weight = settings.section(CoBoostingSettings).bn_weight
    refuse(model, settings, CoBoosting.name, weight, "co-boosting.bn-weight")


method = Method("co_boosting", run, suits=_suits)
