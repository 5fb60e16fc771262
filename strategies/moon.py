"""MOON (Li et al. 2021): pull a client's representation to the global model's.

    l = CE + μ·( -log[ exp(cos(z, z_glob)/T) / (exp(cos(z, z_glob)/T) + exp(cos(z, z_prev)/T)) ] )

The previous local model is kept by the server, which receives it anyway, and is sent with the
next round: it survives restarts of the client and of the run. In a client's first round the
previous model is the global one: the term is then the constant log 2 and pulls nowhere.
"""

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.models import Classifier, State, load_state
from foundation.settings.algorithms import MoonSettings

from .algorithm import Algorithm
from .client import ClientAlgorithm
from .server import FederatedStrategy

PREVIOUS = "previous"


def contrastive_loss(
    embedding: Tensor, global_embedding: Tensor, previous_embedding: Tensor, temperature: float
) -> Tensor:
    """Return the model-contrastive loss (Li et al. 2021, equation 3), a mean over the batch.

    z, z_glob and z_prev are (n, d) each.
    """
    embedding, global_embedding, previous_embedding = (
        # Of a few thousandths in a cosine, T makes much: reduced precision ends here.
        features.to(torch.promote_types(features.dtype, torch.float32))
        for features in (embedding, global_embedding, previous_embedding)
    )
    towards = F.cosine_similarity(embedding, global_embedding, dim=1)
    away = F.cosine_similarity(embedding, previous_embedding, dim=1)
    # -log(e^a/(e^a + e^b)) = softplus(b - a), which cannot overflow.
    return F.softplus((away - towards) / temperature).mean()


class Moon(FederatedStrategy):
    """Server half: averages as FedAvg does, and sends every client its previous model."""

    keeps_local_models = True

    def extra_records(self, client: int) -> dict[str, State]:
        if client in self.local_models:
            return {PREVIOUS: self.local_models.read(client)}
        return {}


class MoonClient(ClientAlgorithm, capturable=True):
    """Client half: the contrastive loss against two frozen models.

    Both are in eval mode and under no_grad: a frozen network in train mode would still change
    its BatchNorm statistics with every forward pass.
    """

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        self._global = copy.deepcopy(model).eval().requires_grad_(False)
        self._previous: Classifier | None = None
        if PREVIOUS in received:
            self._previous = copy.deepcopy(self._global)
            load_state(self._previous, received[PREVIOUS])

    def extra_loss(self, images: Tensor, embedding: Tensor) -> Tensor | None:
        """Return μ times the contrastive loss; None in the first round, where it is constant."""
        settings = self.configuration.section(MoonSettings)
        if self._previous is None or settings.mu == 0.0:
            return None
        with torch.no_grad():
            towards = self._global.embed(images)
            away = self._previous.embed(images)
        return settings.mu * contrastive_loss(embedding, towards, away, settings.temperature)


algorithm = Algorithm("moon", Moon, MoonClient, projection=True)
