from __future__ import annotations

import pickle

import pytest

from distillation import DistillationError
from fedf2dg.deployment.certificates import CertificateError
from fedf2dg.simulation.flower_engine import FlowerRunError
from foundation import ExpectedError, UsageError
from foundation.data import DataError, PartitionError
from foundation.events.metrics import MetricsError
from foundation.messages.participants import MissingClients
from foundation.processes import ProcessDied
from foundation.settings.configuration import ConfigurationError
from generation import InversionError
from server_app.checkpoints import CheckpointError
from server_app.rounds import DivergedModel
from strategies import TooFewReplies

USAGE = [ConfigurationError, DataError, PartitionError, CheckpointError]
FAILURES = [
    CertificateError,
    DistillationError,
    DivergedModel,
    FlowerRunError,
    InversionError,
    MetricsError,
    MissingClients,
    ProcessDied,
    TooFewReplies,
]


@pytest.mark.parametrize("error", USAGE + FAILURES)
def test_expected_errors_know_their_exit_status_and_cross_processes(error: type) -> None:
    assert issubclass(error, ExpectedError)
    assert issubclass(error, UsageError) == (error in USAGE)
    crossed = pickle.loads(pickle.dumps(error("what to do")))
    assert (str(crossed), crossed.exit_status) == ("what to do", 2 if error in USAGE else 1)
