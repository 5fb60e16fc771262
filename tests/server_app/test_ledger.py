"""The run's ledger: sums that survive a resume, and a checkpoint that cannot be read is refused."""

import json
import time
from dataclasses import asdict

import pytest

from foundation.events.family import BytesSent, Failure, ImagesMade, Measured, ResultMeasured
from foundation.settings.configuration import RunConfiguration
from server_app.checkpoints import Checkpoint, CheckpointError, Checkpoints
from server_app.ledger import Ledger


def filled() -> Ledger:
    ledger = Ledger()
    with ledger.timed("federated"):
        time.sleep(0.01)
    for accuracy in (0.75, 0.5):
        ledger.enter(ResultMeasured("federated", accuracy, Measured("server", 360)))
    ledger.enter(BytesSent("model", down=3, up=4))
    ledger.enter(BytesSent("model", up=1))
    lost = (Failure(2, "no reply in time"),)
    ledger.enter(ImagesMade("common", 0, 0, 8, 5, 0.1, 2.0))
    ledger.enter(ImagesMade("common", 0, 1, 2, 5, 0.1, 0.5, failures=lost))
    ledger.note_total_time()
    return ledger


def test_sums_and_results() -> None:
    ledger = filled()
    assert (ledger.accuracy, ledger.best_on_test) == ({"federated": 0.5}, {"federated": 0.75})
    assert ledger.traffic == {"model": {"bytes_down": 3, "bytes_up": 5}}
    assert ledger.generation == {"images": 10, "iterations": 5, "seconds": 2.5}
    assert ledger.dropped == 1
    rate = ledger.results(None)["generation"]["image_iterations_per_second"]
    assert rate == pytest.approx(10 * 5 / 2.5)
    assert 0.01 <= ledger.seconds["federated"] <= ledger.seconds["total"]


def test_time_is_counted_on_the_way_out_of_an_error() -> None:
    ledger = Ledger()
    with pytest.raises(ArithmeticError), ledger.timed("generation"):
        raise ArithmeticError
    assert ledger.seconds["generation"] > 0


def test_a_resumed_ledger_goes_on_where_it_was() -> None:
    before = filled()
    after = Ledger(**json.loads(json.dumps(asdict(before))))
    assert after == before
    after.enter(BytesSent("model", down=1))
    time.sleep(0.01)
    after.note_total_time()
    assert after.traffic["model"]["bytes_down"] == 4
    assert after.seconds["total"] >= before.seconds["total"] + 0.01


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: manifest.pop("ledger"),
        lambda manifest: manifest.update(ledger=7),
        lambda manifest: manifest["ledger"].update(surprise=1),
        lambda manifest: manifest.pop("metrics_position"),
    ],
)
def test_an_unreadable_checkpoint_is_refused_by_name(tmp_path, damage) -> None:
    checkpoints = Checkpoints(tmp_path, RunConfiguration())
    checkpoints.save(Checkpoint({}, completed=["train-0001"], ledger=filled()))
    path = tmp_path / "0001-train-0001" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    damage(manifest)
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(CheckpointError, match=r"0001-train-0001 cannot be read"):
        checkpoints.load(("train", "generate"))
