"""The clients of a run: who they are, what they are asked, and what they told of their labels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from foundation import whole_file
from foundation.data import Description, to_assignment
from foundation.data.agreement import to_values
from foundation.errors import log
from foundation.events.family import BytesSent, ClientsMet
from foundation.events.log import Record
from foundation.messages.content import Content, payload_bytes
from foundation.messages.frozen_layers import FrozenLayers
from foundation.messages.gather import gather
from foundation.messages.participants import Gathered, MissingClients, Participants
from foundation.settings.configuration import RunConfiguration
from foundation.wording import listed
from questions import Request
from questions.ask import Answers, ask
from questions.description import DescriptionRequest, code_fingerprint, introducing
from questions.label_counts import LabelCountsRequest
from questions.pixel_sums import PixelSumsRequest
from strategies import FederatedStrategy, TooFewReplies
from strategies.server import LocalUpdate

from .checkpoints import Checkpoint, Told
from .global_model import GlobalModel
from .images import (
    described_data,
    described_test,
    normalized,
    require_same_data,
    warn_of_other_images,
    warn_of_other_test,
)

A = TypeVar("A")


class Clients:
    """Asks the clients of a run, and counts what travels; ``must_stop`` is :func:`.run.run`'s."""

    def __init__(
        self,
        grid: Grid,
        configuration: RunConfiguration,
        description: Description,
        model: GlobalModel,
        record: Record,
        must_stop: Callable[[str], str | None] | None = None,
    ) -> None:
        self._grid = grid
        self._configuration = configuration
        self._model = model
        self._record = record
        self._must_stop = must_stop
        #: What every message says of the run, where sites keep layers of their own.
        self.said_to_sites: Callable[[], Mapping[str, Any]] = dict
        self._introduced: Sequence[int] = ()
        #: What every message says of the images.
        self.description = description
        columns = description.classes if configuration.exact_counts_told else 1
        request = DescriptionRequest(code_fingerprint(configuration.flat()), columns)
        self.participants = Participants(
            configuration.num_clients,
            configuration.node_timeout,
            introducing(request, to_values(description)),
            configuration.client_identity,
        )
        self._told: Told = {}

    def take_up(self, state: Checkpoint) -> None:
        """Know what clients told before of labels and pixels; what they tell is added to it.

        It is kept in checkpoints: asked again, a client would draw new noise.
        """
        self._told = state.label_counts
        self.description = normalized(self.description, state.normalization)

    def ask(
        self, request: Request[A, Any], progress: Callable[[int, int], None] | None = None
    ) -> Answers[A]:
        """Ask the clients a question, and count what travelled: models down, its answers up."""
        self._know_frozen_layers()
        answers = ask(
            self._grid,
            request,
            self.participants,
            agreement=self._agreement,
            timeout=self._configuration.round_timeout * max(1, request.rounds),
            progress=progress,
        )
        self._record(BytesSent("model", down=answers.bytes_down))
        self._record(BytesSent(request.asks.name.replace("_", " "), up=answers.bytes_up))
        return answers

    def train(self, strategy: FederatedStrategy, server_round: int) -> Gathered[LocalUpdate]:
        """Have a strategy's sample of clients train; the strategy counts the bytes."""
        self._know_frozen_layers()
        strategy.begin(server_round, self._model.state, self._grid)
        joined = [c for c in self.participants.clients if c not in self._introduced]
        if self._introduced and joined:
            log.info("round %d: %s joined", server_round, self._called(joined))
            self._say_who(self.label_counts(self.participants.clients))
        return gather(
            self._grid,
            strategy.addresses,
            "train",
            partial(strategy.content, server_round, self._agreement),
            partial(strategy.checked, server_round),
            self._configuration.round_timeout,
        )

    def label_counts(self, clients: Sequence[int]) -> dict[int, list[int] | None] | None:
        """Return (classes,) label counts by client, in the order given; None for no valid answer.

        Clients that told none when they joined, and were not asked before, are asked now. None
        altogether if the configuration has the server know none.
        """
        if not self._configuration.label_counts_told:
            return None
        known = self._known_labels()
        for client in clients:
            described = list(self.participants[client].label_counts)
            if described and not self._knows_labels(client):
                known[str(client)] = described
                records = Content(numbers={"label-counts": described}).records()
                self._record(BytesSent("label counts", up=payload_bytes(records)))
        unknown = [client for client in clients if not self._knows_labels(client)]
        if unknown:
            noised = self._configuration.label_counts == "noised"
            answers = self.ask(LabelCountsRequest(unknown, self.description.classes, noised))
            for client, reason in answers.failures.items():
                log.warning("%s sent no label counts: %s", self._called([client]), reason)
            known.update({str(client): counts for client, counts in answers.valid.items()})
        return {client: known.get(str(client)) for client in clients}

    def _known_labels(self) -> dict[str, list[int]]:
        configuration = self._configuration
        noise = configuration.label_counts_noise if configuration.label_counts == "noised" else 0
        return self._told.setdefault(f"noise {noise:g}", {})

    def _knows_labels(self, client: int) -> bool:
        """Tell whether a client's label counts are known, and still those of its images."""
        counts = self._known_labels().get(str(client))
        if counts is None or self._configuration.label_counts == "noised":
            return counts is not None
        return sum(counts) == self.participants[client].num_examples

    def stop_if_hopeless(self, reasons: Iterable[str]) -> None:
        """Stop if the engine says that clients that failed so will be missing ever after."""
        for reason in reasons:
            if self._must_stop is not None and (why := self._must_stop(reason)):
                raise TooFewReplies(why)

    def _know_frozen_layers(self) -> None:
        names = self._model.layout.frozen
        if names and not self.participants.frozen.part_of(self._model.state):
            self.participants.frozen = FrozenLayers(self._model.state, names)

    @property
    def _agreement(self) -> ConfigRecord:
        return ConfigRecord({**to_values(self.description), **self.said_to_sites()})

    def meet(self, state: Checkpoint) -> None:
        """Wait for the clients, and learn who they are and what their pixels are like.

        They must be those that the configuration names, and have the images that a run began with.
        """
        configuration = self._configuration
        enough = configuration.required_replies
        self.participants.discover(self._grid, enough, configuration.min_clients)
        if self.participants.simulated:
            names = self.description.class_names
            now = described_data(configuration.division, self._num_examples, names)
            require_same_data(state.data, now, list(configuration.data_set.sites()))
        else:
            now = described_test(configuration.data_set)
            warn_of_other_images(self.participants)
            warn_of_other_test(state.data, now)
        state.data = now
        if configuration.measures_pixels and not state.normalization:
            request = PixelSumsRequest(self.description.image_shape)
            answers = self.ask(request)
            if answers.failures:
                raise MissingClients(f"no valid sums of pixels: {answers.who_failed}")
            mean, std = request.pooled(answers.valid)
            state.normalization = {"mean": mean, "std": std}
            self.take_up(state)

    def introduce(self) -> None:
        """Say who the clients are, after asking all of them for their label counts."""
        table = self.label_counts(self.participants.clients)
        missing = [client for client, row in (table or {}).items() if row is None]
        if missing:
            raise MissingClients(
                f"no valid label counts from {self._called(missing)}. Set label-counts=uniform or "
                "generation.place=client to do without them"
            )
        self._say_who(table)

    def _say_who(self, table: Mapping[int, list[int] | None] | None) -> None:
        """Say who the clients are, by index: one that has not come yet has no image."""
        self._introduced = known = self.participants.clients
        few = max(known) < self._configuration.num_clients
        everybody = list(range(max(known) + 1)) if few else known
        examples = [self.participants[c].num_examples if c in known else 0 for c in everybody]
        told = None
        if table is not None and None not in table.values():
            told = [table.get(client) or [0] * self.description.classes for client in everybody]
        names = self._names(everybody)
        self._record(ClientsMet(examples, told, names, self.participants.simulated))

    def _called(self, clients: Sequence[int]) -> str:
        names = self.participants.names()
        return listed([names[client] for client in clients])

    def _names(self, everybody: Sequence[int]) -> tuple[str, ...]:
        """Return the names of sites: parts of a data set have none."""
        if not self.participants.simulated:
            given = self.participants.names() if self.participants.named else {}
            return tuple(given.get(c, f"client {c}") for c in everybody) if given else ()
        names = self._configuration.data_set.sites()
        return tuple(names) if len(names) == self._configuration.num_clients else ()

    def write_partition(self, path: Path) -> None:
        """Write for every row of the training split its simulated client, -1 for none."""
        if self.participants.simulated:
            division = self._configuration.division
            rows = len(division.data_set.load("train"))
            with whole_file(path) as aside, aside.open("wb") as file:
                np.save(file, to_assignment(division.parts(), rows))

    @property
    def _num_examples(self) -> list[int]:
        return [self.participants[client].num_examples for client in self.participants.clients]
