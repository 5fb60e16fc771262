"""Expected errors know their exit status, and are one line of a log; defects keep a traceback."""

import logging
import pickle

import pytest

from distillation import DistillationError
from fedf2dg.deployment.certificates import CertificateError
from fedf2dg.simulation.flower_engine import FlowerRunError
from foundation import ExpectedError, UsageError, say_expected_errors_plainly
from foundation.data import DataError, PartitionError
from foundation.events.log import MetricsError
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


@pytest.fixture
def framework() -> logging.Logger:
    logger = logging.getLogger("some-framework")
    logger.filters.clear()
    say_expected_errors_plainly("some-framework")
    say_expected_errors_plainly("some-framework")  # an app that is loaded twice
    return logger


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_an_expected_error_is_one_line(framework, caplog) -> None:
    for error in (
        raised(UsageError("num-clients = 0: at least 1 (100 % sure)")),
        raised(
            RuntimeError("outer"), raised(UsageError("num-clients = 0: at least 1 (100 % sure)"))
        ),
    ):
        caplog.clear()
        framework.error("%s raised an exception", "ServerApp", exc_info=error)
        assert caplog.messages == ["error: num-clients = 0: at least 1 (100 % sure)"]
        assert "Traceback" not in caplog.text
    assert len(framework.filters) == 1


def test_a_defect_keeps_its_traceback(framework, caplog) -> None:
    framework.error("%s raised an exception", "ServerApp", exc_info=raised(KeyError("x")))
    assert caplog.messages == ["ServerApp raised an exception"]
    assert "KeyError: 'x'" in caplog.text and "Traceback" in caplog.text


def test_lines_without_errors_are_as_they_were(framework, caplog) -> None:
    framework.warning("%d of %d", 1, 2)
    assert caplog.messages == ["1 of 2"]
