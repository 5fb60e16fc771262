"""The average of a run's last global models: costs nothing in traffic, and is often the better one.

    window:     x̄ = (1/K)·Σ of the last K models
    geometric:  x̄ = Σ_s d^(t-s)·x_s / Σ_s d^(t-s),  d = 1 - 1/K, so that K is about its length

Only parameters are averaged. Of the buffers, BatchNorm's statistics belong to one model, and have
to be measured anew for the average; all are the last model's until then.
"""

import torch

from .state import State, StateLayout

WINDOW, GEOMETRIC = "window", "geometric"


class RunningAverage:
    """An average of models that are seen one after the other.

    The kind is ``"window"``, which keeps the last K models (``rounds``, at least 1) in memory, or
    ``"geometric"``, which keeps one. What is no trained parameter by the layout is the last
    model's.
    """

    def __init__(self, kind: str, rounds: int, layout: StateLayout) -> None:
        self._rounds = rounds
        self._decay = 1.0 - 1.0 / rounds
        self._kind = kind
        self._names = layout.parameters
        # The models of a window, or the geometric average alone.
        self._models: list[State] = []
        # Σ d^(t-s), the sum of a geometric average's weights.
        self._weight = 0.0

    def add(self, state: State) -> None:
        """See the next model."""
        if self._kind == WINDOW:
            seen = {name: state[name].clone() for name in self._names}
            self._models = [*self._models, seen][-self._rounds :]
            return
        seen = {name: state[name].to(torch.float64, copy=True) for name in self._names}
        self._weight = 1.0 + self._decay * self._weight
        before = self._models[0] if self._models else seen
        share = 1.0 / self._weight
        self._models = [{n: before[n] + share * (seen[n] - before[n]) for n in self._names}]

    def of(self, state: State) -> State:
        """Return the average of the models seen, with everything else as in the last one."""
        mean = {
            name: torch.stack([model[name].double() for model in self._models]).mean(0)
            for name in self._names
        }
        return {n: mean[n].to(value.dtype) if n in mean else value for n, value in state.items()}

    def memory(self) -> State:
        """Return what :meth:`restore` needs."""
        models = {
            f"{index}.{name}": value
            for index, model in enumerate(self._models)
            for name, value in model.items()
        }
        return {"weight": torch.tensor(self._weight, dtype=torch.float64), **models}

    def restore(self, memory: State) -> None:
        """Take back what :meth:`memory` returned."""
        self._weight = float(memory["weight"])
        count = (len(memory) - 1) // max(len(self._names), 1)
        self._models = [
            {name: memory[f"{index}.{name}"] for name in self._names} for index in range(count)
        ]
