"""The terms of the inversion objective against mathematics and against each other."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from foundation.settings import FORMS
from generation import InversionSettings, objective
from generation.engine import Objective, resident_copy
from generation.statistics_layer import freeze_statistics


def small_model(seed: int = 0, channels: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(6 * 9, 5),
    )
    model.train()
    model(torch.randn(32, channels, 6, 6))
    return model.eval()


@pytest.mark.parametrize("form", ["corrected", "reference"])
def test_gradient_equals_finite_differences(form: str) -> None:
    settings = InversionSettings(
        tv_weight=0.03, l2_weight=0.02, bn_weight=0.7, competition_weight=2.0, form=form
    )
    local, other = (
        resident_copy(small_model(seed), torch.device("cpu")).double() for seed in (1, 2)
    )
    whole = Objective(local, other, settings, objective.record_statistics(local))
    images = torch.randn(3, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda u: whole(u, labels), (images,), eps=1e-6, atol=1e-7)


def test_total_variation_of_a_constant_is_zero_with_a_finite_gradient() -> None:
    images = torch.full((2, 1, 5, 5), 0.3, requires_grad=True)
    for form in FORMS:
        value = objective.total_variation(images, form)
        (gradient,) = torch.autograd.grad(value, images)
        assert value.item() == 0 and torch.isfinite(gradient).all()


def test_total_variation_of_a_step_edge() -> None:
    images = torch.zeros(1, 1, 4, 4)
    images[..., 2:] = 1.0
    # Horizontal: 4 differences of 1; vertical: none; the two diagonals: 3 each.
    expected = 2 + 2 * math.sqrt(3)
    assert objective.total_variation(images, "reference").item() == pytest.approx(expected)
    assert objective.total_variation(images, "corrected").item() == pytest.approx(16 * expected)


@pytest.mark.parametrize("term", [objective.total_variation, objective.l2_penalty])
def test_forms_agree_at_batch_256_and_only_the_corrected_one_ignores_the_batch(term) -> None:
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)

    def gradient_per_image(form: str, batch: int) -> torch.Tensor:
        images = image.repeat(batch, 1, 1, 1).requires_grad_()
        # Times the batch: relative to the cross-entropy, which is a mean.
        return batch * torch.autograd.grad(term(images, form), images)[0][:1]

    assert term(image.repeat(256, 1, 1, 1), "corrected").item() == pytest.approx(
        term(image.repeat(256, 1, 1, 1), "reference").item()
    )
    torch.testing.assert_close(
        gradient_per_image("corrected", 256), gradient_per_image("reference", 256)
    )
    torch.testing.assert_close(
        gradient_per_image("corrected", 4), gradient_per_image("corrected", 64)
    )
    torch.testing.assert_close(
        4 * gradient_per_image("reference", 4), gradient_per_image("reference", 64)
    )


def test_statistics_deviation_is_zero_for_the_batch_the_layer_saw() -> None:
    features = torch.randn(7, 3, 4, 4, dtype=torch.float64)
    mean = features.mean((0, 2, 3))
    var = features.var((0, 2, 3), correction=0)
    assert objective.statistics_deviation(features, mean, var).item() < 1e-12
    moved = objective.statistics_deviation(features, mean + 2.0, 3 * var)
    assert moved.item() == pytest.approx(2 * math.sqrt(3) + 2 * var.norm().item())


def test_relative_deviation_knows_no_scale_and_equals_the_absolute_one_at_variance_1() -> None:
    features = torch.randn(7, 3, 4, 4, dtype=torch.float64) * torch.tensor([1.0, 2, 3]).view(
        3, 1, 1
    )
    mean, var = torch.tensor([0.1, -0.4, 2.0]), torch.tensor([0.5, 2.0, 1.0])
    mean, var = mean.double(), var.double()
    deviation = partial(objective.statistics_deviation, relative=True)
    plain = deviation(features, mean, var)
    torch.testing.assert_close(deviation(70 * features, 70 * mean, 4900 * var), plain)
    ones = torch.ones_like(var)
    torch.testing.assert_close(
        deviation(features, mean, ones), objective.statistics_deviation(features, mean, ones)
    )


def test_every_layer_input_is_recorded() -> None:
    model = small_model()
    images = torch.randn(5, 2, 6, 6)
    deviations = objective.record_statistics(model)
    model(images)
    layer = model[1]
    direct = objective.statistics_deviation(model[0](images), layer.running_mean, layer.running_var)
    assert len(deviations) == 2
    torch.testing.assert_close(deviations[0], direct)


def test_jensen_shannon_is_a_symmetric_fraction_of_ln_2() -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0]])
    assert objective.jensen_shannon(logits, logits.flip(0), 1.0).item() == pytest.approx(1.0)
    assert objective.jensen_shannon(logits, logits, 3.0).item() == pytest.approx(0.0)
    p, q = torch.randn(2, 6, 5)
    forward = objective.jensen_shannon(p, q, 3.0)
    torch.testing.assert_close(forward, objective.jensen_shannon(q, p, 3.0))
    assert 0 < forward.item() < 1


def test_jensen_shannon_equals_its_definition() -> None:
    p_logits, q_logits = torch.randn(2, 6, 5, dtype=torch.float64)
    p, q = F.softmax(p_logits / 3, 1), F.softmax(q_logits / 3, 1)
    m = (p + q) / 2
    expected = (p * (p / m).log() + q * (q / m).log()).sum(1).mean() / 2 / math.log(2)
    torch.testing.assert_close(objective.jensen_shannon(p_logits, q_logits, 3.0), expected)


def test_reference_divergence_is_close_for_ten_classes_and_wrong_for_two_hundred() -> None:
    def cosine(classes: int) -> float:
        torch.manual_seed(0)
        p, q = (torch.randn(32, classes, dtype=torch.float64) * 6 for _ in range(2))
        p.requires_grad_()
        gradients = [
            torch.autograd.grad(objective.competition(p, q, 3.0, form), p)[0].flatten()
            for form in FORMS
        ]
        return F.cosine_similarity(gradients[0], gradients[1], dim=0).item()

    assert cosine(10) > 0.9
    assert cosine(200) < 0.8


def test_competition_is_one_for_models_that_agree() -> None:
    logits = torch.randn(4, 10)
    assert objective.competition(logits, logits, 3.0).item() == pytest.approx(1.0)


def test_competition_without_a_global_model_is_refused() -> None:
    with pytest.raises(ValueError, match="global model"):
        Objective(small_model(), None, InversionSettings(competition_weight=1.0), [])


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_measuring_layer_equals_layer_and_record(affine: bool, relative: bool) -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3, affine=affine).double()
    layer(torch.randn(9, 3, 4, 4, dtype=torch.float64) * 2 + 1)
    layer.eval().requires_grad_(False)
    if affine:
        layer.weight.uniform_(-1, 2)
        layer.bias.normal_()
    images = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    values = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    model = nn.Sequential(layer, nn.ReLU(inplace=True))
    recorded = objective.record_statistics(model, relative=relative)
    plain = (model(images) * values).sum() + 3 * recorded[0]
    expected = torch.autograd.grad(plain, images)[0]
    names = list(model.state_dict())
    deviations: list[torch.Tensor] = []
    freeze_statistics(model, deviations, relative=relative)
    assert list(model.state_dict()) == names
    measured = (model(images) * values).sum() + 3 * deviations[0]
    torch.testing.assert_close(measured, plain)
    torch.testing.assert_close(torch.autograd.grad(measured, images)[0], expected)
    assert torch.autograd.gradcheck(lambda x: (model[0](x).sum(), deviations.pop()), (images,))
    # A global model's layers only normalise.
    silent = nn.Sequential(layer)
    freeze_statistics(silent)
    torch.testing.assert_close(silent(images), layer(images))


def test_stand_ins_follow_the_weights_that_are_loaded() -> None:
    first, second = small_model(0), small_model(1)
    for model in (first, second):
        model.train()(torch.rand(8, 2, 6, 6) * 3)
        model.eval()
    images = torch.randn(4, 2, 6, 6)
    expected = second(images)
    deviations: list[torch.Tensor] = []
    freeze_statistics(first, deviations)
    first(images)
    first.load_state_dict(second.state_dict())
    recorded = objective.record_statistics(second)
    second(images)
    deviations.clear()
    torch.testing.assert_close(first(images), expected)
    torch.testing.assert_close(torch.stack(deviations), torch.stack(recorded))
