"""The statistics of BatchNorm layers: measured on data in several places, pooled, put in place.

The average of local models' running statistics is that of no model: the inputs of a layer under
averaged weights are not the average of its inputs under each of the weights, and an average of
variances leaves out the spread of the means. Under label skew such a model can be at chance with
good weights. So the averaged model itself is run over images, and what its layers see is pooled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .state import State


@dataclass(frozen=True)
class InputMoments:
    """Sums over everything that entered one BatchNorm layer, positions of an image included.

    ``count`` is the number of values per channel; Σx and Σx² are (channels,) float64.
    """

    count: int
    total: Tensor
    squares: Tensor


def batch_norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the layers that keep running statistics, by name, in the model's order."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


@torch.no_grad()
def input_moments(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, InputMoments]:
    """Run a model over images, and add up on the CPU what enters each of its BatchNorm layers.

    Every layer normalises with its batch, as in training, so that one pass shows later layers what
    they see once earlier ones have the new statistics; with the old ones, it would take as many
    passes as there are layers. The model is left as it was, running statistics included. Images are
    normalised and on the model's device, two or more in a batch.
    """
    layers = batch_norm_layers(model)
    counts = dict.fromkeys(layers, 0)
    sums: dict[str, Tensor] = {}
    kept = [buffer.clone() for buffer in model.buffers()]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    hooks = []
    for name, layer in layers.items():
        layer.train()

        def add(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            values = inputs[0].double()
            axes = [axis for axis in range(values.ndim) if axis != 1]
            counts[name] += values.numel() // values.shape[1]
            found = torch.stack([values.sum(axes), values.square().sum(axes)])
            sums[name] = sums[name] + found if name in sums else found

        hooks.append(layer.register_forward_pre_hook(add))
    try:
        for images in batches:
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
        for buffer, value in zip(model.buffers(), kept, strict=True):
            buffer.copy_(value)
    return {name: InputMoments(counts[name], *(part.cpu() for part in sums[name])) for name in sums}


def pooled_statistics(
    parts: Sequence[Mapping[str, InputMoments]], weights: Sequence[float] | None = None
) -> State:
    """Return the running statistics, float64, of everything that the parts saw together.

    μ = Σ w_i·Σx / n and σ² = (Σ w_i·Σx² / n - μ²)·n/(n - 1) with n = Σ w_i·count_i, per channel.
    The variance is the unbiased one, as that which torch keeps as ``running_var``. All parts have
    the same layers. w_i, 1 if not given, says how many values each value of a part stands for,
    where only a sample of its images was run.
    """
    scales = [1.0] * len(parts) if weights is None else list(weights)
    statistics: State = {}
    for name in parts[0] if parts else ():
        weighted = list(zip((part[name] for part in parts), scales, strict=True))
        count = sum(scale * moments.count for moments, scale in weighted)
        mean = torch.stack([scale * moments.total for moments, scale in weighted]).sum(0) / count
        squares = torch.stack([scale * moments.squares for moments, scale in weighted]).sum(0)
        variance = (squares / count - mean.square()).clamp_min(0.0) * (count / max(count - 1, 1))
        statistics[f"{name}.running_mean"] = mean
        statistics[f"{name}.running_var"] = variance
    return statistics


def with_statistics(state: State, statistics: State) -> State:
    """Return a state with other running statistics, in the types that it had."""
    return {
        name: statistics[name].to(value.dtype) if name in statistics else value
        for name, value in state.items()
    }


def freeze_statistics(model: nn.Module) -> None:
    """Have a model in training normalise with its running statistics, which then stay.

    FixBN (Zhong et al. 2023, "Making Batch Normalization Great in Federated Deep Learning"): local
    training in the later rounds agrees with how the averaged model is used. A call of
    ``model.train()`` undoes it.
    """
    for layer in batch_norm_layers(model).values():
        layer.eval()
