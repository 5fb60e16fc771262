"""How many threads a process uses, by its model, its share and what somebody asked for."""

from collections.abc import Iterator

import pytest
import torch

import client_app.site
from client_app.site import Site
from foundation.models import fit_threads
from foundation.settings.configuration import ConfigurationError, RunConfiguration

SMALL, LARGE = 1e6, 1e8


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("operations", "most", "wish", "chosen"),
    [(SMALL, 4, 0, 1), (LARGE, 4, 0, 4), (LARGE, 1, 0, 1), (SMALL, 4, 3, 3), (LARGE, 1, 2, 2)],
)
def test_a_process_takes_its_share_where_the_work_pays_for_it(operations, most, wish, chosen):
    fit_threads(operations, most, wish)
    assert torch.get_num_threads() == chosen


def test_a_large_model_behind_a_small_one_has_its_threads_again():
    fit_threads(SMALL, 2)
    fit_threads(LARGE, 2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("node", "run", "supernodes", "chosen"),
    [
        ({}, 0, 0, 6),
        ({}, 0, 3, 2),  # three SuperNodes of one machine train at the same time
        ({}, 0, 100, 1),
        ({}, 4, 3, 4),
        ({"threads": 5}, 4, 3, 5),
    ],
)
def test_a_clients_threads(monkeypatch, node, run, supernodes, chosen):
    monkeypatch.setattr(client_app.site, "cores", lambda: 6)
    monkeypatch.setattr(client_app.site, "threads", lambda: 6)
    monkeypatch.setattr(client_app.site, "running", lambda program: supernodes)
    monkeypatch.setattr(client_app.site, "model_operations", lambda *_: LARGE)
    client_app.site._resident_model.cache_clear()
    configuration = RunConfiguration.parse({"threads": run, "device": "cpu"})
    here = Site.of(configuration, {"partition-id": 0, "num-partitions": 10, **node}, {})
    here.model()
    assert torch.get_num_threads() == chosen


@pytest.mark.parametrize("wish", ["two", -1, 1.5])
def test_an_impossible_number_of_a_node_is_refused(wish):
    node = {"partition-id": 0, "num-partitions": 10, "threads": wish}
    with pytest.raises(ConfigurationError, match=f"threads = {wish!r} must be a whole number"):
        Site.of(RunConfiguration.parse({"device": "cpu"}), node, {})
