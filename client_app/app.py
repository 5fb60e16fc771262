"""The client: Flower's handlers. Each reads a message, does one thing, and answers."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from configuration import ConfigurationError, RunConfiguration
from models import State, cpu_state, load_state
from strategies import get
from strategies.fingerprint import code_fingerprint
from strategies.records import from_record, to_record
from strategies.seeds import training_generator

from .site import Site
from .training import LOSSES, train_locally

app = ClientApp()


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Say which client this node is and how many training samples it holds."""
    expected = str(_config(message).get("fingerprint", ""))
    if expected and expected != code_fingerprint():
        raise ConfigurationError(
            "this client runs other code than the server: restart the SuperLink in the folder of "
            "the app (a simulation's clients import from the folder it was started in)"
        )
    site = _site(message, context)
    metrics = MetricRecord(
        {
            "num-examples": len(site.data()),
            "partition-id": site.partition_id,
            "num-partitions": site.num_partitions,
        }
    )
    return _answer(message, metrics=metrics)


@app.query("label_counts")
def label_counts(message: Message, context: Context) -> Message:
    """Tell how many training samples of each class the client holds. Sent on request only."""
    counts = [int(count) for count in _site(message, context).data().label_counts()]
    return _answer(message, metrics=MetricRecord({"label-counts": counts}))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on the client's data under the run's strategy."""
    site = _site(message, context)
    configuration = site.configuration
    config = _config(message)
    model = site.model()
    layout = model.state_dict()
    load_state(model, from_record(_arrays(message, "arrays"), layout))
    algorithm = get(configuration.strategy).client(configuration)
    received = {
        name: _received_state(record, layout)
        for name, record in message.content.array_records.items()
        if name != "arrays"
    }
    algorithm.begin_round(model, received)
    batches = site.batches(pooled=bool(config.get("pooled", False)))
    result = train_locally(
        model,
        batches,
        algorithm,
        generator=training_generator(
            configuration.seed, _number(config, "server-round"), _number(config, "client")
        ),
        loss=LOSSES[configuration.local_loss],
        autocast=torch.bfloat16 if site.device.type == "cuda" else None,
    )
    metrics = MetricRecord(
        {
            "num-examples": batches.samples,
            "local-steps": result.steps,
            "train-loss": result.loss,
            "seconds": result.seconds,
        }
    )
    return _answer(message, arrays=to_record(cpu_state(model)), metrics=metrics)


def _site(message: Message, context: Context) -> Site:
    return Site.of(
        RunConfiguration.parse(context.run_config), context.node_config, _config(message)
    )


def _config(message: Message) -> ConfigRecord:
    return message.content.config_records.get("config", ConfigRecord())


def _number(config: ConfigRecord, name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"the server's message says {name} = {value!r}")
    return value


def _arrays(message: Message, name: str) -> ArrayRecord:
    record = message.content.array_records.get(name)
    if record is None:
        raise ConfigurationError(f"the server's message lacks {name!r}")
    return record


def _received_state(record: ArrayRecord, model_state: State) -> State:
    """Unpack what an algorithm sent: a whole state, or its trainable parameters only."""
    return from_record(record, {name: model_state[name] for name in record if name in model_state})


def _answer(message: Message, **records: ArrayRecord | MetricRecord | ConfigRecord) -> Message:
    return Message(content=RecordDict(dict(records)), reply_to=message)
