"""Differential privacy of the training, by Flower's wrappers around its federated averaging.

Every update is clipped to a norm C, by Flower's wrapper on the server or by its mod in the client,
all clients weigh the same, and noise of z·C goes onto the sum (McMahan et al. 2018; where C follows
a quantile, Andrew et al. 2021). Protected is a client with all its images, against whoever sees the
global models and not against the server, which sees every update.

What it costs is exact. Noise of z·C on a sum of vectors of norm C or less is μ-Gaussian
differentially private with μ = 1/z for who gave one of the vectors; T such sums, each chosen with
knowledge of those before, with μ = √T/z (Dong, Roth and Su 2022, corollary 3.3). For μ, ε and δ
belong together as in Balle and Wang 2018, theorem 8. No bound is involved, as one is where rounds
are drawn in secret: who takes part in a round follows from the run's seed, which is no secret.
"""

import math
from collections import Counter
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from foundation.errors import log
from foundation.events.family import PrivacySpent
from foundation.messages.records import InvalidContent
from foundation.models import State, StateLayout
from foundation.models.aggregation import update_norm
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from foundation.settings.post_training import AUTO
from foundation.settings.privacy import PrivacySettings

from .algorithm import Algorithm, get
from .flower import FromFlower
from .server import FederatedStrategy, LocalUpdate, Updates

# What Flower's mod calls its answer: whether it clipped.
_CLIPPED = "norm_bit"
# Of the norm: the client clips in float32.
_ROUNDING = 1e-3
_TAKEN = "privacy.taken"
# Above the first, ε means nothing any more.
_MOST, _TOLERANCE = 1e6, 1e-9

_FIXED = {
    "server-fixed": DifferentialPrivacyServerSideFixedClipping,
    "client-fixed": DifferentialPrivacyClientSideFixedClipping,
}
_ADAPTIVE = {
    "server-adaptive": DifferentialPrivacyServerSideAdaptiveClipping,
    "client-adaptive": DifferentialPrivacyClientSideAdaptiveClipping,
}


def delta_of(noise_multiplier: float, releases: int, epsilon: float) -> float:
    """Return δ = Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ) for so many noisy sums, one or more.

    ``noise_multiplier`` is z, above 0; ε is 0 or more.
    """
    mu = math.sqrt(releases) / noise_multiplier
    right = math.exp(min(0.0, epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))))
    return max(0.0, float(ndtr(mu / 2 - epsilon / mu)) - right)


def epsilon_of(noise_multiplier: float, releases: int, delta: float) -> float:
    """Return the least ε that holds at δ for so many noisy sums; 0 where there was none.

    It is infinite beyond a million.
    """
    if releases == 0 or delta_of(noise_multiplier, releases, 0.0) <= delta:
        return 0.0
    if delta_of(noise_multiplier, releases, _MOST) > delta:
        return math.inf

    def excess(epsilon: float) -> float:
        return delta_of(noise_multiplier, releases, epsilon) - delta

    return float(brentq(excess, 0.0, _MOST, xtol=_TOLERANCE))


def server_half(configuration: RunConfiguration) -> type[FederatedStrategy]:
    """Return the server half of a run's algorithm, or what takes its place under privacy."""
    private = configuration.section(PrivacySettings).on
    return Private if private else get(configuration.strategy).server


def wrapper(configuration: RunConfiguration) -> Strategy:
    """Return federated averaging in the wrapper that the settings ask for."""
    settings, clients = configuration.section(PrivacySettings), configuration.clients_per_round
    averaging = FedAvg(fraction_train=1.0, min_train_nodes=1, min_available_nodes=1)
    z, norm = settings.noise_multiplier, settings.clipping_norm
    if not settings.adapts:
        fixed = _FIXED[settings.clipping](averaging, z, norm, clients)
        return cast(Strategy, fixed)
    # Andrew et al.'s twentieth is too little noise on the count of few clients. With z on it, the
    # noise on the sum is of 1.15·z norms.
    count_noise = settings.count_noise or max(clients / 20, z)
    adaptive = _ADAPTIVE[settings.clipping](
        averaging, z, clients, norm, clipped_count_stddev=count_noise
    )
    return cast(Strategy, adaptive)


class Private(FromFlower):
    """Server half: clipped updates, the same weight for each, and noise on their mean."""

    make = staticmethod(wrapper)  # type: ignore[assignment]
    fewest_replies = staticmethod(lambda _: 1)  # type: ignore[assignment]
    wrapped: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        self._private = self.configuration.section(PrivacySettings)
        #: How many of the rounds' sums each client is in.
        self._taken: Counter[int] = Counter()
        self._rounds = 0
        self._clipped: dict[int, bool] = {}

    def checked(self, server_round: int, client: int, content: RecordDict) -> LocalUpdate:
        """Check a client's reply, also that it clipped where it is to; see the base class."""
        update = super().checked(server_round, client, content)
        most = float(self.wrapped.clipping_norm)
        norm = update_norm(self._global, update.load(), self.layout.parameters)
        self._clipped[client] = norm > most
        if self._private.at_clients:
            if norm > most * (1 + _ROUNDING):
                raise InvalidContent(
                    f"its update has norm {norm:.3g}: it does not clip to {most:g}"
                )
            told = content.metric_records["metrics"].get(_CLIPPED)
            if self._private.adapts and told not in (0, 1):
                raise InvalidContent("it does not say whether it clipped its update")
            self._clipped[client] = told == 1
        return update

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        """Return the model moved by the noisy mean of the updates that came.

        The noise is of the size that their number asks for, and of the system's randomness: who
        knew it could take it off again.
        """
        norm, count = float(self.wrapped.clipping_norm), len(updates)
        self.wrapped.num_sampled_clients = count
        np.random.seed()
        if self._private.adapts:
            # Flower 1.42 moves the norm before it adds the noise, and the wrong way: where all
            # updates are clipped, it would clip the next ones more. A step of 0 holds the norm, so
            # that the noise is of the norm by which this round was clipped.
            self.wrapped.clip_norm_lr = 0.0
        combined = super().aggregate(server_round, global_state, updates)
        if self._private.adapts:
            # Andrew et al., algorithm 1.
            clipped = sum(self._clipped[update.client] for update in updates)
            clipped += np.random.default_rng().normal(0, self.wrapped.clipped_count_stddev)
            whole = 1 - clipped / count
            step = self._private.quantile_step * (whole - self._private.quantile)
            self.wrapped.clipping_norm = norm * math.exp(-step)
        self._taken.update(update.client for update in updates)
        self._rounds += 1
        self._notes |= {"clipping_norm": norm}
        if math.isfinite(spent := self._epsilon()):  # files hold no infinity
            self._notes |= {"epsilon": spent}
        return combined

    def _reply(self, update: LocalUpdate, state: State) -> Message:
        message = super()._reply(update, state)
        # All weigh the same: by its number of images, a client's part could be more than C.
        clipped = int(self._clipped[update.client])
        message.content["metrics"] = MetricRecord({"num-examples": 1, _CLIPPED: clipped})
        return message

    def _epsilon(self, more: int = 0) -> float:
        releases = max(self._taken.values(), default=0) + more
        settings = self._private
        return epsilon_of(settings.noise_multiplier, releases, settings.delta)

    @property
    def exhausted(self) -> bool:
        """Whether another round could spend more than the budget."""
        budget = self._private.epsilon
        return budget > 0 and self._epsilon(1) > budget

    def privacy_spent(self) -> PrivacySpent:
        settings = self._private
        return PrivacySpent(
            spent if math.isfinite(spent := self._epsilon()) else None,
            settings.delta,
            self._rounds,
            max(self._taken.values(), default=0),
            settings.clipping,
            settings.noise_multiplier,
            float(self.wrapped.clipping_norm),
            settings.epsilon or None,
        )

    def memory(self) -> State:
        # The wrapper's copy of the model of a round is of no use behind it.
        self.wrapped.current_arrays = ArrayRecord()
        taken = torch.tensor(sorted(self._taken.items()) or torch.zeros(0, 2)).long()
        return {**super().memory(), _TAKEN: taken, "privacy.rounds": torch.tensor(self._rounds)}

    def restore(self, memory: State) -> None:
        super().restore(memory)
        self._taken = Counter({int(client): int(count) for client, count in memory[_TAKEN]})
        self._rounds = int(memory["privacy.rounds"])


def require(configuration: RunConfiguration, algorithm: Algorithm) -> None:
    """Refuse what would tell more than is accounted for, or what the wrappers cannot do."""
    settings = configuration.section(PrivacySettings)
    if not settings.on:
        if settings != PrivacySettings():
            raise ConfigurationError(
                "the keys of privacy say how training is made private, and privacy.clipping = "
                "'none' leaves it as it is: choose e.g. privacy.clipping=server-fixed"
            )
        return
    run, one = configuration, "one client at a time, which is not part of ε"
    refused = {
        f"strategy = {run.strategy!r}": algorithm.server is not FederatedStrategy
        and "keeps a memory of every client, or moves the model by another rule than the mean, for "
        "which the noise is made: take fedavg, fedprox or a local loss",
        f"post-training = {run.post_training!r}": run.post_training not in (AUTO, "none")
        and f"asks the clients' models or images {one}: take none",
        f"initial-head = {run.initial_head!r}": run.initial_head != "fresh"
        and "comes from sums of the clients' features, which are not part of ε: take fresh",
        f"normalization = {run.normalization!r}": run.measures_pixels
        and "comes from sums of the clients' pixels, which are not part of ε: take another",
        f"patience = {run.patience}": run.patience > 0
        and "chooses a round by the clients' images, which is not part of ε: leave it out",
        f"global-average = {run.global_average!r}": run.global_average != "last"
        and "is chosen by the clients' images, which is not part of ε: leave it out",
        f"personal = {run.personal!r}": run.personal == "batch-norm"
        and "sends statistics of the clients' images, which are not part of ε: take head",
        f"clip-update-norm = {run.clip_update_norm:g}": run.clip_update_norm > 0
        and "clips by other clients' norms: privacy.clipping does it already",
        f"server-learning-rate = {run.server_learning_rate:g}": run.server_learning_rate != 1
        and "would scale the noise as well: leave it at 1",
        f"num-server-rounds = {run.num_server_rounds}": run.num_server_rounds == 0
        and "has no training to make private",
        f"freeze = {run.freeze!r}": bool(run.frozen_layers)
        and settings.at_clients
        and "leaves layers out of the client's answer, which Flower's mod does not bear: let the "
        "server clip, privacy.clipping=server-fixed",
    }
    for value, why in refused.items():
        if why:
            raise ConfigurationError(f"privacy.clipping = {settings.clipping!r}: {value} {why}")
    try:
        wrapper(run)
    except ValueError as error:
        raise ConfigurationError(
            f"privacy.count-noise = {settings.count_noise:g} must be above half of "
            f"privacy.noise-multiplier = {settings.noise_multiplier:g}: set privacy.count-noise="
            f"{settings.noise_multiplier:g} or leave it out"
        ) from error
    if (once := epsilon_of(settings.noise_multiplier, 1, settings.delta)) > settings.epsilon > 0:
        raise ConfigurationError(
            f"privacy.epsilon = {settings.epsilon:g}: one round spends {once:.3g} with "
            f"privacy.noise-multiplier = {settings.noise_multiplier:g} at privacy.delta = "
            f"{settings.delta:g}. Raise one of the first two"
        )
    if settings.delta >= 1 / run.num_clients:
        log.warning(
            "privacy.delta = %g is too large: δ is the chance with which ε need not hold. From "
            "1/num-clients = %.3g on, to publish all images of one client, drawn by lot, would "
            "count as private. Set it far below, such as privacy.delta=%.1g",
            settings.delta,
            1 / run.num_clients,
            min(1e-5, 0.01 / run.num_clients),
        )


def require_no_statistics(configuration: RunConfiguration, layout: StateLayout) -> None:
    """Refuse models with running statistics, which are averaged without clipping and noise."""
    if configuration.section(PrivacySettings).on and layout.float_buffers:
        raise ConfigurationError(
            f"privacy.clipping: model {configuration.model!r} has BatchNorm, whose statistics "
            "would go out without noise. Take one without, such as resnet8-gn, resnet8-ws or cnn"
        )
