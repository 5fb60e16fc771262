"""torchvision's classifiers under this project's names."""

import pytest
import torch
from torchvision.models import get_model

from foundation.members import MODELS
from foundation.models import build, cpu_state
from foundation.models.initial_weights import fitted
from foundation.models.torchvision_models import PREFIX

# The others differ in depth and width alone, and take long.
LIGHT = ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5"]
HEAVY = ["convnext_tiny", "vit_b_16"]


def test_all_are_in_the_registry():
    assert {f"{PREFIX}{name}" for name in LIGHT + HEAVY} <= set(MODELS.ours)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LIGHT)
def test_small_images_and_grey_ones_train_without_chance(name, channels):
    model = build(PREFIX + name, classes=4, channels=channels, image_size=32, seed=0).train()
    images = torch.randn(2, channels, 32, 32)
    state = cpu_state(model)
    first = model(images)
    assert first.shape == (2, 4)
    first.square().sum().backward()
    model.load_state_dict(state)
    assert torch.equal(model(images), first)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", LIGHT)
def test_a_checkpoint_of_torchvision_fits_and_answers_alike(name):
    theirs = get_model(name, weights=None).eval()
    ours = build(PREFIX + name, classes=1000, image_size=64, seed=0)
    given = theirs.state_dict()
    state, left = fitted(ours, given)
    assert left == ["the classifier's head is new: the weights are for other classes"]
    ours.load_state_dict(state)
    # With torchvision's own last layer, the two are the same network.
    last = next(reversed(given)).rpartition(".")[0]
    ours.head.load_state_dict({k: given[f"{last}.{k}"] for k in ("weight", "bias")})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(images), theirs(images), atol=1e-5)


def test_the_first_window_of_a_small_stem_is_new():
    ours = build(f"{PREFIX}resnet18", classes=4, image_size=32, seed=0)
    _, left = fitted(ours, get_model("resnet18", weights=None).state_dict())
    assert any("its window is 3x3 for small images, not 7x7" in sentence for sentence in left)


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("resnet18", 16, "needs images of at least 32x32 pixels, not 16x16: set image-size"),
        ("vit_b_16", 40, "square images whose side is a multiple of 16"),
    ],
)
def test_images_that_are_too_small_or_odd_are_refused(name, side, message):
    with pytest.raises(ValueError, match=message):
        build(PREFIX + name, classes=4, image_size=side)


def test_a_transformer_takes_position_embeddings_of_another_size():
    # A whole ViT has 86 million parameters; its embedding is all that depends on the size.
    ours = build(f"{PREFIX}vit_b_16", classes=4, image_size=32, seed=0)
    name = "encoder.encoder.pos_embedding"
    given = {k.removeprefix("encoder."): v for k, v in cpu_state(ours).items() if "head" not in k}
    given["encoder.pos_embedding"] = torch.randn(1, 1 + 14 * 14, 768)
    given["heads.head.bias"] = torch.zeros(1000)
    state, _ = fitted(ours, given)
    assert state[name].shape == (1, 1 + 2 * 2, 768)
    assert torch.equal(state[name][:, 0], given["encoder.pos_embedding"][:, 0])
