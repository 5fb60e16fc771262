"""The inversion loop: against the textbook loop, and at its edges."""

import logging
import shutil
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from benchmarks.textbook import textbook_inversion
from foundation.capture import SWITCH, WARM_UP
from foundation.settings import PUBLISHED
from generation import InversionError, InversionSettings, generate, invert
from generation.engine import InversionEngine
from tests.fake_graphs import FakeGraphs

SHAPE = (1, 8, 8)


def residual_model(seed: int = 0, norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        norm(8),
        nn.ReLU(inplace=True),
        BasicBlock(8, 8, norm_layer=norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    model.train()
    for _ in range(20):
        model(torch.randn(64, *SHAPE) * 0.5 + 0.2)
    return model


def tiny_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )
    model(torch.randn(64, *SHAPE))
    return model


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return residual_model()


def plain(**changes: object) -> InversionSettings:
    given = {"iterations": 20, "learning_rate": 0.1, "schedule": "constant", "jitter": 1}
    return InversionSettings(**{**given, "compile": "off", "precision": "float32", **changes})


#: So short that the images stay where they were: a step of Adam goes in the direction of a
#: gradient's sign, and where one is near 0 rounding chooses it, each time on other processors.
SHORT = {"iterations": 3, "learning_rate": 0.001}


def apart(found: Tensor, expected: Tensor, start: Tensor) -> float:
    """Return how far the steps that were taken are from the expected ones, relative to these."""
    return ((found - expected).norm() / (expected - start).norm()).item()


@pytest.mark.parametrize("competition_weight", [0.0, 10.0])
def test_float32_path_equals_the_textbook_loop(model: nn.Module, competition_weight: float) -> None:
    settings = plain(l2_weight=1e-3, competition_weight=competition_weight, **SHORT)
    labels = torch.arange(12) % 4
    other = residual_model(seed=5).eval()
    engine = InversionEngine(model, SHAPE, settings, global_model=other)
    start, offsets = engine.start(len(labels), seed=3)
    expected, _ = textbook_inversion(
        model.eval(), start, labels, offsets, settings, global_model=other
    )
    got = engine.invert(model, labels, seed=3).images
    assert apart(got, expected, start) < 1e-2


@pytest.mark.parametrize("competition_weight", [0.0, 10.0])
def test_replayed_steps_are_the_steps(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, competition_weight: float
) -> None:
    graphs, other = FakeGraphs(monkeypatch), residual_model(seed=5)
    settings = plain(**{**SHORT, "iterations": WARM_UP + 3}, competition_weight=competition_weight)
    engine = InversionEngine(model, SHAPE, settings, global_model=other)
    orders = [(model, torch.arange(6) % 4), (other, torch.arange(3))]
    found = [engine.invert(inverted, labels, seed=2) for inverted, labels in orders]
    assert graphs.told == 2 * ["entered", "recorded", *3 * ["replayed"], "left"]
    monkeypatch.setenv(SWITCH, "off")
    for (inverted, labels), replayed in zip(orders, found, strict=True):
        expected, start = engine.invert(inverted, labels, seed=2), engine.start(len(labels), 2)[0]
        assert apart(replayed.images, expected.images, start) < 1e-3
        assert replayed.objective == pytest.approx(expected.objective, rel=1e-5)


def test_result_depends_on_the_seed_alone(model: nn.Module) -> None:
    labels = torch.arange(6) % 4
    engine = InversionEngine(model, SHAPE, plain())
    first = engine.invert(model, labels, seed=1).images
    torch.manual_seed(99)
    torch.rand(7)
    engine.invert(residual_model(seed=2), labels[:3], seed=8)
    assert torch.equal(engine.invert(model, labels, seed=1).images, first)
    assert not torch.equal(engine.invert(model, labels, seed=2).images, first)


def test_objective_falls_and_the_model_recognises_its_images(model: nn.Module) -> None:
    labels = torch.arange(16) % 4
    result = invert(model, labels, SHAPE, plain(iterations=100), seed=0)
    beginning = invert(model, labels, SHAPE, plain(iterations=1), seed=0)
    assert result.objective < 0.7 * beginning.objective
    assert result.iterations == 100
    assert result.images.shape == (16, *SHAPE) and result.images.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(result.logits, model.eval()(result.images))


def test_the_models_are_left_as_they_were() -> None:
    model = residual_model(seed=7)
    next(iter(model.parameters())).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    invert(model, torch.tensor([0, 1]), SHAPE, plain(), seed=0)
    with pytest.raises(IndexError):
        invert(model, torch.tensor([0, 99]), SHAPE, plain(), seed=0)
    assert model.training and all(module.training for module in model.modules())
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert all(not module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_labels_give_no_images(model: nn.Module) -> None:
    result = invert(model, torch.empty(0, dtype=torch.int64), SHAPE, plain(), seed=0)
    assert result.images.shape == (0, *SHAPE) and result.logits.shape == (0, 4)
    assert result.iterations == 0


def test_one_image_works(model: nn.Module) -> None:
    assert invert(model, torch.tensor([2]), SHAPE, plain(), seed=0).images.shape == (1, *SHAPE)


def test_without_batch_norm_there_is_one_warning_and_a_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class GroupNorm(nn.GroupNorm):
        def __init__(self, channels: int) -> None:
            super().__init__(2, channels)

    model = residual_model(norm=GroupNorm)
    with caplog.at_level(logging.WARNING, logger="flwr.fedf2dg"):
        result = invert(model, torch.tensor([0, 1, 2]), SHAPE, plain(), seed=0)
    assert len(caplog.records) == 1 and "no BatchNorm" in caplog.text
    assert torch.isfinite(result.images).all()


def test_an_objective_that_is_no_number_is_reported() -> None:
    broken = residual_model()
    with torch.no_grad():
        broken[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(InversionError, match="became nan at iteration 1"):
        invert(broken, torch.tensor([0, 1]), SHAPE, plain(), seed=0)


def only(holds: int, engine: InversionEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an engine a device whose memory holds so many images."""
    step = engine._step_objective

    def objective(images: Tensor, labels: Tensor) -> Tensor:
        if len(images) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(images, labels)

    monkeypatch.setattr(engine, "_step_objective", objective)


def test_a_device_too_small_for_all_images_takes_them_in_parts(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, int]] = []
    settings, labels = plain(jitter=0), torch.tensor([0, 1, 2, 3, 1])
    engine, roomy = (InversionEngine(model, SHAPE, settings) for _ in range(2))
    only(2, engine, monkeypatch)
    with caplog.at_level(logging.WARNING, logger="flwr.fedf2dg"):
        found = engine.invert(model, labels, seed=0, progress=lambda *now: seen.append(now))
        again = engine.invert(model, labels, seed=0)
    assert len(caplog.records) == 1 and "does not hold 5 images" in caplog.text
    assert found.labels.tolist() == labels.tolist() and torch.equal(found.images, again.images)
    torch.testing.assert_close(found.logits, model.eval()(found.images))
    # A part is what an engine with room makes of the same noise and labels alone.
    start, offsets = roomy.start(5, seed=0)
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        ends = roomy._optimise(start[rows], labels[rows], offsets, lambda *_: None)
        assert torch.equal(found.images[rows], ends[0])
    assert seen[-1] == (20, 20) and seen == sorted(seen)


def test_a_device_too_small_for_one_image_is_reported(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = InversionEngine(model, SHAPE, plain())
    only(0, engine, monkeypatch)
    with pytest.raises(InversionError, match="does not hold the inversion of one image"):
        engine.invert(model, torch.tensor([0, 1, 2]), seed=0)


def test_progress_reaches_the_end(model: nn.Module) -> None:
    seen: list[tuple[int, int]] = []
    invert(
        model,
        torch.tensor([0, 1]),
        SHAPE,
        plain(iterations=50),
        seed=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (50, 50) and len(seen) > 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_slow_steps_are_reported_one_by_one(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generation.engine.CHECK_SECONDS", 0.0)
    seen: list[int] = []
    invert(
        model,
        torch.arange(2),
        SHAPE,
        plain(iterations=5),
        seed=0,
        progress=lambda done, _: seen.append(done),
    )
    assert seen == [1, 2, 3, 4, 5]


def test_bfloat16_reaches_nearly_the_same_objective(model: nn.Module) -> None:
    labels = torch.arange(32) % 4
    exact = invert(model, labels, SHAPE, plain(iterations=150), seed=0)
    rough = invert(model, labels, SHAPE, plain(iterations=150, precision="bfloat16"), seed=0)
    assert rough.objective == pytest.approx(exact.objective, rel=0.05)


def test_without_a_compiler_the_plain_objective_is_used_and_said(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(function: object, **_: object) -> object:
        def fail(*_: object) -> Tensor:
            raise RuntimeError("no working C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    labels = torch.tensor([0, 1, 2])
    with caplog.at_level(logging.WARNING, logger="flwr.fedf2dg"):
        result = invert(model, labels, SHAPE, plain(compile="on"), seed=0)
    assert len(caplog.records) == 1 and "no working C++ compiler" in caplog.text
    assert torch.equal(result.images, invert(model, labels, SHAPE, plain(), seed=0).images)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_path_equals_the_plain_one_with_one_compilation_for_all_models() -> None:
    models = [tiny_model(0), tiny_model(1)]
    compiled = InversionEngine(models[0], SHAPE, plain(compile="on", **SHORT))
    eager = InversionEngine(models[0], SHAPE, plain(**SHORT))
    torch._dynamo.utils.counters.clear()
    for model, count in ((models[0], 20), (models[1], 33)):
        labels = torch.arange(count) % 3
        got = compiled.invert(model, labels, seed=count).images
        expected = eager.invert(model, labels, seed=count).images
        assert apart(got, expected, eager.start(count, seed=count)[0]) < 1e-2
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("learning_rate", 0.0),
        ("tv_weight", -1.0),
        ("form", "exact"),
        ("schedule", "linear"),
        ("precision", "float16"),
        ("compile", "maybe"),
        ("jitter", -1),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        InversionSettings(**{name: value})


@pytest.mark.parametrize(("size", "pixels"), [(4, 0), (8, 0), (28, 1), (32, 2), (64, 2)])
def test_jitter_follows_the_image_size(size: int, pixels: int) -> None:
    assert InversionSettings().jitter_for(size, size) == pixels


def test_pixels_stay_within_their_range(model: nn.Module) -> None:
    labels = torch.arange(6) % 4
    result = invert(model, labels, SHAPE, plain(), pixel_range=([-0.25], [0.5]), seed=0)
    assert result.images.min() == -0.25 and result.images.max() == 0.5
    free = invert(model, labels, SHAPE, plain(), seed=0)
    wide = invert(model, labels, SHAPE, plain(), pixel_range=([-1e3], [1e3]), seed=0)
    assert torch.equal(free.images, wide.images)


@pytest.mark.parametrize("pixel_range", [([0.0, 0.0], [1.0, 1.0]), ([1.0], [0.0])])
def test_an_impossible_pixel_range_is_refused(model: nn.Module, pixel_range: tuple) -> None:
    with pytest.raises(ValueError, match="pixel_range"):
        invert(model, torch.tensor([0]), SHAPE, plain(), pixel_range=pixel_range, seed=0)


def test_cosine_schedule_falls_from_the_learning_rate_to_nearly_nothing() -> None:
    settings = InversionSettings(iterations=100, schedule="cosine", learning_rate=0.2)
    rates = [settings.learning_rate_at(iteration) for iteration in range(1, 101)]
    assert rates[0] == 0.2 and rates[50] == pytest.approx(0.1) and 0 < rates[-1] < 1e-3
    assert rates == sorted(rates, reverse=True)
    assert PUBLISHED.learning_rate_at(1) == PUBLISHED.learning_rate_at(1999) == 0.1


def test_every_generation_of_a_run_is_compiled_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled code lives as long as the process, and of one function only so many versions."""
    # The compiler's front end alone, where the limit is: no C++ compiler is needed.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    settings = InversionSettings(iterations=2, compile="on", precision="float32")
    limit = 2
    compiled: list[int] = []
    with torch._dynamo.config.patch(recompile_limit=limit):
        for seed in range(limit + 2):
            torch._dynamo.utils.counters.clear()
            generate(
                tiny_model,
                budgets={0: 3, 1: 2},
                label_counts=None,
                image_shape=SHAPE,
                settings=settings,
                classes=3,
                seed=seed,
            )
            compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert compiled == [1] * (limit + 2)


def test_a_closed_engine_holds_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[torch.device] = []
    monkeypatch.setattr("generation.engine.release_memory", released.append)
    engine = InversionEngine(tiny_model(0), SHAPE, plain())
    engine.close()
    assert released == [torch.device("cpu")]
    assert not [value for value in vars(engine).values() if isinstance(value, nn.Module)]
