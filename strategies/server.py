"""The server half every algorithm shares: sampling, messages, checks, aggregation.

A round is :meth:`FederatedStrategy.begin`, a question to every sampled client, and
:meth:`FederatedStrategy.finish`. An algorithm overrides what differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import Grid

from foundation import ExpectedError, counted
from foundation.data.batches import steps_per_epoch
from foundation.errors import log
from foundation.events.family import PrivacySpent, RoundDone, failures_of
from foundation.messages.content import Received, payload_bytes
from foundation.messages.gather import grouped
from foundation.messages.participants import Gathered, MissingClients, Participants
from foundation.messages.records import InvalidContent, packed
from foundation.models import State, StateLayout, state_difference
from foundation.models.aggregation import (
    clip_factors,
    combine,
    normalizer,
    sample_weights,
    scaled_update,
    update_norm,
)
from foundation.models.client_store import ClientStore
from foundation.seeds import SAMPLING, derived_seed
from foundation.settings.configuration import RunConfiguration

#: Per store, the round each client's state is from.
Versions = dict[str, dict[int, int]]


class TooFewReplies(ExpectedError, RuntimeError):
    """A round had fewer valid replies than ``min-successful-clients``."""


@dataclass(frozen=True)
class LocalUpdate:
    """One client's valid result of a round; its model is read from disk when it is needed.

    It has n_i training samples and made τ_i optimizer steps; ``load`` reads y_i.
    """

    client: int
    num_examples: int
    steps: int
    train_loss: float
    seconds: float
    load: Callable[[], State]


#: Those of a round, sorted by client index.
Updates = Sequence[LocalUpdate]


@dataclass(eq=False)
class FederatedStrategy:
    """FedAvg's server half, and the base of all others."""

    configuration: RunConfiguration
    layout: StateLayout
    #: Where local models and what is kept of each client are.
    directory: Path
    participants: Participants

    #: Whether local models must outlive the round after theirs (MOON, local-only).
    keeps_local_models: ClassVar[bool] = False
    #: Whether there is a global model that a post-training method can work on.
    has_global_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.local_models = ClientStore(self.directory / "local_models")
        #: The last round, but for what is not known here: accuracy, seconds, and whose round it is.
        self.outcome: RoundDone | None = None
        #: Versions that checkpoints behind the current state still refer to.
        self.retained: list[Versions] = []
        #: The clients of the round, and the nodes they are asked through.
        self.addresses: dict[int, int | None] = {}
        self._global: State = {}
        self._packed_global = ArrayRecord()
        self._bytes_down = self._bytes_up = 0
        self._notes: dict[str, float] = {}
        #: η of the round, by the schedule: that of the clients.
        self.learning_rate = self.configuration.learning_rate

    def extra_records(self, client: int) -> dict[str, State]:
        """Return what ``client`` is sent beside the global model, by name."""
        return {}

    def model_for(self, client: int) -> State:
        """Return the state ``client`` starts from: the global model."""
        return self._global

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        """Return the next global state from the updates."""
        return combine(
            global_state,
            (update.load() for update in updates),
            self.layout,
            weights=sample_weights([update.num_examples for update in updates]),
            server_learning_rate=self.configuration.server_learning_rate,
        )

    def memory(self) -> State:
        """Return the tensors the algorithm must remember between rounds."""
        return {}

    def restore(self, memory: State) -> None:
        """Take back what :meth:`memory` returned."""

    def stores(self) -> dict[str, ClientStore]:
        """Return the per-client stores, by name."""
        return {"local_models": self.local_models}

    def sample(self, server_round: int) -> list[int]:
        """Draw the clients of a round from those connected; same seed and round, same clients."""
        available = self.participants.available
        count = min(self.configuration.clients_per_round, len(available))
        draw = np.random.default_rng(derived_seed(self.configuration.seed, SAMPLING, server_round))
        chosen = draw.choice(len(available), size=count, replace=False)
        return sorted(available[int(index)] for index in chosen)

    def required_replies(self) -> int:
        """Return the fewest valid replies a round needs."""
        return self.configuration.required_replies

    def train_config(self, server_round: int, client: int) -> dict[str, int | bool]:
        """Return the settings of a train message that differ by round or client."""
        return {"server-round": server_round, "client": client}

    def evaluate(
        self, state: State, evaluate: Callable[[State], dict[str, float]]
    ) -> dict[str, float]:
        """Apply a function that measures one model to what this algorithm produces.

        Nothing is returned where nothing was measured.
        """
        return evaluate(state)

    def expected_examples(self, client: int) -> int:
        """Return how many samples a client must say it trained on: those it joined with.

        The weight of a client in the average is fixed when it joins: it cannot vote itself up.
        """
        return self.participants[client].num_examples

    def expected_steps(self, client: int) -> int:
        """Return how many local steps a client must say it made: they follow from its samples.

        FedNova and SCAFFOLD divide by them. A client that were believed could give itself any
        weight: with 1 step in place of 45, and momentum 0.9, that of 361 clients.
        """
        configuration = self.configuration
        return configuration.local_epochs * steps_per_epoch(
            self.expected_examples(client),
            configuration.batch_size,
            drop_singleton=self.layout.batch_norm,
        )

    @property
    def exhausted(self) -> bool:
        """Whether no other round may follow."""
        return False

    def privacy_spent(self) -> PrivacySpent | None:
        """Return what the rounds have given away; None where nobody counts it."""
        return None

    def begin(self, server_round: int, state: State, grid: Grid) -> None:
        """Begin a round, counted from 1, from x: it must not be changed until :meth:`finish`.

        The grid is asked who is connected. MissingClients says that fewer clients are connected
        than the round needs replies, for ``node-timeout``.
        """
        # What the last round replaced is only deleted now, when that round has been checkpointed.
        self.declare(self.versions())
        self.prune()
        self.participants.refresh(grid, at_least=self.required_replies())
        self._global, self._packed_global = state, packed(state)
        self.addresses = self.participants.addresses(self.sample(server_round))
        if len(self.addresses) < self.required_replies():
            raise MissingClients(
                f"round {server_round}: {len(self.addresses)} clients are connected, "
                f"{self.required_replies()} are needed"
            )
        self.learning_rate = self.configuration.learning_rate_at(server_round)
        self._bytes_down = self._bytes_up = 0

    def content(self, server_round: int, config: ConfigRecord, client: int) -> RecordDict:
        """Return what a sampled client is sent; ``config`` is what all are told."""
        states = {"arrays": self.model_for(client), **self.extra_records(client)}
        settings: dict[str, Any] = {**config, **self.train_config(server_round, client)}
        frozen = self.participants.frozen
        states, said = frozen.sent(states, frozen.held_by(client))
        settings.update(said)
        records = {
            name: self._packed_global if state is self._global else packed(state)
            for name, state in states.items()
        }
        message = RecordDict({**records, "config": ConfigRecord(settings)})
        self._bytes_down += payload_bytes(message)
        return message

    def checked(self, server_round: int, client: int, content: RecordDict) -> LocalUpdate:
        """Check a client's reply, spool its model to disk, and return the rest of it.

        InvalidContent says what in it an honest client would not send.
        """
        reply = Received(content, self.participants.frozen.layers)
        state = reply.state("arrays", self._global)
        for name in self.layout.frozen:
            if not torch.equal(state[name], self._global[name]):
                raise InvalidContent(f"{name!r} is frozen, and was changed")
        told, examples = reply.number("num-examples"), self.expected_examples(client)
        if told != examples:
            raise InvalidContent(f"trained on {told:g} samples instead of {examples}")
        made, steps = reply.number("local-steps"), self.expected_steps(client)
        if made != steps:
            raise InvalidContent(
                f"says that it made {made:g} local steps; {examples} samples make {steps}"
            )
        loss, seconds = reply.number("train-loss"), reply.number("seconds")
        self._keep_local(client, server_round, state)
        self._bytes_up += payload_bytes(content)
        return LocalUpdate(
            client,
            examples,
            steps,
            loss,
            seconds,
            lambda: self.local_models.read(client),
        )

    def _keep_local(self, client: int, server_round: int, state: State) -> None:
        frozen = self.participants.frozen
        if not frozen.part_of(state):
            self.local_models.write(client, server_round, state)
        else:
            shared = (frozen.digest, frozen.layers)
            self.local_models.write(client, server_round, frozen.without(state), shared)

    def finish(self, server_round: int, gathered: Gathered[LocalUpdate]) -> State:
        """Combine what came of a round into the next global state.

        TooFewReplies lists why fewer valid replies came than ``min-successful-clients``.
        """
        updates, failures = list(gathered.valid.values()), gathered.failures
        self.participants.frozen.answered(gathered.valid, failures)
        names = self.participants.names()
        for client, reason in failures.items():
            log.warning("round %d: %s dropped: %s", server_round, names[client], reason)
        if len(updates) < self.required_replies():
            raise TooFewReplies(
                f"round {server_round}: {len(updates)} of {len(self.addresses)} clients "
                "returned a valid result, min-successful-clients asks for "
                f"{self.required_replies()}. {grouped(failures, names)}"
            )
        self._notes = {}
        if self.configuration.clip_update_norm > 0 and self.has_global_model:
            self._clip(server_round, updates)
        combined = self.aggregate(server_round, self._global, updates)
        if problem := state_difference(self._global, combined):
            raise ValueError(
                f"the aggregate of strategy {self.configuration.strategy!r} must return a whole "
                f"state of the model: {problem}"
            )
        weights = sample_weights([update.num_examples for update in updates])
        self.outcome = RoundDone(
            server_round,
            phase="",
            accuracy=None,
            loss=None,
            measured=None,
            train_loss=sum(w * u.train_loss for w, u in zip(weights, updates, strict=True)),
            seconds=None,
            clients=tuple(update.client for update in updates),
            failures=failures_of(failures, names),
            bytes_down=self._bytes_down,
            bytes_up=self._bytes_up,
            notes=dict(self._notes),
        )
        return combined

    def _clip(self, server_round: int, updates: Updates) -> None:
        """Bound the norms of the updates on disk: what is kept of a client is what is averaged."""
        names = self.layout.parameters
        norms = [update_norm(self._global, update.load(), names) for update in updates]
        factors = clip_factors(norms, self.configuration.clip_update_norm)
        self._notes["clipped"] = sum(factor < 1 for factor in factors)
        for update, norm, factor in zip(updates, norms, factors, strict=True):
            if factor < 1:
                log.warning(
                    "%s: its update, of norm %.3g, is scaled down to %.3g",
                    self.participants.names()[update.client],
                    norm,
                    norm * factor,
                )
                scaled = scaled_update(self._global, update.load(), names, factor)
                self._keep_local(update.client, server_round, scaled)

    def normalizer_of(self, update: LocalUpdate) -> float:
        """Return ‖a_i‖₁ of a client's local optimizer, from its number of steps."""
        return normalizer(
            update.steps,
            learning_rate=self.learning_rate,
            momentum=self.configuration.momentum,
            weight_decay=self.configuration.weight_decay,
        )

    def summary(self) -> None:
        """Log the settings that matter."""
        log.info(
            "%s: %d of %s per round, %s, learning rate %g, momentum %g",
            self.configuration.strategy,
            self.configuration.clients_per_round,
            counted(self.configuration.num_clients, "client"),
            counted(self.configuration.local_epochs, "local epoch"),
            self.configuration.learning_rate,
            self.configuration.momentum,
        )

    def versions(self) -> Versions:
        """Return the valid versions of all per-client stores, after the round just aggregated."""
        result = {}
        for name, store in self.stores().items():
            versions = store.versions
            if name == "local_models" and not self.keeps_local_models and versions:
                latest = max(versions.values())
                versions = {client: at for client, at in versions.items() if at == latest}
            result[name] = versions
        return result

    def declare(self, versions: Versions) -> None:
        """Say which versions are valid: those of the round before, or of a resumed checkpoint."""
        for name, store in self.stores().items():
            store.declare(versions.get(name, {}))

    def prune(self) -> None:
        """Delete per-client files that neither this run's state nor a kept checkpoint needs."""
        for name, store in self.stores().items():
            store.prune({item for kept in self.retained for item in kept.get(name, {}).items()})

    def last_local_models(self) -> list[int]:
        """Return the clients whose local models are of the last round they were sampled in."""
        versions = self.local_models.versions
        latest = max(versions.values(), default=0)
        return [client for client, at in versions.items() if at == latest]
