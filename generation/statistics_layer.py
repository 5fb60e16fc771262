"""A frozen BatchNorm layer that measures its input's statistics while it normalises.

The plain way (``generation.objective.StatisticsRecorder``) reads each layer's input three times
forward and writes several temporaries of its size backward. Here both come from one centred copy:
forward

    d = x - mean(x),   var = mean(d^2),   y = scale d + (scale (mean - m) + beta),   scale = gamma /
    sqrt(v + eps) deviation = ||mean - m|| + ||var - v||                       (m, v: what the layer
    remembers)

and backward, with M = n·H·W values per channel,

    dL/dx = scale dL/dy + dL/d(deviation) / M · ( (mean - m) / ||mean - m|| + 2 d (var - v) / ||var
    - v|| ).
"""

from typing import Any

import torch
from torch import Tensor, nn

from .objective import batch_norm_layers


class _NormaliseAndMeasure(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normalise x with scale and offset, and measure its distance from mean and var."""
        values = x.to(mean.dtype)
        batch_mean = values.mean(dim=(0, 2, 3))
        centred = values - _per_channel(batch_mean)
        batch_var = centred.square().mean(dim=(0, 2, 3))
        mean_error, var_error = batch_mean - mean, batch_var - var
        mean_distance = torch.linalg.vector_norm(mean_error)
        var_distance = torch.linalg.vector_norm(var_error)
        normalised = torch.addcmul(
            _per_channel(torch.addcmul(offset, batch_mean, scale)), centred, _per_channel(scale)
        )
        count = x.numel() // x.shape[1]
        # A distance of 0 has no direction; its subgradient 0 is taken, as torch's own norm does.
        tiny = torch.finfo(mean.dtype).tiny
        ctx.save_for_backward(
            centred,
            scale,
            mean_error / (mean_distance.clamp(min=tiny) * count),
            var_error * 2 / (var_distance.clamp(min=tiny) * count),
        )
        return normalised.to(x.dtype), mean_distance + var_distance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Gradient with respect to x alone: everything else is frozen."""
        of_output, of_deviation = gradients
        centred, scale, towards_mean, towards_var = ctx.saved_tensors
        total = torch.addcmul(
            _per_channel(towards_mean * of_deviation),
            centred,
            _per_channel(towards_var * of_deviation),
        )
        total.addcmul_(of_output.to(total.dtype), _per_channel(scale))
        return total.to(of_output.dtype), None, None, None, None


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


class StatisticsBatchNorm(nn.Module):
    """Stand-in for a frozen ``BatchNorm2d`` in evaluation mode that also measures.

    Parameters
    ----------
    layer : nn.BatchNorm2d
        The layer to stand in for; shares its parameters and buffers and therefore its state's
        names.
    deviations : list of Tensor
        Receives ``statistics_deviation`` of the input in every forward pass.
    """

    def __init__(self, layer: nn.BatchNorm2d, deviations: list[Tensor]) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        for name, buffer in layer.named_buffers():
            self.register_buffer(name, buffer)
        self._deviations = deviations

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (n, C, H, W) with the remembered statistics."""
        assert isinstance(self.running_mean, Tensor) and isinstance(self.running_var, Tensor)
        scale = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        offset = -self.running_mean * scale
        if self.bias is not None:
            offset = offset + self.bias
        normalised, deviation = _NormaliseAndMeasure.apply(
            x, self.running_mean, self.running_var, scale, offset
        )
        self._deviations.append(deviation)
        return normalised


def measure_statistics(model: nn.Module) -> list[Tensor]:
    """Replace every BatchNorm layer of a frozen model by one that measures.

    Parameters
    ----------
    model : nn.Module
        Changed in place; the names in its state stay what they were.

    Returns
    -------
    list of Tensor
        Receives one scalar per layer in every forward pass; to be cleared between passes.
    """
    deviations: list[Tensor] = []
    stand_ins = {
        layer: StatisticsBatchNorm(layer, deviations) for layer in batch_norm_layers(model)
    }
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and child in stand_ins:
                setattr(parent, name, stand_ins[child])
    return deviations
