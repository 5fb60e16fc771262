"""Weight standardization (Qiao et al. 2019): every filter has mean 0 and length 1 when it is used.

    W ← (W - mean W)/(std W·√fan-in),    mean and deviation over the fan-in weights of one filter

With GroupNorm behind it (``-ws`` models; FedWSQ, 2025), a network has nothing that is averaged
over images: no running statistics that the average of local models would get wrong, and none that
an inversion could match.
"""

import torch
from torch import Tensor, nn

# A filter whose squared length is below this, around its mean, is not blown up to length 1.
_SHORTEST = 1e-8


def standardized(weight: Tensor) -> Tensor:
    """Return filters, (outputs, inputs, height, width), each with mean 0 and length 1."""
    # In bfloat16, the mean of some thousand weights would be lost.
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, dim=(1, 2, 3), correction=0, keepdim=True)
    squared_length = variance * weight[0].numel()
    return ((wide - mean) * squared_length.clamp_min(_SHORTEST).rsqrt()).to(weight.dtype)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose parameters are those of ``nn.Conv2d``, by the same names."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve with the standardized filters."""
        result: Tensor = self._conv_forward(features, standardized(self.weight), self.bias)
        return result


def standardize_weights(network: nn.Module) -> None:
    """Put a standardized convolution in the place of every convolution of a network."""
    for name, old in list(network.named_modules()):
        if type(old) is nn.Conv2d:
            new = StandardizedConv2d(
                old.in_channels,
                old.out_channels,
                old.kernel_size,  # type: ignore[arg-type]
                old.stride,  # type: ignore[arg-type]
                old.padding,  # type: ignore[arg-type]
                old.dilation,  # type: ignore[arg-type]
                old.groups,
                old.bias is not None,
            )
            new.load_state_dict(old.state_dict())
            network.set_submodule(name, new)
