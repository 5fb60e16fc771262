"""A student that learns batch by batch."""

import pytest
import torch

from distillation import DistillationError, distil
from distillation.student import LARGEST_GRADIENT, Student, pass_over
from distillation.training import finite
from foundation.models import build
from foundation.settings import DistillationSettings


def _model(seed: int = 0) -> torch.nn.Module:
    return build("resnet8", classes=3, channels=1, image_size=8, seed=seed).eval()


def _student(**other: object) -> Student:
    settings = {"steps": 4, "learning_rate": 0.05, "temperature": 2.0, "statistics": "frozen"}
    return Student(_model(), **{**settings, **other})


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_it_nears_its_teacher_and_the_model_given_stays(images):
    given = _model()
    student = Student(given, steps=60, learning_rate=0.05, temperature=2.0, statistics="update")
    with torch.no_grad():
        wanted = _model(1)(images)
    first = student.learn(images, wanted)
    for _ in range(40):
        last = student.learn(images, wanted)
    assert last < 0.2 * first
    fresh = _model().state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in given.state_dict().items())


def test_who_says_what_it_says_itself_teaches_it_nothing_but_decay(images):
    student = _student()
    with student.consulted() as model, torch.no_grad():
        own = model(images)
    assert student.learn(images, own).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("statistics", ["frozen", "update"])
def test_running_statistics_move_as_told(images, statistics):
    student = _student(statistics=statistics)
    before = {name: value.clone() for name, value in student.model.named_buffers()}
    student.learn(images, torch.zeros(16, 3))
    moved = any(
        not torch.equal(value, before[name]) for name, value in student.model.named_buffers()
    )
    assert moved == (statistics == "update")


def test_the_step_size_ends_at_nothing(images):
    student = _student()
    for _ in range(4):
        student.learn(images, torch.zeros(16, 3))
        student.follow_schedule()
    before = [parameter.clone() for parameter in student.model.parameters()]
    student.learn(images, torch.zeros(16, 3))
    for old, new in zip(before, student.model.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-7)


def test_asking_it_gives_gradients_to_images_alone(images):
    student = _student()
    seen = images.clone().requires_grad_()
    with student.consulted() as model:
        model(seen).sum().backward()
        assert not model.training
    assert seen.grad is not None
    assert all(p.grad is None and p.requires_grad for p in student.model.parameters())


def test_frozen_parameters_stay_what_they_are(images):
    given = _model()
    given.head.requires_grad_(False)
    student = Student(given, steps=4, learning_rate=0.05, temperature=2.0, statistics="frozen")
    with student.consulted():
        pass
    student.learn(images, torch.ones(16, 1) * torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(student.model.head.weight, given.head.weight)
    moved = [
        not torch.equal(new, old)
        for new, old in zip(student.model.parameters(), given.parameters(), strict=True)
    ]
    assert any(moved)


@pytest.mark.parametrize(("count", "sizes"), [(2, [2]), (3, [3]), (17, [9, 8]), (16, [8, 8])])
def test_a_pass_takes_every_image_once_in_batches_of_two_or_more(images, count, sizes):
    seen = []

    def lesson(rows, draw):
        seen.append(rows.tolist())
        return images[rows % 16], torch.zeros(len(rows), 3)

    student = _student()
    device = torch.device("cpu")
    pass_over(student, count, lesson, batch_size=9 if count != 16 else 8, seed=0, device=device)
    assert [len(rows) for rows in seen] == sizes
    assert sorted(row for rows in seen for row in rows) == list(range(count))


def test_a_loss_that_is_no_number_is_said():
    assert finite(0.5) == 0.5
    with pytest.raises(DistillationError, match="learning-rate"):
        finite(float("nan"))


def _moved(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    old = before.state_dict()
    return {n for n, v in after.state_dict().items() if not torch.equal(v, old[n])}


def test_running_statistics_of_frozen_layers_stay_while_those_of_others_move(images):
    given = _model()
    given.encoder.requires_grad_(False)
    student = Student(given, steps=4, learning_rate=0.05, temperature=2.0, statistics="update")
    student.learn(images, torch.ones(16, 1) * torch.tensor([1.0, 2.0, 3.0]))
    assert _moved(given, student.model) == {"head.weight", "head.bias"}


def test_so_they_do_in_the_distillation_of_all_layers(images):
    given = _model()
    given.encoder.requires_grad_(False)
    settings = DistillationSettings(epochs=1, layers="all", statistics="update", weight=1.0)
    lessons = torch.ones(16, 1) * torch.tensor([1.0, 2.0, 3.0])
    result = distil(given, images, lessons, settings, seed=0)
    assert _moved(given, result.model) == {"head.weight", "head.bias"}


def test_a_step_is_no_longer_than_a_gradient_of_the_largest_norm_makes_it():
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    far = 1e5 * torch.eye(3)[torch.arange(8) % 3]
    student = _student(learning_rate=0.01, temperature=20.0)
    before = torch.cat([p.detach().flatten().clone() for p in student.model.parameters()])
    student.learn(images, far)
    after = torch.cat([p.detach().flatten() for p in student.model.parameters()])
    # The first step along Nesterov's momentum of 0.9 is 1.9 gradients, weight decay included.
    longest = 0.01 * 1.9 * (LARGEST_GRADIENT + 1e-4 * before.norm())
    assert 0.5 * longest < (after - before).norm() < 1.001 * longest
