"""Which of Flower's mods work with which strategy: the table of docs/security.md, tried out."""

from collections.abc import Callable

import pytest
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import (
    LocalDpMod,
    adaptiveclipping_mod,
    arrays_size_mod,
    fixedclipping_mod,
    message_size_mod,
)

import client_app.app as application
from questions import questions
from strategies import TooFewReplies

KEYS = {"model": "resnet8-gn", "num_server_rounds": 2, "stages": "train"}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that puts a mod around the client's training."""

    def put(mod) -> None:
        app = ClientApp()
        for question in questions():
            app.query(question)(application.app)
        app.train(mods=[mod])(application.train)
        from fedf2dg.simulation import local_run

        monkeypatch.setattr(local_run, "client_app", app)

    return put


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fednova"])
def test_local_differential_privacy(tiny_run, install, strategy) -> None:
    plain = tiny_run("plain", strategy=strategy, **KEYS)
    install(LocalDpMod(1.0, 1e-3, 1.0, 1e-5))
    noised = tiny_run("noised", strategy=strategy, **KEYS)
    assert noised.summary()["dropped"] == 0
    assert noised.events("round")[-1]["loss"] != plain.events("round")[-1]["loss"]


@pytest.mark.parametrize("mod", [arrays_size_mod, message_size_mod])
@pytest.mark.parametrize("strategy", ["scaffold", "moon"])
def test_measuring_mods_change_nothing(tiny_run, install, strategy, mod) -> None:
    plain = tiny_run("plain", strategy=strategy, **KEYS)
    install(mod)
    assert tiny_run("measured", strategy=strategy, **KEYS).summary() == plain.summary()


@pytest.mark.parametrize(
    ("mod", "strategy", "reason"),
    [
        # Their messages hold more than the model: a correction, or the previous local model.
        (LocalDpMod(1.0, 1e-3, 1.0, 1e-5), "scaffold", "expects exactly one ArrayRecord"),
        (LocalDpMod(1.0, 1e-3, 1.0, 1e-5), "moon", "expects exactly one ArrayRecord"),
        # They need Flower's own strategy wrappers on the server.
        (fixedclipping_mod, "fedavg", "requires the key 'clipping_norm'"),
        (adaptiveclipping_mod, "fedavg", "requires the key 'clipping_norm'"),
    ],
)
def test_what_does_not_work_ends_with_the_reason(tiny_run, install, mod, strategy, reason) -> None:
    install(mod)
    with pytest.raises(TooFewReplies, match=reason):
        tiny_run("run", strategy=strategy, **KEYS)
