"""A frozen BatchNorm layer that measures its input's statistics while it normalises.

The plain way (``generation.objective.record_statistics``) reads each layer's input three times
forward and writes several temporaries of its size backward. Here both come from one centred copy:

    d = x - mean(x),   var = mean(d^2),   y = scale d + (scale mean + offset),
    scale = gamma / sqrt(v + eps),   offset = beta - scale m,
    deviation = ||mean - m|| + ||var - v||                       (m, v: what the layer remembers)

    dL/dx = scale dL/dy + dL/d(deviation) / M · ( (mean - m) / ||mean - m||
            + 2 d (var - v) / ||var - v|| ),    M = n·H·W values per channel

Not compiled, a small model's step is mostly calls: mean and variance are the two rows of one
matrix, and scale and offset are computed when weights are loaded.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .objective import batch_norm_layers, statistics_units


class _NormaliseAndMeasure(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        remembered: Tensor,
        scale: Tensor,
        offset: Tensor,
        units: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        values = x.to(remembered.dtype)
        mean = values.mean(dim=(0, 2, 3))
        centred = values - _per_channel(mean)
        # Not square(): a power is three times as slow as a product.
        var = (centred * centred).mean(dim=(0, 2, 3))
        normalised = torch.addcmul(
            _per_channel(torch.addcmul(offset, mean, scale)), centred, _per_channel(scale)
        )
        errors = torch.stack((mean, var)) - remembered
        distances = torch.linalg.vector_norm(errors, dim=1, keepdim=True)
        # A distance of 0 has no direction; its subgradient 0 is taken, as torch's own norm does.
        directions = errors / distances.clamp(min=torch.finfo(errors.dtype).tiny)
        if units is not None:
            distances, directions = distances / units, directions / units
        ctx.save_for_backward(centred, scale, directions)
        return normalised.to(x.dtype), distances.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        of_output, of_deviation = gradients
        centred, scale, directions = ctx.saved_tensors
        of_one_mean = centred[:, 0].numel()
        towards_mean, towards_var = (directions * (of_deviation / of_one_mean)).unbind()
        total = torch.addcmul(
            _per_channel(towards_mean), centred, _per_channel(towards_var), value=2.0
        )
        total.addcmul_(of_output.to(total.dtype), _per_channel(scale))
        return total.to(of_output.dtype), None, None, None, None


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


class FrozenBatchNorm(nn.Module):
    """Stand-in for a frozen ``BatchNorm2d`` in evaluation mode: one product, one sum.

    It shares the layer's parameters, buffers and names. `deviations` receives
    ``statistics_deviation`` of the input, a scalar, in every forward pass; None: nothing is
    measured.
    """

    running_mean: Tensor
    running_var: Tensor
    remembered: Tensor
    scale: Tensor
    offset: Tensor
    units: Tensor

    def __init__(
        self, layer: nn.BatchNorm2d, deviations: list[Tensor] | None = None, relative: bool = False
    ) -> None:
        super().__init__()
        self._relative = relative
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        for name, buffer in layer.named_buffers():
            self.register_buffer(name, buffer)
        for name, value in self._derived().items():
            self.register_buffer(name, value, persistent=False)
        self.register_load_state_dict_post_hook(_derive_again)  # type: ignore[no-untyped-call]
        self._deviations = deviations

    def _derived(self) -> dict[str, Tensor]:
        scale = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        offset = -self.running_mean * scale
        if self.bias is not None:
            offset = offset + self.bias
        remembered = torch.stack((self.running_mean, self.running_var))
        units = statistics_units(self.running_var).view(2, 1)
        return {"scale": scale, "offset": offset, "remembered": remembered, "units": units}

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (n, C, H, W) with the remembered statistics."""
        if self._deviations is None:
            normalised = torch.addcmul(_per_channel(self.offset), x, _per_channel(self.scale))
            return normalised.to(x.dtype)
        output: Tensor
        output, deviation = _NormaliseAndMeasure.apply(
            x, self.remembered, self.scale, self.offset, self.units if self._relative else None
        )
        self._deviations.append(deviation)
        return output


def _derive_again(layer: nn.Module, _: object) -> None:
    assert isinstance(layer, FrozenBatchNorm)
    for name, value in layer._derived().items():
        # In place: a captured graph reads them where they were.
        getattr(layer, name).copy_(value)


def freeze_statistics(
    model: nn.Module, deviations: list[Tensor] | None = None, *, relative: bool = False
) -> None:
    """Replace every BatchNorm layer of a frozen model by its stand-in, in place.

    The layers share `deviations`, which is to be cleared between passes; None: nothing is measured.
    """
    stand_ins: dict[nn.Module, nn.Module] = {
        layer: FrozenBatchNorm(layer, deviations, relative) for layer in batch_norm_layers(model)
    }
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if layer in stand_ins:
            model.set_submodule(name, stand_ins[layer])
