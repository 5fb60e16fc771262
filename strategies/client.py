"""The client half of an algorithm: what it adds to the one local training loop.

Clients keep nothing between rounds: what an algorithm must remember of a client (SCAFFOLD's
control, MOON's previous model) is held in the server's checkpoint and travels with the message, so
a client that was restarted, was not heard, or takes part for the first time can never train with a
stale state.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from foundation.capture import Capturable
from foundation.models import Classifier, State
from foundation.settings.configuration import RunConfiguration


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the parameters' gradients, each of which must exist."""
    found = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if len(found) != len(parameters):
        raise ValueError("a trainable parameter has no gradient: it takes no part in the loss")
    return found


class ClientAlgorithm(Capturable, capturable=True):
    """Plain local training: the client half of FedAvg, and the base of all others.

    A subclass that says ``capturable=True`` is recorded with the step where a device can do that:
    see :mod:`foundation.capture`, also for what its hooks must not do then.
    """

    def __init__(self, configuration: RunConfiguration) -> None:
        self.configuration = configuration

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        """Prepare a round, whose global parameters x the model holds, on the training device.

        ``received`` is what the server half sent beside the model, by name, on the CPU.
        """

    def extra_loss(self, images: Tensor, embedding: Tensor) -> Tensor | None:
        """Return a scalar to add to the local loss, or None.

        ``embedding``, (n, d), is the model's representation of the images, (n, channels, height,
        width), with its graph; in bfloat16 where local training computes in it.
        """
        return None

    def adjust_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Change the parameters' gradients in place, before the optimizer step."""
