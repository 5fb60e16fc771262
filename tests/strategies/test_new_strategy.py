"""Adding a strategy is one new file: the snippet of the README, tested as written there."""

import sys

import pytest
import torch

import strategies
from foundation.members import STRATEGIES
from tests.docs.pages import ROOT, examples


@pytest.fixture
def snippet(tmp_path, monkeypatch):
    """Save the README's example of a strategy file as it says, and call from there."""
    (example,) = examples(ROOT / "README.md")
    assert (example.action, example.path) == ("save as", "middle.py")
    (tmp_path / example.path).write_text(example.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield example.text
    sys.modules.pop("middle", None)


def test_the_snippet_is_ten_lines_and_its_strategy_can_be_chosen(snippet):
    code = [line for line in snippet.splitlines() if line.strip() and "import" not in line]
    assert len(code) <= 10
    assert strategies.get("middle:middle").name == "middle"


def test_the_new_strategy_trains(snippet, laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="middle:middle")
    first = run.rounds(1)
    assert torch.isfinite(first).all()
    assert float(first.abs().max()) > 0
    assert run.strategy.outcome.clients == (0, 1, 2, 3)


def test_every_algorithm_has_the_name_it_was_found_by():
    assert set(STRATEGIES.ours) >= {"fedavg", "krum"}
    for name in STRATEGIES.ours:
        algorithm = strategies.get(name)
        assert algorithm.name == name
        assert issubclass(algorithm.server, strategies.FederatedStrategy)


def test_an_unknown_strategy_is_answered_with_the_choices():
    from foundation.settings.configuration import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"'fedfoo'.*centralized.*scaffold"):
        strategies.get("fedfoo")


def test_an_aggregate_that_returns_half_a_model_is_named(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="fedavg")
    run.strategy.aggregate = lambda server_round, global_state, updates: {}
    with pytest.raises(ValueError, match=r"'fedavg' must return a whole state.*missing"):
        run.round()
