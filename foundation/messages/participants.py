"""Who takes part: from Flower's random node ids to client indices that mean the same every run.

Node ids are drawn anew in every run. Sampling and sums are only reproducible over stable names, so
every node is asked once which client it is: a simulated node answers with its partition; a real
edge client without one gets the next free index in the order of node ids.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from foundation import ExpectedError
from foundation.errors import log
from foundation.messages.frozen_layers import FrozenLayers
from foundation.settings.configuration import ConfigurationError

if TYPE_CHECKING:
    from flwr.serverapp import Grid

T = TypeVar("T")

_POLL_SECONDS = 0.05
_RECONNECT_POLL_SECONDS = 0.5
_LONGEST_DESCRIPTION_SECONDS = 600.0
# A dead node is reported by Flower within 60 s; a slow one may need as long to start its process.
_SHORTEST_DESCRIPTION_SECONDS = 180.0
# No node has this id.
_NOBODY = -1


class MissingClients(ExpectedError, RuntimeError):
    """Fewer nodes answered than the run needs."""


@dataclass(frozen=True)
class Participant:
    """One client as it describes itself when it joins; what it did not say is empty."""

    #: Stable index; of a node that was not let in yet, the partition that it claims, or -1.
    client: int
    #: Flower's id of the node that speaks for it now.
    node_id: int
    #: Training samples n_i, at least 1: the client's weight in every average.
    num_examples: int
    #: Held-out images by class, or in one column where the server may not know the classes: the
    #: client's weight when it judges.
    held_out: tuple[int, ...] = ()
    #: What the client's site calls itself.
    site_name: str = ""
    #: Training images by class, where the server may know them exactly: a message of its own would
    #: cost the client's site another process.
    label_counts: tuple[int, ...] = ()
    #: Another one where a site's images are others.
    digest: str = ""
    #: How many parts a simulation's data have; 0 for a real site.
    partitions: int = 0


@dataclass(frozen=True)
class Gathered(Generic[T]):
    """What became of a question, by client, in the order of the clients.

    ``valid`` holds the checked answers, ``failures`` why each of the others has none, in a few
    words. ``refused`` are the failures that spoke for themselves: the client raised an error or
    answered nonsense. The others were not connected, vanished, or were not heard in time.
    """

    valid: dict[int, T]
    failures: dict[int, str]
    refused: frozenset[int] = frozenset()


#: Asks nodes who they are: gets the grid, their ids, and seconds to wait; returns what they say,
#: by id. See :func:`questions.description.introducing`.
Introduce = Callable[["Grid", Sequence[int], float], Gathered[Participant]]


class Participants:
    """The clients of a federation, by index.

    ``timeout`` are seconds to wait for them. The identity, ``"node-id"`` or ``"partition-id"``,
    gives a client that comes back its index again. What the server keeps of a client, its model
    first of all, goes by index: whoever takes another's index is sent it.
    """

    def __init__(
        self,
        expected: int,
        timeout: float,
        introduce: Introduce,
        identity: str = "node-id",
    ) -> None:
        self.expected = expected
        self.timeout = timeout
        self.introduce = introduce
        self.identity = identity
        #: Whether all clients are partitions of one data set, as in a simulation.
        self.simulated = False
        #: The frozen layers of the global model.
        self.frozen = FrozenLayers({})
        self._by_client: dict[int, Participant] = {}
        self._online: set[int] = set()
        self._before: dict[int, Participant] = {}
        self._complete = False
        self._turned_away: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._by_client)

    @property
    def clients(self) -> list[int]:
        """Indices of all clients ever seen, sorted."""
        return sorted(self._by_client)

    @property
    def judges(self) -> list[int]:
        """Indices of the clients that hold images out, sorted."""
        return [client for client in self.clients if sum(self[client].held_out)]

    @property
    def available(self) -> list[int]:
        """Indices of the clients whose node was connected at the last :meth:`refresh`, sorted."""
        return [index for index in self.clients if self._by_client[index].node_id in self._online]

    def __getitem__(self, client: int) -> Participant:
        return self._by_client[client]

    def addresses(self, clients: Iterable[int]) -> dict[int, int | None]:
        """Return the node that speaks for each client now, None where it is not connected."""
        nodes = {client: self._by_client[client].node_id for client in clients}
        return {client: node if node in self._online else None for client, node in nodes.items()}

    @property
    def named(self) -> bool:
        """Whether any site has given itself a name."""
        return any(participant.site_name for participant in self._by_client.values())

    def names(self) -> dict[int, str]:
        """Return what to call each client: its site's name, told apart where two have the same."""
        given = [participant.site_name for participant in self._by_client.values()]
        return {
            client: f"client {client}"
            if not (name := self._by_client[client].site_name)
            else f"{name} (client {client})"
            if given.count(name) > 1
            else name
            for client in self.clients
        }

    def told_before_and_now(self) -> dict[str, tuple[str, str]]:
        """Return the digests of clients that a resumed run knows from before, by name."""
        names = self.names()
        return {
            names[client]: (known.digest, self._by_client[client].digest)
            for client, known in self._before.items()
        }

    def discover(self, grid: "Grid", at_least: int = 0, to_start: int = 0) -> None:
        """Wait for the expected number of nodes and ask each who it is.

        Once ``timeout`` is over, ``at_least`` clients (0: all) are enough to go on with a run that
        was resumed: a site that is gone for good must not end it. So are ``to_start`` real sites
        for any run. Otherwise, and if one cannot
        answer, that is MissingClients; another number of nodes is a ConfigurationError.
        """
        self._wait(grid, self.expected)
        here = len(self.available)
        if here < self.expected:
            missing = [f"{here} of {self.expected} clients were connected after {self.timeout:g} s"]
            if (silent := len(self._online - self._turned_away.keys()) - here) > 0:
                missing.append(f"{silent} nodes did not say who they are")
            said = "; ".join([*missing, *self._turned_away.values()])
            real = not any(self[client].partitions for client in self.available)
            enough = [at_least] if self._before else [to_start] if real else []
            if not any(0 < number <= here for number in enough):
                raise MissingClients(
                    f"{said}. Start the missing SuperNodes, raise node-timeout, or "
                    f"set num-clients={here or 1}. In a simulation: " + self._simulation_command()
                )
            log.warning("%s: going on without the others", said)
        if len(self._by_client) > self.expected:
            raise ConfigurationError(self._wrong_count(len(self._by_client)))
        # All, so that a real site cannot make the server forget who the others are.
        self.simulated = all(participant.partitions for participant in self._by_client.values())
        # Clients that are not back keep their place: their models are still of use.
        self._by_client = {**self._before, **self._by_client}
        self._complete = True

    def refresh(self, grid: "Grid", at_least: int = 0) -> None:
        """See who is connected now; nodes not seen before are asked who they are.

        ``at_least`` clients are waited for: after a cut of the network or a restart of the
        SuperLink they come back one by one.
        """
        if not self._complete:
            self.discover(grid)
            return
        self._meet(grid, set(grid.get_node_ids()))
        if len(self.available) < at_least:
            log.warning(
                "%d clients are connected, %d are needed: waiting up to %g s",
                len(self.available),
                at_least,
                self.timeout,
            )
            self._wait(grid, at_least)

    def _wait(self, grid: "Grid", enough: int) -> None:
        """Meet clients until enough are connected, or the time is over.

        The grid is empty for a moment at the start of a run.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            self._meet(grid, set(grid.get_node_ids()))
            if len(self.available) >= enough or time.monotonic() > deadline:
                return
            time.sleep(_RECONNECT_POLL_SECONDS if self._online else _POLL_SECONDS)

    def remember(self) -> dict[str, dict[str, Any]]:
        """Return what is known of a deployment's clients, by index, for a checkpoint."""
        if self.simulated:
            return {}
        own = {"client", "partitions"}
        return {
            str(client): {k: v for k, v in asdict(self[client]).items() if k not in own}
            for client in self.clients
        }

    def recall(self, remembered: Mapping[str, Mapping[str, Any]]) -> None:
        """Give the nodes of the run being resumed their indices back.

        What the server keeps of a client (its model, its control variate) goes by index; another
        client must not inherit it.
        """
        self._before = {}
        for client, known in remembered.items():
            # JSON knows no tuples.
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in known.items()
            }
            self._before[int(client)] = Participant(int(client), **values)

    def _meet(self, grid: "Grid", nodes: set[int]) -> None:
        self._online = nodes
        known = {participant.node_id for participant in self._by_client.values()}
        new = sorted(nodes - known - self._turned_away.keys())
        if not new:
            return
        answers = self.introduce(
            grid,
            new,
            min(_LONGEST_DESCRIPTION_SECONDS, max(self.timeout, _SHORTEST_DESCRIPTION_SECONDS)),
        )
        if answers.refused:
            # All of them at once: whoever mends one site should not meet the next one's reason
            # only in the next run.
            reason = "refused to take part: " + "; ".join(
                f"node {node}: {answers.failures[node]}" for node in sorted(answers.refused)
            )
            many = len(answers.refused)
            who = "a client" if many == 1 else f"{many} clients"
            self._turn_away(f"{who} {reason}", MissingClients(f"{who} {reason}"))
        for node, newcomer in answers.valid.items():
            try:
                self._admit(newcomer)
            except ConfigurationError as error:
                self._turn_away(f"node {node}: {error}", error)

    def _admit(self, newcomer: Participant) -> None:
        partition, node = newcomer.client, newcomer.node_id
        if newcomer.partitions not in (0, self.expected):
            raise ConfigurationError(self._wrong_count(newcomer.partitions))
        taken = self._by_client.get(partition)
        if taken is not None and taken.node_id in self._online and taken.node_id != node:
            raise ConfigurationError(
                f"two connected nodes claim partition-id {partition}; give every SuperNode "
                "its own, or none"
            )
        if partition < 0:
            partition = self._index_of(node)
        elif self.identity == "node-id" and (reason := self._takeover(node, partition)):
            # Not asked again, which would cost its site a process every time. And it must not keep
            # the others from going on.
            self._turned_away[node] = reason
            log.warning("not let in: %s", reason)
            return
        for other in self._before.values():
            if other.node_id == node and other.client != partition:
                # Its node speaks for somebody else now, and would be asked twice.
                self._before[other.client] = replace(other, node_id=_NOBODY)
        self._by_client[partition] = replace(newcomer, client=partition)

    def _takeover(self, node: int, partition: int) -> str:
        """Say why a node may not have an index that is, or was before a resume, another's."""
        known = self._by_client if self._complete else self._before
        owner = known.get(partition)
        had = next((p.client for p in self._before.values() if p.node_id == node), partition)
        if had != partition:
            return f"node {node} claims partition-id {partition}, and was client {had} before"
        if owner is not None and owner.node_id != node:
            return (
                f"node {node} claims partition-id {partition}, which is the place of node "
                f"{owner.node_id}, which is away. If this is the same site, restarted without a "
                "key: client-identity='partition-id' lets it take its place again, and lets any "
                "other take it as well"
            )
        return ""

    def _index_of(self, node: int) -> int:
        """Return the index of a node that names none: the one it had, or the next free one."""
        for participant in self._before.values():
            if participant.node_id == node:
                return participant.client
        taken = {**self._before, **self._by_client}
        return next(index for index in range(len(taken) + 1) if index not in taken)

    def _turn_away(self, reason: str, error: Exception) -> None:
        """Stop a federation that is just starting; go on without a newcomer to a running one."""
        if not self._complete:
            raise error
        log.warning("a newcomer is not let in: %s", reason)

    def _wrong_count(self, nodes: int) -> str:
        return (
            f"the federation has {nodes} nodes, but num-clients = {self.expected}. Use "
            f'--run-config "num-clients={nodes}", or run {self._simulation_command()}'
        )

    def _simulation_command(self) -> str:
        return (
            f'flwr run . --stream --federation-config "num-supernodes={self.expected} '
            'client-resources-num-cpus=1"'
        )
