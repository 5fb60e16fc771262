"""A cache that no test shares with a user, and what a process does, made visible."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from foundation.data import collection, data_set, decoding
from foundation.errors import data_log, warn_once

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def forget() -> Callable[[], None]:
    """Empty what a process remembers, as if it had just started."""

    def forget() -> None:
        for kept in (data_set._loaded, data_set._opened, data_set._parts, collection._measured):
            kept.cache_clear()
        warn_once.cache_clear()

    return forget


@pytest.fixture(autouse=True)
def fresh_process(
    session_cache: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    """Start every test like a new process, with a cache directory of the test session."""
    monkeypatch.setenv("FEDF2DG_CACHE", str(session_cache))
    forget()


@pytest.fixture
def warnings_seen() -> Iterator[list[str]]:
    """Messages of the data logger (Flower's logger does not propagate, so caplog misses them)."""
    seen: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                seen.append(record.getMessage())

    keeper = Keeper()
    data_log.addHandler(keeper)
    yield seen
    data_log.removeHandler(keeper)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where every image comes from that is decoded from now on."""
    seen: list[str] = []
    real = decoding.decode_image

    def counting(
        encoded: decoding.Encoded, channels: int, where: str, size: tuple[int, int] | None = None
    ) -> Pixels:
        seen.append(where)
        return real(encoded, channels, where, size)

    monkeypatch.setattr(decoding, "decode_image", counting)
    return seen


@pytest.fixture(scope="session")
def real_cifar10() -> str:
    """Directory of the real CIFAR-10 files beside the repository, where there is one."""
    directory = Path(__file__).parents[3].parent / "shared" / "data" / "cifar10"
    if not (directory / "train.parquet").is_file():
        pytest.skip("no real CIFAR-10 beside the repository")
    return str(directory)
