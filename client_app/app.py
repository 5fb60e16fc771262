"""The client: Flower's handlers. Each reads a message, does one thing, and answers."""

from __future__ import annotations

from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from configuration import ConfigurationError, RunConfiguration
from models import State, cpu_state, load_state
from protocol.fingerprint import code_fingerprint
from protocol.records import from_record, names_in, packed, to_record
from protocol.seeds import training_generator
from strategies import get

from .generating import Request, generate_at, needs_global_model
from .label_counts import shareable_counts
from .site import Site
from .training import LOSSES, train_locally

app = ClientApp()

# A node's memory of this run; lost when its SuperNode restarts.
_TOLD = "told-label-counts"


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
    site = _site(message, context)
    counts = _shareable_counts(site, context)
    if counts is None or site.configuration.generation.place == "client":
        raise ConfigurationError("this run's configuration says that label counts are not sent")
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
        autocast=site.autocast(),
    )
    metrics = MetricRecord(
        {
            "num-examples": batches.samples,
            "local-steps": result.steps,
            "train-loss": result.loss,
            "seconds": result.seconds,
        }
    )
    return _answer(message, arrays=packed(cpu_state(model)), metrics=metrics)


@app.train("generate")
def generate(message: Message, context: Context) -> Message:
    """Invert the client's local model, which the server kept, into pseudo data."""
    site = _site(message, context)
    config = _config(message)
    request = Request(
        client=_number(config, "client"),
        images=_number(config, "images"),
        kind=str(config.get("kind")),
        seed=_number(config, "seed"),
    )
    layout = site.model().state_dict()
    generated = generate_at(
        site,
        request,
        _shareable_counts(site, context),
        from_record(_arrays(message, "arrays"), layout),
        from_record(_arrays(message, "global"), layout)
        if needs_global_model(site, request)
        else None,
    )
    data = generated.data
    arrays = {"images": data.images, "labels": data.labels, "logits": data.logits}
    return _answer(
        message,
        arrays=to_record(arrays),
        metrics=MetricRecord({"objective": generated.objective}),
    )


def _site(message: Message, context: Context) -> Site:
    return Site.of(
        RunConfiguration.parse(context.run_config), context.node_config, _config(message)
    )


def _shareable_counts(site: Site, context: Context) -> list[int] | None:
    told = context.state.metric_records.get(_TOLD)
    counts = shareable_counts(
        site.configuration,
        [int(count) for count in site.data().label_counts()],
        None if told is None else cast(list[int], told["label-counts"]),
    )
    if counts is not None:
        context.state.metric_records[_TOLD] = MetricRecord({"label-counts": counts})
    return counts


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
    known = {name: model_state[name] for name in names_in(record) if name in model_state}
    return from_record(record, known)


def _answer(message: Message, **records: ArrayRecord | MetricRecord | ConfigRecord) -> Message:
    return Message(content=RecordDict(dict(records)), reply_to=message)
