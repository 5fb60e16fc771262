"""Where bfloat16 is taken: by hardware that gains, or by a measurement that all processes share."""

import os
from collections.abc import Iterator

import pytest
import torch

from foundation.models import bfloat16_pays, device
from foundation.processes import share_of_cores

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Set first, so that what the code under test writes is undone.
    monkeypatch.setenv("FEDF2DG_BFLOAT16", "")
    device._measured_gain.cache_clear()
    yield
    device._measured_gain.cache_clear()


def processor(monkeypatch: pytest.MonkeyPatch, *instructions: str, ratio: float = 1.0) -> None:
    known = dict.fromkeys(instructions, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    seconds = {torch.float32: 1.0, torch.bfloat16: ratio}
    monkeypatch.setattr(device, "step_seconds", lambda: seconds)


@pytest.mark.parametrize(
    ("instructions", "ratio", "taken"),
    [
        ((), 0.5, False),
        (("avx512_bf16",), 1.2, False),
        (("avx512_bf16",), 0.95, False),  # may be chance
        (("avx512_bf16",), 0.7, True),
        (("avx512_bf16", "amx_bf16"), 1.2, True),  # a machine busy for a moment
    ],
)
def test_the_vector_instruction_alone_says_nothing(monkeypatch, instructions, ratio, taken):
    processor(monkeypatch, *instructions, ratio=ratio)
    assert bfloat16_pays(CPU) is taken


def test_what_was_measured_once_holds_for_the_processes_that_are_started(monkeypatch):
    processor(monkeypatch, "avx512_bf16", ratio=0.5)
    assert bfloat16_pays(CPU)
    assert share_of_cores(2)["FEDF2DG_BFLOAT16"] == "yes"
    device._measured_gain.cache_clear()  # as in a new process, on a machine that is busy now
    processor(monkeypatch, "avx512_bf16", ratio=2.0)
    assert bfloat16_pays(CPU)
    monkeypatch.setenv("FEDF2DG_BFLOAT16", "no")
    device._measured_gain.cache_clear()
    assert not bfloat16_pays(CPU)


def test_a_measurement_leaves_threads_and_random_numbers_alone():
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    seconds = device.step_seconds()
    assert set(seconds) == {torch.float32, torch.bfloat16} and min(seconds.values()) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert os.environ["FEDF2DG_BFLOAT16"] == ""
