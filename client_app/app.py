"""The client: Flower's handlers. Each reads a message, does one thing, and answers.

It trains, evaluates for servers with Flower's own strategies, and answers every question of
:mod:`questions`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable
from torch import nn

from foundation import say_expected_errors_plainly
from foundation.messages.content import Received
from foundation.messages.frozen_layers import FROZEN, held_layers
from foundation.models import State, load_state
from foundation.models.client_store import batch_norm_entries
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from questions import Question, questions
from questions.description import code_fingerprint
from questions.evaluation import evaluated
from strategies import get

from .site import Site
from .train_request import TrainRequest, config_in, number
from .training import train_round


class OwnBatchNorm:
    """BatchNorm layers that stay at a site (FedBN, Li et al. 2021); nothing unless it is told so.

    The site trains the model that came with the layers that its last round left, and answers with
    those that came. Until it has trained for the first time, they are the server's.
    """

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


app = ClientApp()
say_expected_errors_plainly("flwr")

# What a node remembers of this run, in Flower's context; lost when its SuperNode restarts.
_MEMORY = "memory"


def _teller(question: Question) -> Callable[[Message, Context], Message]:
    def tell(message: Message, context: Context) -> Message:
        site = _site(message, context)
        content = question.tell(site, Received(message.content, _held(message, site)))
        return Message(content=content.records(), reply_to=message)

    return tell


for _question in questions().values():
    app.query(_question.name)(_teller(_question))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the model of a server with one of Flower's plain strategies.

    It averages what it gets with the weight ``num-examples``.
    """
    site = _site(message, context)
    if not len(site.held_out()):
        raise ConfigurationError("this client holds no image out to evaluate on: validation-share")
    model = TrainRequest.of(message).model(site.model().state_dict())
    scores = evaluated(site, [model])
    metrics = MetricRecord(
        {
            "num-examples": scores.images,
            "accuracy": int(scores.correct.sum()) / scores.images,
            "loss": float(scores.loss[0]) / scores.images,
        }
    )
    return _answer(message, metrics=metrics)


def clipped(message: Message, context: Context, train: ClientAppCallable) -> Message:
    """Have one of Flower's mods clip the update, where ``privacy.clipping`` is the clients'."""
    mods = {"client-fixed": fixedclipping_mod, "client-adaptive": adaptiveclipping_mod}
    mod = mods.get(str(context.run_config.get("privacy.clipping")))
    return train(message, context) if mod is None else mod(message, context, train)


@app.train(mods=[clipped])
def train(message: Message, context: Context) -> Message:
    """Train the received model on the client's data under the run's strategy."""
    site = _site(message, context)
    request = TrainRequest.of(message, _held(message, site))
    server_round = number(request.config, "server-round")
    configuration = site.configuration.with_mu_at(server_round)
    declared = get(configuration.strategy)
    mu = request.proximal_mu()
    if mu is not None:
        configuration, declared = replace(configuration, proximal_mu=mu), get("fedprox")
    model = site.model()
    layout = model.state_dict()
    shared = request.model(layout)
    own, received = OwnBatchNorm(site, shared), request.received(layout)
    load_state(model, own.put_into(shared))
    received.update({name: own.put_into(state) for name, state in received.items()})
    autocast = site.autocast()
    batches = site.inputs(bool(request.config.get("pooled", False)), autocast)
    client = request.client(site.partition_id, context.node_id)
    result = train_round(
        model,
        batches,
        declared,
        configuration,
        server_round=server_round,
        client=client,
        classes=lambda: site.description.classes,
        autocast=autocast,
        received=received,
    )
    own.keep(model, server_round)
    metrics = MetricRecord(
        {
            "num-examples": batches.samples,
            "local-steps": result.steps,
            "train-loss": result.loss,
            "seconds": result.seconds,
        }
    )
    return _answer(message, **request.answer(model, site.frozen()), metrics=metrics)


def _site(message: Message, context: Context) -> Site:
    """Return who this client is, for a server that runs the same code."""
    sent = config_in(message)
    expected = str(sent.get("fingerprint", ""))
    if expected and expected != code_fingerprint(context.run_config):
        raise ConfigurationError(
            "this client runs other code than the server: restart the SuperLink in the folder of "
            "the app (a simulation's clients import from the folder it was started in)"
        )
    return Site.of(
        _configuration(tuple(context.run_config.items())),
        context.node_config,
        sent,
        context.state.config_records.setdefault(_MEMORY, ConfigRecord()),
    )


@lru_cache(maxsize=2)
def _configuration(run_config: tuple[tuple[str, Any], ...]) -> RunConfiguration:
    return RunConfiguration.parse(dict(run_config))


def _held(message: Message, site: Site) -> State:
    """Return the frozen layers that this client holds, and the message comes without."""
    if FROZEN not in config_in(message):
        return {}
    return held_layers(message.content, site.model().state_dict(), site.frozen())


def _answer(message: Message, **records: ArrayRecord | MetricRecord) -> Message:
    return Message(content=RecordDict(dict(records)), reply_to=message)
