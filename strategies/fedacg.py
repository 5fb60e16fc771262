"""FedACG (Kim, Kim and Han 2024): clients start from where the server's momentum is heading.

    z = x + λm ;   local loss:  f_i(y) + (β/2)‖y - z‖² ;   Δ = Σ_S p_i (y_i - z)
    server:  m⁺ = λm + η_g Δ ;   x⁺ = x + m⁺

m starts at zero. Nothing is sent but z, which takes the place of x: a round costs what it costs
under FedAvg. λ = β = 0 is FedAvg, bit for bit.
"""

from collections.abc import Mapping

from flwr.serverapp import Grid

from foundation.models import Classifier, State
from foundation.settings.algorithms import FedACGSettings

from .algorithm import Algorithm
from .fedprox import FedProxClient, Pull
from .server import FederatedStrategy, Updates


class FedACG(FederatedStrategy):
    """Server half: send the look-ahead, and remember the momentum of the parameters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._momentum: State = {}
        self._before: State = {}

    def begin(self, server_round: int, state: State, grid: Grid) -> None:
        """Begin the round from z; its buffers are those of x."""
        decay = self.configuration.section(FedACGSettings).momentum
        ahead = {name: state[name] + decay * value for name, value in self._momentum.items()}
        self._before = state
        super().begin(server_round, {**state, **ahead}, grid)

    def aggregate(self, server_round: int, global_state: State, updates: Updates) -> State:
        """Return z + η_g Δ, which is x + m⁺; buffers are averaged."""
        result = super().aggregate(server_round, global_state, updates)
        self._momentum = {
            name: result[name] - self._before[name] for name in self.layout.parameters
        }
        return result

    def memory(self) -> State:
        return self._momentum

    def restore(self, memory: State) -> None:
        self._momentum = dict(memory)


class FedACGClient(FedProxClient, capturable=True):
    """Client half: ``gradient += β(y - z)``."""

    def begin_round(self, model: Classifier, received: Mapping[str, State]) -> None:
        self._pull = Pull(model, self.configuration.section(FedACGSettings).pull)


algorithm = Algorithm("fedacg", FedACG, FedACGClient)
