"""Models between two models."""

import pytest
import torch

from foundation.models import build, cpu_state, interpolated, load_state


def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    start = cpu_state(build("resnet8", classes=3, image_size=8, seed=0))
    end = cpu_state(build("resnet8", classes=3, image_size=8, seed=1))
    for value in end.values():
        if value.is_floating_point():
            value.mul_(3.7)
        else:
            value.add_(5)
    return start, end


@pytest.mark.parametrize("step", [0.0, 1.0])
def test_the_ends_are_the_two_models_bit_for_bit_and_copies(step: float) -> None:
    start, end = states()
    expected = end if step else start
    result = interpolated(start, end, step)
    assert all(torch.equal(result[name], expected[name]) for name in expected)
    for value in result.values():
        value.fill_(7)
    assert not any(bool((value == 7).all()) for value in expected.values())


@pytest.mark.parametrize("step", [0.25, 0.5, 0.75])
def test_between_them_every_float_entry_is_on_the_line(step: float) -> None:
    start, end = states()
    result = interpolated(start, end, step)
    for name, value in result.items():
        if value.is_floating_point():
            line = start[name].double() + step * (end[name].double() - start[name].double())
            assert torch.allclose(value.double(), line, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(value, end[name])
        assert value.dtype == start[name].dtype
    load_state(build("resnet8", classes=3, image_size=8), result)


def test_equal_models_stay_what_they_are() -> None:
    start, _ = states()
    result = interpolated(start, start, 0.25)
    assert all(torch.equal(result[name], start[name]) for name in start)
