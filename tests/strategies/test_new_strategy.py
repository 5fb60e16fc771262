"""Adding a strategy is one new file: the snippet of the README, tested as written there."""

from __future__ import annotations

import re
import sys

import pytest
import torch

import strategies
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
    (tmp_path / "newcomer.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    strategies.algorithms.cache_clear()
    yield text
    sys.modules.pop("strategies.newcomer", None)
    strategies.__dict__.pop("newcomer", None)
    strategies.algorithms.cache_clear()


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


def test_every_file_of_the_folder_that_declares_one_is_found():
    texts = [path.read_text("utf-8") for path in (ROOT / "strategies").glob("*.py")]
    # One a file, or several in a table.
    alone = [re.search(r"^algorithm = Algorithm\(", text, re.MULTILINE) for text in texts]
    tables = [re.findall(r'^    from_flower\(\s*"', text, re.MULTILINE) for text in texts]
    found = strategies.algorithms()
    assert len(found) == sum(map(bool, alone)) + sum(map(len, tables))
    assert list(found) == sorted(found)
    for name in ("fedavg", "fedprox", "scaffold", "fednova", "moon", "local", "centralized"):
        assert found[name].name == name
        assert issubclass(found[name].server, strategies.FederatedStrategy)


def test_an_unknown_strategy_is_answered_with_the_choices():
    from foundation.settings.configuration import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"'fedfoo'.*centralized.*scaffold"):
        strategies.get("fedfoo")


def test_a_file_that_cannot_be_loaded_is_left_out_alone(tmp_path, monkeypatch, app_log):
    (tmp_path / "half_written.py").write_text("def (")
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    strategies.algorithms.cache_clear()
    try:
        assert "fedavg" in strategies.algorithms()
        assert "strategies/half_written.py is left out: SyntaxError" in app_log.text
    finally:
        strategies.algorithms.cache_clear()


def test_an_aggregate_that_returns_half_a_model_is_named(laboratory, curved_clients):
    run = laboratory(curved_clients, strategy="fedavg")
    run.strategy.aggregate = lambda server_round, global_state, updates: {}
    with pytest.raises(ValueError, match=r"'fedavg' must return a whole state.*missing"):
        run.round()
