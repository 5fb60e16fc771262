import pytest

from fedf2dg.report.model_card import model_card
from fedf2dg.report.verdict import guessing
from foundation.models import ModelDescription


def summary(accuracy: float | None, images: int) -> dict[str, object]:
    return {
        "accuracy": {"selected": accuracy},
        "measured": {"selected": {"by": "clients", "images": images}},
    }


@pytest.mark.parametrize(
    ("accuracy", "images", "classes", "warned"),
    [
        (0.57, 21, 2, True),
        (0.57, 2100, 2, False),
        (0.10, 10_000, 10, True),
        (0.35, 10_000, 10, False),
        (0.0, 5, 3, True),  # worse than guessing is no better
        (1.0, 8, 2, False),
        (1.0, 2, 2, True),  # two right answers prove nothing
        (0.5, 0, 2, False),
        (None, 20, 2, False),
        (0.5, 20, 1, False),
    ],
)
def test_warns_where_guessing_is_within_the_interval(accuracy, images, classes, warned):
    said = guessing(summary(accuracy, images), classes)
    assert bool(said) == warned
    if warned:
        assert f"guessing among {classes} classes" in said and f"on {images:,} images" in said


def test_classes_that_nobody_measured_do_not_count() -> None:
    told = summary(0.45, 100)
    assert not guessing(told, 3)
    told["measured"]["selected"]["classes"] = 2  # type: ignore[index]
    assert "guessing among 2 classes (50.0 %)" in guessing(told, 3)


def test_the_card_says_it_in_bold() -> None:
    told = {**summary(0.57, 21), "judged": {}, "strategy": "fedavg", "clients": 3, "rounds": 2}
    model = ModelDescription("cnn", 0, ("ants", "bees"), 3, (8, 8), (0.5,) * 3, (0.25,) * 3)
    card = model_card(told, kept="federated", model=model)
    assert "mean 0.5, 0.5, 0.5 and deviation 0.25, 0.25, 0.25" in card
    assert "\n**Not to be told from guessing among 2 classes" in card
