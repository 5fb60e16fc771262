"""torchvision's classifiers as encoders.

Their last linear layer is left to :class:`.Classifier`. They are built without dropout and
stochastic depth, so that a run depends on its seed alone; images below 64 pixels a side get a stem
that keeps their size, where that makes sense.
"""

from functools import partial
from typing import Any

from torch import nn

from .classifier import Model
from .resnet import group_norm, standardize_weights
from .state import State

PREFIX = "torchvision/"
#: What the trained weights want: pixels less this mean, divided by this deviation.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Images with a shorter side than this are not shrunk by the first layers.
SMALL = 64
#: Below this, the last feature maps would be a single pixel, which BatchNorm cannot train on.
SMALLEST = 32
# Names that end so have GroupNorm and standardized weights in the place of BatchNorm.
_STANDARDIZED = "-ws"


def torchvision_encoder(
    channels: int, image_size: tuple[int, int], *, name: str, **options: Any
) -> tuple[nn.Module, int]:
    """Build a classifier of torchvision without its last layer, with fresh weights.

    ``options`` are what torchvision's builder needs so that nothing in a forward pass is drawn at
    random. A ValueError says that the images are too small, or that torchvision is not installed.
    """
    if min(image_size) < SMALLEST:
        raise ValueError(
            f"model '{PREFIX}{name}' needs images of at least {SMALLEST}x{SMALLEST} pixels, not "
            f"{image_size[0]}x{image_size[1]}: set image-size, or choose another model"
        )
    if name == "vit_b_16":
        if image_size[0] != image_size[1] or image_size[0] % 16:
            raise ValueError(
                f"model '{PREFIX}{name}' needs square images whose side is a multiple of 16, not "
                f"{image_size[0]}x{image_size[1]}: set image-size"
            )
        options["image_size"] = image_size[0]
    # Here, since the import takes as long as torch's, and most runs do without.
    try:
        from torchvision.models import get_model
    except ImportError as error:
        raise ValueError(
            f"model '{PREFIX}{name}' needs torchvision, on clients too: pip install torchvision"
        ) from error
    standardized = name.endswith(_STANDARDIZED)
    if standardized:
        options["norm_layer"] = group_norm
    network: nn.Module = get_model(name.removesuffix(_STANDARDIZED), weights=None, **options)
    if channels != 3:
        first = first_convolution(network)
        new = _convolution_like(network.get_submodule(first), channels=channels)
        network.set_submodule(first, new)
    if min(image_size) < SMALL:
        _keep_size(network, name)
    if standardized:
        standardize_weights(network)
    return network, _without_last_layer(network)


def downloaded(name: str) -> State:
    """Return torchvision's trained weights for a model, from PyTorch's cache or the network.

    A ValueError says that they cannot be reached.
    """
    from torchvision.models import get_model_weights

    if name.endswith(_STANDARDIZED):
        raise ValueError(
            f"model {name!r} has no trained weights: torchvision's were trained with BatchNorm. "
            f"Leave initial-weights out, or set model={name.removesuffix(_STANDARDIZED)}"
        )
    weights = get_model_weights(name.removeprefix(PREFIX)).DEFAULT
    try:
        state: State = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"torchvision's weights could not be downloaded ({error}): fetch {weights.url} where "
            "there is a network, and set initial-weights to the file"
        ) from error
    return state


def _model(name: str, **options: Any) -> Model:
    build = partial(torchvision_encoder, name=name.removeprefix(PREFIX), **options)
    return Model(name, build, downloaded, lambda _: (MEAN, STD))


models = (
    _model("torchvision/resnet18"),
    _model("torchvision/resnet34"),
    _model("torchvision/resnet50"),
    _model("torchvision/resnet18-ws"),
    _model("torchvision/resnet50-ws"),
    _model("torchvision/mobilenet_v3_small", dropout=0.0),
    _model("torchvision/efficientnet_b0", dropout=0.0, stochastic_depth_prob=0.0),
    _model("torchvision/shufflenet_v2_x0_5"),
    _model("torchvision/shufflenet_v2_x1_0"),
    _model("torchvision/convnext_tiny", stochastic_depth_prob=0.0),
    _model("torchvision/vit_b_16"),
)


def first_convolution(network: nn.Module) -> str:
    """Return the name of a network's first convolution; empty if it has none."""
    found = (name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    return next(found, "")


def _convolution_like(
    old: nn.Module, *, channels: int | None = None, kernel: int | None = None
) -> nn.Conv2d:
    assert isinstance(old, nn.Conv2d)
    return nn.Conv2d(
        channels or old.in_channels,
        old.out_channels,
        kernel or old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride if kernel is None else 1,  # type: ignore[arg-type]
        padding=old.padding if kernel is None else kernel // 2,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )


def _keep_size(network: nn.Module, name: str) -> None:
    """Have the first layers keep the size of small images."""
    first = first_convolution(network)
    convolution = network.get_submodule(first)
    assert isinstance(convolution, nn.Conv2d)
    if name.startswith("resnet"):
        # A 7x7 window is for images of 224 pixels; He et al. take 3x3 for those of 32.
        network.set_submodule(first, _convolution_like(convolution, kernel=3))
    elif name.startswith(("mobilenet", "efficientnet", "shufflenet")):
        convolution.stride = (1, 1)
    if name.startswith(("resnet", "shufflenet")):
        network.maxpool = nn.Identity()


def _without_last_layer(network: nn.Module) -> int:
    """Take the last linear layer away, and return how many features it was given."""
    linear = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    name, last = list(linear.items())[-1]
    network.set_submodule(name, nn.Identity())
    return last.in_features
