"""What tests of strategies share."""

import gc

import pytest


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what some of Flower's strategies do after every client.

    A collection takes 0.15 s in a process that has loaded the whole program: minutes over the file.
    """
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
