"""Distillation: the loss against its definition, the training against what it must achieve."""

import math

import pytest
import torch
from torch import nn

from distillation import (
    DistillationError,
    DistillationSettings,
    chosen_layers,
    distil,
    distillation_loss,
    trained_parameters,
)


def small_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(8),
        nn.Linear(8, 3),
    )


def same_state(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_loss_equals_its_definition(temperature: float) -> None:
    student, teacher = torch.randn(2, 7, 5, dtype=torch.float64) * 4
    expected = 0.0
    for s, z in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(value / temperature) for value in z]
        q = [math.exp(value / temperature) for value in s]
        for a, b in zip(p, q, strict=True):
            expected += a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
    expected *= 0.2 * temperature**2 / 7
    got = distillation_loss(student, teacher, temperature, 0.2)
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_student_equal_to_teacher_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(6, 10, dtype=torch.float64, requires_grad=True)
    loss = distillation_loss(logits, logits.detach().clone(), 3.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert abs(loss.item()) < 1e-15 and gradient.abs().max().item() < 1e-15


def test_loss_ignores_a_constant_and_survives_extreme_logits() -> None:
    student, teacher = torch.randn(2, 4, 3)
    torch.testing.assert_close(
        distillation_loss(student + 5, teacher - 2, 3.0),
        distillation_loss(student, teacher, 3.0),
    )
    assert torch.isfinite(distillation_loss(student, teacher * 1e5, 3.0))


@pytest.mark.parametrize("form", ["corrected", "reference"])
def test_student_learns_what_the_teacher_says(form: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(192, 1, 6, 6) + torch.randint(-2, 3, (192, 1, 1, 1))
    teacher_logits = torch.stack([images.mean((1, 2, 3)) * k for k in (-8.0, 0.0, 8.0)], dim=1)
    settings = DistillationSettings(
        epochs=40, learning_rate=0.1, weight=1.0, batch_size=32, max_shift=0, form=form
    )
    result = distil(small_model(1), images, teacher_logits, settings, seed=0)
    assert len(result.losses) == 40
    assert result.losses[-1] < 0.2 * result.losses[0]
    agreement = (result.model(images).argmax(1) == teacher_logits.argmax(1)).float().mean()
    assert agreement > 0.9


def test_result_depends_on_the_seed_alone_and_the_student_is_left_alone() -> None:
    student = small_model(2).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    images, logits = torch.randn(40, 1, 8, 8), torch.randn(40, 3) * 5
    settings = DistillationSettings(epochs=3, batch_size=16, weight=1.0)
    first = distil(student, images, logits, settings, seed=5)
    torch.rand(3)
    again = distil(student, images, logits, settings, seed=5)
    other = distil(student, images, logits, settings, seed=6)
    assert same_state(first.model, again.model) and first.losses == again.losses
    assert not same_state(first.model, other.model)
    assert student.training and not first.model.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_no_batch_is_too_small_for_batch_norm(count: int) -> None:
    settings = DistillationSettings(epochs=2, batch_size=4)
    result = distil(
        small_model(0), torch.randn(count, 1, 8, 8), torch.randn(count, 3), settings, seed=0
    )
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())


def test_every_image_is_seen_once_an_epoch() -> None:
    seen: list[int] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.extend(images[:, 0, 0, 0].int().tolist())
            return self.scale * images[:, :, 0, 0].expand(-1, 3)

    images = torch.arange(11.0).view(11, 1, 1, 1)
    distil(
        Watch(), images, torch.randn(11, 3), DistillationSettings(epochs=1, batch_size=4), seed=0
    )
    assert sorted(seen) == list(range(11))


def test_no_images_leave_the_student_unchanged() -> None:
    student = small_model(3)
    result = distil(student, torch.empty(0, 1, 8, 8), torch.empty(0, 3), seed=0)
    assert result.losses == [] and same_state(result.model, student)


def test_frozen_statistics_do_not_move_and_updated_ones_do() -> None:
    student = small_model(4)
    images, logits = torch.randn(12, 1, 8, 8) + 3, torch.randn(12, 3)
    for statistics, stays in (("frozen", True), ("update", False)):
        settings = DistillationSettings(epochs=1, statistics=statistics)
        model = distil(student, images, logits, settings, seed=0).model
        assert torch.equal(model[1].running_mean, student[1].running_mean) == stays
        assert not torch.equal(model[0].weight, student[0].weight)


def test_callbacks_see_every_step_and_epoch_and_a_model_ready_to_be_evaluated() -> None:
    epochs: list[tuple[int, bool, float]] = []
    progress: list[tuple[int, int]] = []
    result = distil(
        small_model(0),
        torch.randn(8, 1, 8, 8),
        torch.randn(8, 3),
        DistillationSettings(epochs=3, batch_size=4),
        seed=0,
        progress=lambda done, total: progress.append((done, total)),
        after_epoch=lambda epoch, model, loss: epochs.append((epoch, model.training, loss)),
    )
    assert progress == [(done, 24) for done in range(4, 25, 4)]
    assert epochs == [(k, False, result.losses[k - 1]) for k in (1, 2, 3)]


def test_a_loss_that_is_no_number_is_reported() -> None:
    with pytest.raises(DistillationError, match="became nan in epoch 1"):
        distil(small_model(0), torch.randn(4, 1, 8, 8), torch.full((4, 3), math.nan), seed=0)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="4 images, but soft labels for 5"):
        distil(small_model(0), torch.randn(4, 1, 8, 8), torch.randn(5, 3), seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("temperature", 0.0),
        ("weight", 0.0),
        ("batch_size", 0),
        ("max_shift", -1),
        ("statistics", "none"),
        ("form", "exact"),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        DistillationSettings(**{name: value})


@pytest.mark.parametrize("statistics", ["frozen", "update"])
@pytest.mark.parametrize(
    ("layers", "moving"),
    [
        ("all", {"0.weight", "1.weight", "1.bias", "5.weight", "5.bias", "6.weight", "6.bias"}),
        ("affine", {"1.weight", "1.bias", "5.weight", "5.bias", "6.weight", "6.bias"}),
        ("head", {"6.weight", "6.bias"}),
    ],
)
def test_only_the_chosen_layers_move(layers: str, moving: set[str], statistics: str) -> None:
    """With momentum and weight decay, neither of which may reach a layer that stays."""
    student = small_model(4)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    settings = DistillationSettings(
        epochs=2, batch_size=4, layers=layers, statistics=statistics, weight_decay=0.1, weight=1.0
    )
    result = distil(student, torch.randn(12, 1, 8, 8) + 3, torch.randn(12, 3), settings, seed=0)
    after = result.model.state_dict()
    if statistics == "update" and layers != "head":
        moving = moving | {
            f"{layer}.{what}"
            for layer in (1, 5)
            for what in ("running_mean", "running_var", "num_batches_tracked")
        }
    assert {name for name in before if not torch.equal(before[name], after[name])} == moving
    assert all(parameter.requires_grad for parameter in result.model.parameters())


def test_a_head_that_is_trained_alone_leaves_the_features() -> None:
    student = small_model(5).eval()
    images = torch.randn(12, 1, 8, 8)
    settings = DistillationSettings(epochs=3, layers="head", statistics="update", weight=1.0)
    model = distil(student, images, torch.randn(12, 3), settings, seed=0).model
    torch.testing.assert_close(model[:-1](images), student[:-1](images))
    assert (model(images) - student(images)).abs().max() > 0.01


def test_layers_of_a_model_without_a_head_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    assert len(trained_parameters(model, "all")) == 2
    with pytest.raises(ValueError, match="no linear layer"):
        trained_parameters(model, "head")


def test_parameters_that_the_caller_froze_stay_frozen() -> None:
    student = small_model(6)
    student[0].weight.requires_grad_(False)
    settings = DistillationSettings(epochs=1, weight=1.0)
    result = distil(student, torch.randn(8, 1, 8, 8), torch.randn(8, 3), settings, seed=0)
    assert torch.equal(result.model[0].weight, student[0].weight)
    assert not result.model[0].weight.requires_grad


@pytest.mark.parametrize(("side", "layers"), [(8, "all"), (15, "all"), (16, "affine")])
def test_auto_leaves_the_features_of_photographs_alone(side: int, layers: str) -> None:
    model = small_model(7)
    assert chosen_layers(model, "auto", (side, 40)) == layers
    assert chosen_layers(model[:-1], "auto", (side, 40)) == "all"
    assert chosen_layers(model, "head", (side, 40)) == "head"


def test_a_student_of_which_nothing_is_known_is_trained_whole() -> None:
    student, images, logits = small_model(7), torch.randn(8, 1, 32, 32), torch.randn(8, 3)
    whole, unsaid = (
        distil(student, images, logits, DistillationSettings(epochs=1, layers=layers), seed=0)
        for layers in ("all", "auto")
    )
    assert same_state(whole.model, unsaid.model)
