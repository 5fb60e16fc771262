"""Local training in bfloat16: where it is chosen, and that it trains."""

from __future__ import annotations

import copy

import pytest
import torch

import client_app.site
from client_app.site import Site
from client_app.training import train_locally
from configuration import RunConfiguration
from strategies import get


def site(model: str, **keys: str) -> Site:
    configuration = RunConfiguration.parse({"model": model, "device": "cpu", **keys})
    return Site.of(configuration, {"partition-id": 0, "num-partitions": 10}, {})


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_takes_bfloat16_where_hardware_has_it_and_the_model_is_not_tiny(monkeypatch, hardware):
    monkeypatch.setattr(client_app.site, "native_bfloat16", lambda device: hardware)
    assert site("resnet8").autocast() is None  # 1.5e6 operations on 8x8 images
    larger = site("resnet18").autocast()  # 7e7
    assert larger == (torch.bfloat16 if hardware else None)
    assert site("resnet18", precision="float32").autocast() is None
    assert site("resnet8", precision="bfloat16").autocast() == torch.bfloat16


def test_a_step_in_bfloat16_is_a_rounded_one_and_weights_stay_in_float32():
    """The same batch, one step each: directions agree to what eight bits of mantissa leave."""
    here = site("resnet8", precision="bfloat16")
    generator = torch.Generator().manual_seed(0)
    batch = (
        torch.randn((64, 1, 8, 8), generator=generator),
        torch.randint(0, 10, (64,), generator=generator),
    )

    class OneBatch:
        def epoch(self, generator):
            yield batch

    configuration = RunConfiguration.parse({"momentum": 0.0, "weight-decay": 0.0})
    steps = {}
    for autocast in (None, here.autocast()):
        model = copy.deepcopy(here.model())
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        algorithm = get("fedavg").client(configuration)
        algorithm.begin_round(model, {})
        train_locally(
            model, OneBatch(), algorithm, generator=generator, epochs=1, autocast=autocast
        )
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        steps[autocast] = after - before
    exact, rounded = steps.values()
    assert not torch.equal(exact, rounded)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99
