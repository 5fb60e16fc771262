"""Flower's own strategies, and anybody's written for Flower, as algorithms of this app.

    algorithm = from_flower("mine", lambda configuration: MyFlowerStrategy(...))

in a file makes ``strategy=mine`` work; Flower's own are the table at the end of this one. The
wrapped strategy takes the *parameters'* step: its ``aggregate_train`` is given the checked local
models, parameters only, in float32. What it must not touch stays the app's: buffers are averaged (a
server optimizer that extrapolates a running variance below zero makes a model output NaN), and so
are sampling, messages, checks of replies, failures and checkpoints.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)

from foundation.messages.records import to_record
from foundation.models import State
from foundation.models.aggregation import combine, sample_weights
from foundation.settings.algorithms import RobustSettings, ServerOptimizerSettings
from foundation.settings.configuration import ConfigurationError, RunConfiguration

from .algorithm import Algorithm
from .object_state import attributes_from_state, attributes_to_state
from .server import FederatedStrategy, LocalUpdate, TooFewReplies, Updates

Make = Callable[[RunConfiguration], Strategy]

# A strategy that finds too few nodes looks again every second, without end.
_LOOKS_AT_MOST = 10


def from_flower(
    name: str, make: Make, *, fewest_replies: Callable[[RunConfiguration], int] = lambda _: 1
) -> Algorithm:
    """Return an algorithm whose server half is a strategy written for Flower.

    ``make`` builds the :class:`flwr.serverapp.strategy.Strategy` from the run's configuration. Of
    its methods ``configure_train`` and ``aggregate_train`` are used; the settings that the first
    sends to clients are sent. ``fewest_replies`` returns the fewest local models of a round that
    the strategy's rule is defined for.
    """

    def check(configuration: RunConfiguration) -> None:
        if configuration.server_learning_rate != 1.0:
            raise ConfigurationError(
                f"server-learning-rate = {configuration.server_learning_rate:g} has no effect "
                f"under strategy = {name!r}, which takes the server's step itself: set "
                "server-optimizer.learning-rate where the strategy has a step size"
            )
        fewest, asked = fewest_replies(configuration), configuration.clients_per_round
        if fewest > asked:
            robust = configuration.section(RobustSettings)
            raise ConfigurationError(
                f"strategy = {name!r} needs at least {fewest} clients in a round with "
                f"robust.malicious-clients = {robust.malicious_clients} and "
                f"robust.clients-to-keep = {robust.clients_to_keep}; "
                f"num-clients x fraction-train gives {asked}"
            )
        try:
            # What a checkpoint could not hold must be known before the first round, too.
            attributes_to_state(make(configuration))
        except ValueError as error:
            raise ConfigurationError(f"strategy = {name!r}: {error}") from error

    server = type(
        "FromFlower",
        (FromFlower,),
        {"make": staticmethod(make), "fewest_replies": staticmethod(fewest_replies)},
    )
    return Algorithm(name, server, check=check)


class FromFlower(FederatedStrategy):
    """Server half: the wrapped strategy moves the parameters; buffers are averaged.

    Every local model of a round is in memory while the strategy combines them, as under Flower.
    """

    make: ClassVar[Make]
    fewest_replies: ClassVar[Callable[[RunConfiguration], int]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.wrapped = type(self).make(self.configuration)
        # Flower's own sample once more, with lower bounds of two nodes; here all sampled take part.
        everybody = {"fraction_train": 1.0, "min_train_nodes": 1, "min_available_nodes": 1}
        for attribute, value in everybody.items():
            if hasattr(self.wrapped, attribute):
                setattr(self.wrapped, attribute, value)
        self._settings: dict[int, dict[str, Any]] = {}

    def required_replies(self) -> int:
        return max(super().required_replies(), type(self).fewest_replies(self.configuration))

    def begin(self, server_round: int, state: State, grid: Grid) -> None:
        """Sample clients as always, and tell the wrapped strategy where the round starts.

        A ConfigurationError says that it sends other arrays than the global model, or waits for
        more nodes.
        """
        super().begin(server_round, state, grid)
        nodes = [node for node in self.addresses.values() if node is not None]
        if hasattr(self.wrapped, "current_arrays"):
            # FedAvgM takes the model up once and goes on from what it returned; but distillation,
            # or a resumed checkpoint, may have put another in its place.
            self.wrapped.current_arrays = None
        start = to_record(self._parameters(self._global))
        asked = self.wrapped.configure_train(
            server_round, start, ConfigRecord(), cast(Grid, _SampledNodes(grid, nodes))
        )
        self._settings = {}
        for message in asked:
            for sent in message.content.array_records.values():
                if sent is not start and sent != start:
                    raise ConfigurationError(
                        f"{type(self.wrapped).__name__} sends its clients other arrays than the "
                        "global model: such a strategy needs a file of its own in strategies/"
                    )
            settings: dict[str, Any] = {}
            for record in message.content.config_records.values():
                settings.update(record)
            self._settings[message.metadata.dst_node_id] = settings

    def train_config(self, server_round: int, client: int) -> dict[str, Any]:
        settings = self._settings.get(self.participants[client].node_id, {})
        return {**settings, **super().train_config(server_round, client)}

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        """Return the averaged buffers and the parameters where the strategy puts them.

        A TooFewReplies says that it returns no arrays; a ValueError, that they are not the model's.
        """
        states = [update.load() for update in updates]
        result = combine(
            global_state,
            states,
            replace(self.layout, parameters=()),
            weights=sample_weights([update.num_examples for update in updates]),
        )
        replies = [
            self._reply(update, state) for update, state in zip(updates, states, strict=True)
        ]
        arrays, _ = self.wrapped.aggregate_train(server_round, replies)
        if arrays is None:
            raise TooFewReplies(
                f"round {server_round}: {type(self.wrapped).__name__} returned no model from "
                f"{len(replies)} replies"
            )
        moved = arrays.to_torch_state_dict()
        if set(moved) != set(self.layout.parameters):
            raise ValueError(
                f"{type(self.wrapped).__name__} returned other arrays than the model's parameters"
            )
        for name, value in moved.items():
            result[name] = value.to(global_state[name].dtype)
        return result

    def _parameters(self, state: State) -> State:
        """Return the parameters alone, in the type that Flower's strategies are used with."""
        return {
            name: state[name].to(torch.promote_types(state[name].dtype, torch.float32))
            for name in self.layout.parameters
        }

    def _reply(self, update: LocalUpdate, state: State) -> Message:
        """Return a checked local model as the reply that a strategy of Flower's expects."""
        node = self.participants[update.client].node_id
        metrics: dict[str, Any] = {
            "num-examples": update.num_examples,
            "local-steps": update.steps,
            "train-loss": update.train_loss,
        }
        arrays = to_record(self._parameters(state))
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=Message(RecordDict(), node, "train"))

    def memory(self) -> State:
        return attributes_to_state(self.wrapped)

    def restore(self, memory: State) -> None:
        attributes_from_state(self.wrapped, memory)

    def summary(self) -> None:
        super().summary()
        self.wrapped.summary()


class _SampledNodes:
    """The grid as the wrapped strategy sees it: the round's nodes, and nothing to send."""

    def __init__(self, grid: Grid, nodes: Sequence[int]) -> None:
        self._grid, self._nodes = grid, nodes
        self._looks = 0

    def get_node_ids(self) -> list[int]:
        """Return the round's nodes; a ConfigurationError ends the wait of a strategy for more."""
        self._looks += 1
        if self._looks > _LOOKS_AT_MOST:
            raise ConfigurationError(
                f"the strategy waits for more nodes than the {len(self._nodes)} of this round: "
                "lower the number it asks for"
            )
        return list(self._nodes)

    def __getattr__(self, name: str) -> Any:
        if name in ("run", "create_message"):
            return getattr(self._grid, name)
        raise ConfigurationError(
            "the strategy speaks to nodes by itself, which under from_flower only the app does: "
            "such a strategy needs a file of its own in strategies/"
        )


def _robust(run: RunConfiguration) -> RobustSettings:
    return run.section(RobustSettings)


def _optimizer(run: RunConfiguration) -> ServerOptimizerSettings:
    return run.section(ServerOptimizerSettings)


def _with_two_moments(kind: type[FedAdam | FedYogi], run: RunConfiguration) -> Strategy:
    told = _optimizer(run)
    return kind(eta=told.step(0.03), beta_1=told.beta1, beta_2=told.beta2, tau=told.tau)


def _kept_by_multikrum(configuration: RunConfiguration) -> int:
    """Return m, the number of models to average: n - f - 2 of a full round unless it is set."""
    robust = _robust(configuration)
    return robust.clients_to_keep or max(
        1, configuration.clients_per_round - robust.malicious_clients - 2
    )


def _fewest_for_krum(configuration: RunConfiguration) -> int:
    """Return 2f + 3, for which Krum's scores are defined."""
    return 2 * _robust(configuration).malicious_clients + 3


# The step sizes η were chosen on held-out training images of the digits
# (docs/lab/2026-11-strategies.md).
algorithms = (
    # Adaptive optimizers on the averaged update (Reddi et al. 2021).
    from_flower(
        "fedadagrad",
        lambda run: FedAdagrad(eta=_optimizer(run).step(0.01), tau=_optimizer(run).tau),
    ),
    from_flower("fedadam", partial(_with_two_moments, FedAdam)),
    from_flower("fedyogi", partial(_with_two_moments, FedYogi)),
    # Momentum on the server (Hsu, Qi and Brown 2019).
    from_flower(
        "fedavgm",
        lambda run: FedAvgM(
            server_learning_rate=_optimizer(run).step(1.0),
            server_momentum=_optimizer(run).momentum,
        ),
    ),
    # The median and the trimmed mean, coordinate by coordinate (Yin et al. 2018).
    from_flower("fedmedian", lambda _: FedMedian()),
    from_flower("fedtrimmedavg", lambda run: FedTrimmedAvg(beta=_robust(run).trimmed_fraction)),
    # The model nearest to the others, or the mean of the nearest ones (Blanchard et al. 2017).
    from_flower(
        "krum",
        lambda run: Krum(num_malicious_nodes=_robust(run).malicious_clients),
        fewest_replies=_fewest_for_krum,
    ),
    from_flower(
        "multikrum",
        lambda run: MultiKrum(
            num_malicious_nodes=_robust(run).malicious_clients,
            num_nodes_to_select=_kept_by_multikrum(run),
        ),
        fewest_replies=lambda run: max(
            _fewest_for_krum(run), _kept_by_multikrum(run) + _robust(run).malicious_clients
        ),
    ),
    # Krum, then a trimmed mean (El Mhamdi et al. 2018).
    from_flower(
        "bulyan",
        lambda run: Bulyan(num_malicious_nodes=_robust(run).malicious_clients),
        fewest_replies=lambda run: 4 * _robust(run).malicious_clients + 3,
    ),
    # q-FedAvg (Li et al. 2020): clients of high loss weigh more.
    #     Δ_i = L(x - y_i);   x⁺ = x - Σ F_i^q·Δ_i / Σ (q·F_i^(q-1)·‖Δ_i‖² + L·F_i^q)
    # The paper takes the local step size for 1/L, for clients that make few steps. After many steps
    # with momentum, ‖Δ_i‖² would then outweigh everything, and the model would hardly move; q = 0
    # is the plain mean of the clients under every L. F_i is the mean loss of a client's round; the
    # paper takes the one at the round's start.
    from_flower(
        "qfedavg",
        lambda run: QFedAvg(
            client_learning_rate=_optimizer(run).step(1.0),
            q=_optimizer(run).fairness,
            train_loss_key="train-loss",
        ),
    ),
)
