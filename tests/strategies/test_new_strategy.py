"""Adding a strategy is one new file: the snippet of the README, tested as written there."""

from __future__ import annotations

import re
import sys

import pytest
import torch

import strategies
from foundation import members
from tests.docs.pages import ROOT, examples


def readme_snippet() -> str:
    """Return the README's example of a strategy file."""
    (example,) = examples(ROOT / "README.md")
    assert (example.action, example.path) == ("save as", "strategies/middle.py")
    return example.text


@pytest.fixture
def snippet(tmp_path, monkeypatch):
    """Put the snippet into the package as a file of its own, and take it out again."""
    text = readme_snippet()
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "newcomer.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, f"{tmp_path}/strategies"])
    monkeypatch.setattr(members, "_ROOT", tmp_path)
    members._declared.cache_clear()
    found = members._declared("strategies", "algorithm")
    monkeypatch.setattr(members, "_ROOT", ROOT)
    members._declared.cache_clear()
    members._declared("strategies", "algorithm").update(found)
    yield text
    sys.modules.pop("strategies.newcomer", None)
    strategies.__dict__.pop("newcomer", None)
    members._declared.cache_clear()


def name_in(text):
    return re.search(r'Algorithm\(\s*"([^"]+)"', text)[1]


def test_the_snippet_is_ten_lines_and_its_strategy_can_be_chosen(snippet):
    code = [line for line in snippet.splitlines() if line.strip() and "import" not in line]
    assert len(code) <= 10
    assert name_in(snippet) in strategies.algorithms()
    assert "fedavg" in strategies.algorithms()


def test_the_new_strategy_trains(snippet, laboratory, curved_clients):
    run = laboratory(curved_clients, strategy=name_in(snippet))
    first = run.rounds(1)
    assert torch.isfinite(first).all()
    assert float(first.abs().max()) > 0
    assert run.strategy.outcome.clients == (0, 1, 2, 3)


def test_every_algorithm_has_the_name_it_was_found_by():
    found = strategies.algorithms()
    assert set(found) >= {"fedavg", "krum"} and list(found) == sorted(found)
    for name, algorithm in found.items():
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
