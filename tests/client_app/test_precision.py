"""Local training in bfloat16: where it is chosen, and that it trains."""

import copy

import pytest
import torch

from client_app.site import BFLOAT16_FROM, Site
from client_app.training import LOSSES, train_locally
from foundation.models import device
from foundation.settings.configuration import RunConfiguration
from strategies import get


def site(model: str, **keys: str) -> Site:
    configuration = RunConfiguration.parse({"model": model, "device": "cpu", **keys})
    return Site.of(configuration, {"partition-id": 0, "num-partitions": 10}, {})


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_takes_bfloat16_where_hardware_gains_and_the_model_is_not_tiny(monkeypatch, hardware):
    monkeypatch.setattr(device, "bfloat16_pays", lambda device: hardware)
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


@pytest.mark.parametrize("hardware", [True, False])
def test_a_gpu_that_would_emulate_bfloat16_trains_in_float32(monkeypatch, hardware):
    monkeypatch.setattr(device, "bfloat16_pays", lambda device: hardware)
    chosen = device.reduced_type("auto", torch.device("cuda"), 1e10, BFLOAT16_FROM)
    assert chosen == (torch.bfloat16 if hardware else None)


def test_a_gpu_trains_small_models_in_float32(monkeypatch):
    """There starting the kernels takes the time, and bfloat16 only adds some."""
    monkeypatch.setattr(device, "bfloat16_pays", lambda device: True)
    assert device.reduced_type("auto", torch.device("cuda"), 1.1e9, BFLOAT16_FROM) is None


@pytest.mark.parametrize("strategy", ["fedavg", "moon"])
@pytest.mark.parametrize("loss", ["cross-entropy", "symmetric-cross-entropy"])
def test_losses_are_computed_in_float32_whatever_the_model_is(monkeypatch, strategy, loss):
    here = site("resnet8", strategy=strategy, precision="bfloat16")
    batch = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    types = []

    class OneBatch:
        def epoch(self, generator):
            yield batch

    def noting(logits, labels):
        value = LOSSES[loss](logits, labels)
        types.append(value.dtype)
        return value

    algorithm = get(strategy).client(here.configuration)
    extra_loss = algorithm.extra_loss

    def noting_extra(images, embedding):
        assert embedding.dtype == torch.bfloat16
        value = extra_loss(images, embedding)
        types.extend([] if value is None else [value.dtype])
        return value

    monkeypatch.setattr(algorithm, "extra_loss", noting_extra)
    model = here.model()
    algorithm.begin_round(model, {"previous": model.state_dict()})
    train_locally(
        model,
        OneBatch(),
        algorithm,
        generator=torch.Generator(),
        loss=noting,
        epochs=1,
        autocast=here.autocast(),
    )
    assert types == [torch.float32] * (2 if strategy == "moon" else 1)
