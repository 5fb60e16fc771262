"""Some sites suffice to start; who comes later, and who is lost, is called by its name."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from client_app.app import app as client_app
from fedf2dg.report import RunRecord
from fedf2dg.simulation.local_grid import LocalGrid
from fedf2dg.starters import write_example_sites
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app import preflight
from server_app.run import run

SITES = ("site-1", "site-2", "site-3.parquet")
LATE, LOST = 102, 100


class Coming(LocalGrid):
    """Real sites, of which the last comes for the second round, and the first is lost in it."""

    trained = 0

    def __init__(self, paths: list[str], run_config: dict[str, Any]) -> None:
        super().__init__(client_app, len(paths), run_config)
        self._paths = paths

    def get_node_ids(self) -> list[int]:
        return [n for n in super().get_node_ids() if n != LATE or self.trained >= 2]

    def pull_messages(self, message_ids):
        replies = []
        for reply in super().pull_messages(message_ids):
            if reply.metadata.message_type == "train":
                self.trained += 1
                if reply.metadata.src_node_id == LOST and 2 < self.trained <= 8:
                    reply = self.lost(reply)
            replies.append(reply)
        return replies

    @staticmethod
    def lost(reply: Message) -> Message:
        reply.content["metrics"]["train-loss"] = float("nan")
        return reply

    def _context(self, node: int) -> Context:
        config = {"data-path": self._paths[node - 100], "site-name": f"hospital {node - 99}"}
        state = self._contexts.setdefault(
            node, Context(1, node, config, RecordDict(), self._run_config)
        )
        return state


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    return {
        "dataset": "folder",
        "class-names": ",".join(map(str, range(10))),
        "image-shape": "1x8x8",
        "num-clients": 3,
        "min-clients": 2,
        "node-timeout": 0.3,
        "num-server-rounds": 4,
        "local-epochs": 1,
        "model": "cnn",
        "strategy": "fedavg",
        "stages": "train",
        "output-dir": str(tmp_path / "run"),
    }


def test_a_site_that_comes_later_takes_part_and_a_lost_one_is_named(keys, tmp_path, app_log):
    app_log.set_level(logging.INFO)
    write_example_sites(tmp_path / "sites")
    configuration = preflight.parse(keys)
    grid = Coming([str(tmp_path / "sites" / site) for site in SITES], configuration.flat())
    assert run(grid, configuration)["status"] == "completed"
    assert "2 of 3 clients were connected after 0.3 s: going on without the others" in app_log.text
    assert "round 2: hospital 3 joined" in app_log.text
    assert "round 2: hospital 1 dropped: the metric 'train-loss' is nan" in app_log.text
    record = RunRecord.read(tmp_path / "run")
    assert list(record.met.names) == ["hospital 1", "hospital 2", "hospital 3"]
    assert all(count > 0 for count in record.met.num_examples)
    (lost,) = record.lost()
    assert lost.sentence.startswith("hospital 1 was lost in rounds 2 to 3 of 4: the metric")
    rounds = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [len(e["clients"]) for e in rounds if e["event"] == "round"] == [2, 2, 2, 3]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"min-clients": 4}, "exceeds num-clients = 3"),
        ({"min-clients": 1}, "suffice to start and not for a round, which needs 2 replies"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(keys, changed, match):
    with pytest.raises(ConfigurationError, match=match):
        RunConfiguration.parse({**keys, **changed})
    RunConfiguration.parse({**keys, "min-clients": 1, "min-successful-clients": 1})
