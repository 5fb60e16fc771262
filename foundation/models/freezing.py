"""Layers that are not trained, and what a frozen encoder says of images, computed once.

A classifier takes features in place of images (:meth:`.Classifier.embed`), so what is kept here
stands for the images wherever a frozen encoder would say the same of them again: in local training,
in judgements of several heads, in statistics.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .classifier import Classifier
from .device import device_of
from .state import digest_of, is_frozen


def freeze(model: nn.Module, layers: Sequence[str]) -> None:
    """Take the parameters of layers out of the training.

    Layers are named as ``named_parameters`` has them, such as ``encoder`` or ``encoder.0``; what is
    below a layer belongs to it. A ValueError says that a name fits no parameter, or that nothing
    would be left to train.
    """
    for layer in layers:
        below = [
            parameter
            for name, parameter in model.named_parameters(remove_duplicate=False)
            if name == layer or name.startswith(f"{layer}.")
        ]
        if not below:
            known = [name for name, _ in model.named_children()]
            known += [
                f"encoder.{name}" for name, _ in model.get_submodule("encoder").named_children()
            ]
            raise ValueError(
                f"freeze = {layer!r} fits no layer with parameters; the model has "
                f"{', '.join(known)} and what is below them"
            )
        for parameter in below:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freeze = {','.join(layers)!r} leaves nothing to train")


def encoder_is_frozen(model: Classifier) -> bool:
    """Tell whether no parameter of the encoder is trained."""
    return not any(parameter.requires_grad for parameter in model.encoder.parameters())


def hold_frozen_statistics(model: nn.Module) -> None:
    """Put normalisation layers whose parameters are all frozen into evaluation mode.

    In training mode their running statistics would follow the client's images, and change what a
    frozen encoder computes.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and is_frozen(module):
            module.eval()


Features = npt.NDArray[np.float32]
#: Returns what is stored under a name, or computes and stores it.
Store = Callable[[str, Callable[[], Features]], Features]


class KeptFeatures:
    """The features of some images under the encoder that was last asked about.

    ``batches`` returns the images as the encoder takes them, in order; ``store`` keeps features
    beyond this process.
    """

    def __init__(self, batches: Callable[[], Iterable[Tensor]], store: Store | None = None) -> None:
        self._batches = batches
        self._store = store
        self._encoder: dict[str, Tensor] = {}
        self._kept: dict[torch.dtype | None, Tensor] = {}

    def of(self, model: Classifier, autocast: torch.dtype | None = None) -> Tensor:
        """Return φ, float32 of shape (n, width) on the model's device.

        The encoder is run in evaluation mode, and left in the mode it was in; ``autocast`` is a
        reduced precision to compute in.
        """
        encoder = model.encoder.state_dict()
        if not self._known(encoder):
            self._kept = {}
            self._encoder = {name: value.clone() for name, value in encoder.items()}
        if autocast not in self._kept:
            self._kept[autocast] = self._computed(model, autocast)
        return self._kept[autocast]

    def _known(self, encoder: Mapping[str, Tensor]) -> bool:
        return encoder.keys() == self._encoder.keys() and all(
            torch.equal(value, self._encoder[name]) for name, value in encoder.items()
        )

    def _computed(self, model: Classifier, autocast: torch.dtype | None) -> Tensor:
        if self._store is None:
            return _run(model, self._batches(), autocast)
        name = f"{digest_of(model.encoder.state_dict())} {autocast}"
        found = self._store(name, lambda: _run(model, self._batches(), autocast).cpu().numpy())
        # A copy: what is stored is read-only.
        return torch.tensor(found).to(device_of(model))


@torch.no_grad()  # and not inference_mode, whose tensors no head could be trained on
def _run(model: Classifier, batches: Iterable[Tensor], autocast: torch.dtype | None) -> Tensor:
    was_training = model.training
    model.eval()
    device = device_of(model)
    found = []
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        for images in batches:
            found.append(model.encoder(images).flatten(1).float())
    model.train(was_training)
    return torch.cat(found)
