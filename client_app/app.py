"""The client: Flower's handlers. Each reads a message, does one thing, and answers."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from foundation import say_expected_errors_plainly
from foundation.messages.client_description import ClientDescription
from foundation.messages.fingerprint import code_fingerprint
from foundation.messages.pixel_sums import PixelSums
from foundation.messages.records import from_record, to_record
from foundation.messages.seeds import training_generator
from foundation.models import cpu_state, load_state
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from questions.evaluation import Candidates
from strategies import get

from .evaluating import evaluated, held_out_counts
from .generating import Request, generate_at, needs_global_model
from .label_counts import shareable_counts
from .measuring import client_statistics, measured_inputs
from .site import Site
from .train_request import TrainRequest, config_in, number
from .training import local_loss, train_locally

app = ClientApp()
say_expected_errors_plainly("flwr")

# A node's memory of this run; lost when its SuperNode restarts.
_TOLD = "told-label-counts"
_SECRET = "secret"


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Say which client this node is, and what images it trains on and holds out.

    By class only where the run's configuration says that the server is to know exactly: a noised
    answer is given once, and when it is asked for.
    """
    expected = str(config_in(message).get("fingerprint", ""))
    if expected and expected != code_fingerprint():
        raise ConfigurationError(
            "this client runs other code than the server: restart the SuperLink in the folder of "
            "the app (a simulation's clients import from the folder it was started in)"
        )
    site = _site(message, context)
    told = site.configuration.exact_counts_told
    description = ClientDescription(
        num_examples=len(site.data()),
        partition=site.partition_id,
        partitions=site.num_partitions,
        held_out=tuple(held_out_counts(site)),
        site_name=site.name,
        label_counts=tuple(map(int, site.data().label_counts())) if told else (),
        pixels=PixelSums.of(site.data().images) if site.configuration.measures_pixels else None,
    )
    return Message(content=description.content(), reply_to=message)


@app.query("label_counts")
def label_counts(message: Message, context: Context) -> Message:
    """Tell how many training samples of each class the client holds. Sent on request only."""
    site = _site(message, context)
    counts = _shareable_counts(site, context)
    if counts is None or site.configuration.generation.place == "client":
        raise ConfigurationError("this run's configuration says that label counts are not sent")
    return _answer(message, metrics=MetricRecord({"label-counts": counts}))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate candidates for the global model on the client's held-out images.

    A server with one of Flower's plain strategies sends a model and no candidates, and averages
    what it gets with the weight ``num-examples``.
    """
    site = _site(message, context)
    if "candidate-base" not in config_in(message):
        return _answer(message, metrics=_plain_metrics(site, TrainRequest.of(message)))
    candidates = Candidates.received(message.content, config_in(message), site.model().state_dict())
    return _answer(message, **evaluated(site, candidates).record())


def _plain_metrics(site: Site, request: TrainRequest) -> MetricRecord:
    scores = evaluated(site, Candidates.whole([request.model(site.model().state_dict())]))
    accuracy = scores.accuracy(0)
    if accuracy is None:
        raise ConfigurationError("this client holds no image out to evaluate on: validation-share")
    return MetricRecord(
        {
            "num-examples": scores.images,
            "accuracy": accuracy,
            "loss": float(scores.loss[0]) / scores.images,
        }
    )


@app.query("batch_norm")
def batch_norm(message: Message, context: Context) -> Message:
    """Measure what enters the BatchNorm layers of the received model on the client's images."""
    site = _site(message, context)
    state = from_record(_arrays(message, "arrays"), site.model().state_dict())
    return Message(content=measured_inputs(site, state).content(), reply_to=message)


@app.query("class_statistics")
def class_statistics(message: Message, context: Context) -> Message:
    """Add up what the received model says of the client's training images, with label counts."""
    site = _site(message, context)
    asked = config_in(message).get("statistics")
    told = site.configuration.generation.place == "server"
    statistics = client_statistics(
        site,
        from_record(_arrays(message, "arrays"), site.model().state_dict()),
        [str(part) for part in asked] if isinstance(asked, list) else [],
        _shareable_counts(site, context) if told else None,
        _secret(context),
    )
    return Message(content=statistics.content(), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on the client's data under the run's strategy."""
    site = _site(message, context)
    request = TrainRequest.of(message)
    server_round = number(request.config, "server-round")
    configuration = site.configuration.with_mu_at(server_round)
    declared = get(configuration.strategy)
    mu = request.proximal_mu()
    if mu is not None:
        configuration, declared = replace(configuration, proximal_mu=mu), get("fedprox")
    model = site.model()
    layout = model.state_dict()
    load_state(model, request.model(layout))
    algorithm = declared.client(configuration)
    algorithm.begin_round(model, request.received(layout))
    batches = site.batches(pooled=bool(request.config.get("pooled", False)))
    client = request.client(site.partition_id, context.node_id)
    result = train_locally(
        model,
        batches,
        algorithm,
        generator=training_generator(configuration.seed, server_round, client),
        loss=local_loss(
            declared,
            configuration,
            lambda: batches.labels.bincount(minlength=site.description.classes),
            model,
        ),
        learning_rate=configuration.learning_rate_at(server_round),
        autocast=site.autocast(),
        frozen_statistics=configuration.freezes_statistics_at(server_round),
    )
    metrics = MetricRecord(
        {
            "num-examples": batches.samples,
            "local-steps": result.steps,
            "train-loss": result.loss,
            "seconds": result.seconds,
        }
    )
    return _answer(message, **request.answer(cpu_state(model)), metrics=metrics)


@app.train("generate")
def generate(message: Message, context: Context) -> Message:
    """Invert the client's local model, which the server kept, into pseudo data."""
    site = _site(message, context)
    config = config_in(message)
    request = Request(
        client=number(config, "client"),
        images=number(config, "images"),
        kind=str(config.get("kind")),
        seed=number(config, "seed"),
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
        RunConfiguration.parse(context.run_config), context.node_config, config_in(message)
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


def _secret(context: Context) -> bytes:
    """Return what only this client knows in this run."""
    kept = context.state.config_records.setdefault(
        _SECRET, ConfigRecord({"bytes": secrets.token_bytes(16)})
    )
    return cast(bytes, kept["bytes"])


def _arrays(message: Message, name: str) -> ArrayRecord:
    record = message.content.array_records.get(name)
    if record is None:
        raise ConfigurationError(f"the server's message lacks {name!r}")
    return record


def _answer(message: Message, **records: ArrayRecord | MetricRecord | ConfigRecord) -> Message:
    return Message(content=RecordDict(dict(records)), reply_to=message)
