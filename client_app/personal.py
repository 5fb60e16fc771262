"""BatchNorm layers that stay at a site (FedBN, Li et al. 2021): its own in every round.

A site trains the model that the server sent with the BatchNorm layers that its last round left, and
answers with those that came: the server learns nothing of its own. Until it has trained for the
first time, they are the server's.
"""

import torch
from torch import nn

from foundation.models import State
from foundation.models.personal import batch_norm_entries
from foundation.settings.configuration import ConfigurationError

from .site import Site


class OwnBatchNorm:
    """The BatchNorm layers of one round at a site; nothing unless ``personal=batch-norm``."""

    def __init__(self, site: Site, shared: State) -> None:
        self._site = site
        wanted = site.configuration.personal == "batch-norm"
        self._came = {n: shared[n] for n in batch_norm_entries(site.model())} if wanted else {}
        if wanted and not site.runs:
            raise ConfigurationError(
                "personal = 'batch-norm' needs this app's server, which says what a site trained "
                "before: a server with one of Flower's own strategies does not"
            )
        self._own = site.own_batch_norm() if wanted else {}

    def put_into(self, state: State) -> State:
        """Return a state with the site's own layers, if it is that of a whole model."""
        return {**state, **self._own} if self._own.keys() <= state.keys() else state

    @torch.no_grad()
    def keep(self, model: nn.Module, server_round: int) -> None:
        """Keep the layers that training left, and put back what the server sent."""
        if not self._came:
            return
        trained = model.state_dict()
        own = {name: trained[name].detach().cpu().clone() for name in self._came}
        self._site.folder.keep_round(next(reversed(self._site.runs)), server_round, own)
        for name, value in self._came.items():
            trained[name].copy_(value)
