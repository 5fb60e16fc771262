"""What a train message asks for, whoever sent it: this app's server, or any server of Flower's.

This app's server joins a model's tensors into few arrays and says which client it speaks to. A
server with one of Flower's plain strategies sends every tensor under its own name, in one record of
any name, and no more settings than the round. Both are answered in the layout in which they asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from flwr.app import ArrayRecord, ConfigRecord, Message
from torch import nn

from foundation.messages.content import CONFIG
from foundation.messages.frozen_layers import FROZEN, WITHOUT
from foundation.messages.records import as_sent, from_record, is_packed, names_in, packed, to_record
from foundation.models import State
from foundation.settings.configuration import ConfigurationError

MODEL = "arrays"
#: What a server under Flower's FedProx sends.
PROXIMAL_MU = "proximal-mu"


class WhatServerSent(dict[str, State]):
    """The states that came beside the model; one that an algorithm misses is explained."""

    def __missing__(self, name: str) -> State:
        raise ConfigurationError(
            f"this client's strategy needs {name!r} from the server's half of it, which did not "
            "come: a server that runs one of Flower's own strategies needs strategy=fedavg here"
        )


@dataclass(frozen=True)
class TrainRequest:
    """A train message, read: the record that holds the model, and the others by name.

    Whole states come without the layers that are ``held`` here.
    """

    name: str
    arrays: ArrayRecord
    extra: dict[str, ArrayRecord]
    config: ConfigRecord
    held: State = field(default_factory=dict)

    @classmethod
    def of(cls, message: Message, held: State | None = None) -> Self:
        """Read a message; ConfigurationError if nothing in it, or too much, can be the model."""
        records = dict(message.content.array_records)
        name = MODEL if MODEL in records or len(records) != 1 else next(iter(records))
        if name not in records:
            raise ConfigurationError(f"the server's message lacks {name!r}")
        return cls(name, records.pop(name), records, config_in(message), held or {})

    def model(self, expected: State) -> State:
        """Return the model's state, which must have another's names and shapes (InvalidContent).

        Types may differ where tensors come one by one: Flower's FedAvg averages counters into
        float64, and its FedAdam returns float64. They become those expected, counters rounded.
        """
        if is_packed(self.arrays):
            return from_record(self.arrays, expected, self.held)
        state = from_record(self.arrays, as_sent(self.arrays, expected))
        return {
            name: (value if like.is_floating_point() else value.round()).to(like.dtype)
            if value.dtype != like.dtype
            else value
            for (name, value), like in zip(state.items(), expected.values(), strict=True)
        }

    def received(self, model_state: State) -> WhatServerSent:
        """Return what came beside the model: whole states, or trainable parameters."""
        states = WhatServerSent()
        without = self.config.get(WITHOUT, [])
        for name, record in self.extra.items():
            if isinstance(without, list) and name in without:
                states[name] = from_record(record, model_state, self.held)
                continue
            known = {part: model_state[part] for part in names_in(record) if part in model_state}
            states[name] = from_record(record, known)
        return states

    def answer(self, model: nn.Module, frozen: Sequence[str]) -> dict[str, ArrayRecord]:
        """Return a trained model as the server expects it: same record, same layout.

        A server that knows of frozen layers wants none back.
        """
        pack = packed if is_packed(self.arrays) else to_record
        left_out = set(frozen) if FROZEN in self.config else set()
        state = {name: value for name, value in model.state_dict().items() if name not in left_out}
        return {self.name: pack({name: value.detach().cpu() for name, value in state.items()})}

    def client(self, partition_id: int, node_id: int) -> int:
        """Return the client's index; without one, its partition, or its node if it has none."""
        if "client" in self.config:
            return number(self.config, "client")
        return partition_id if partition_id >= 0 else node_id

    def proximal_mu(self) -> float | None:
        """Return the μ of a server that asks for FedProx; None if it does not."""
        value = self.config.get(PROXIMAL_MU)
        if value is None:
            return None
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ConfigurationError(f"the server's message says {PROXIMAL_MU} = {value!r}")
        return float(value)


def config_in(message: Message) -> ConfigRecord:
    """Return the settings in a message, by their name or the only ones; empty if there are none."""
    records = message.content.config_records
    name = CONFIG if CONFIG in records or len(records) != 1 else next(iter(records))
    return records.get(name, ConfigRecord())


def number(config: ConfigRecord, name: str) -> int:
    """Return a whole number from 0 that the server sent; ConfigurationError if it did not."""
    value = config.get(name)
    if not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"the server's message says {name} = {value!r}")
    return value
