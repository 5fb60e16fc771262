"""Combine models into one: a round's local ones, or the last global ones.

Pure functions over tensors. Local models are read one at a time, so memory does not grow with
their number; sums are in float64 and in the order given, so the result depends on neither the
order in which replies arrived nor the number of clients in float32.
"""

import statistics
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .state import State, StateLayout


def sample_weights(num_examples: Sequence[int]) -> list[float]:
    """Return p_i = n_i / Σ n_j, in samples, never in batches."""
    total = sum(num_examples)
    return [count / total for count in num_examples]


def normalizer(
    steps: int, *, learning_rate: float, momentum: float = 0.0, weight_decay: float = 0.0
) -> float:
    """Return ‖a‖₁: how far ``torch.optim.SGD`` moves in τ ≥ 1 steps for a constant unit gradient.

    For a constant gradient g, parameters that start at x and end at y satisfy exactly ``x - y =
    learning_rate * normalizer * (g + weight_decay * x)``, without dampening and Nesterov. With
    momentum ρ alone it is ``[τ - ρ(1 - ρ^τ)/(1 - ρ)]/(1 - ρ)``.

    Wang et al. 2020 ("Tackling the Objective Inconsistency Problem in Heterogeneous Federated
    Optimization") write a client's update as η·Σ_k a_k·g_k. ‖a‖₁ turns the distance a client has
    moved back into a gradient: FedNova divides by it, and so does SCAFFOLD's control update once
    the local optimizer has momentum.
    """
    if steps < 1:
        raise ValueError(f"a client that made {steps} local steps has no update to normalize")
    velocity = distance = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1.0 - learning_rate * weight_decay * distance
        distance += velocity
    return distance


def combine(
    global_state: State,
    local_states: Iterable[State],
    layout: StateLayout,
    *,
    weights: Sequence[float],
    parameter_weights: Sequence[float] | None = None,
    server_learning_rate: float = 1.0,
) -> State:
    """Return the next global state, with the names, shapes and types of x, ``global_state``.

    Parameters become ``x + η_g·Σ w_i·(y_i - x)``, float buffers ``Σ p_i·b_i``, and integer buffers
    the maximum over clients, in their own dtype. Frozen parameters stay as they are in x. Local
    states are read one at a time.

    p_i, ``weights``, are shares of samples, and sum to 1. w_i, ``parameter_weights``, are p_i
    unless an algorithm's differ (FedNova), and need not sum to 1; buffers keep p_i, since
    extrapolating a running variance can make it negative.
    """
    parameter_weights = weights if parameter_weights is None else parameter_weights
    # Copies: of a float64 model, .double() would be the caller's own tensor.
    start = {name: global_state[name].to(torch.float64, copy=True) for name in layout.parameters}
    moved = {name: torch.zeros_like(value) for name, value in start.items()}
    averaged = {
        name: torch.zeros_like(global_state[name], dtype=torch.float64)
        for name in layout.float_buffers
    }
    counted: dict[str, Tensor] = {}
    for state, weight, parameter_weight in zip(
        local_states, weights, parameter_weights, strict=True
    ):
        for name, total in moved.items():
            total.add_(state[name].double() - start[name], alpha=parameter_weight)
        for name, total in averaged.items():
            total.add_(state[name].double(), alpha=weight)
        for name in layout.integer_buffers:
            value = state[name]
            counted[name] = torch.maximum(counted[name], value) if name in counted else value
    result: State = {}
    for name, value in global_state.items():
        if name in moved:
            combined = start[name].add_(moved[name], alpha=server_learning_rate)
        elif name in averaged:
            combined = averaged[name]
        else:
            combined = counted.get(name, value)
        result[name] = combined.to(value.dtype)
    return result


def update_norm(start: State, end: State, names: Iterable[str]) -> float:
    """Return ‖y - x‖₂ over the named entries, in float64."""
    squares = sum(
        float((end[name].double() - start[name].double()).square().sum()) for name in names
    )
    return float(squares**0.5)


def clip_factors(norms: Sequence[float], multiple: float) -> list[float]:
    """Return for every norm ‖y_i - x‖₂ the factor min(1, multiple·median/norm_i), in (0, 1].

    All are 1 if the median is 0: then there is no measure. ``multiple`` is above 0.
    """
    bound = multiple * statistics.median(norms)
    return [bound / norm if 0 < bound < norm else 1.0 for norm in norms]


def scaled_update(start: State, end: State, names: Iterable[str], factor: float) -> State:
    """Return x + factor·(y - x) for the named entries; the others (buffers) as they are in y."""
    if factor == 1.0:
        return end
    moved = {
        name: (start[name].double() + factor * (end[name].double() - start[name].double())).to(
            end[name].dtype
        )
        for name in names
    }
    return {**end, **moved}


WINDOW, GEOMETRIC = "window", "geometric"


class RunningAverage:
    """An average of a run's last global models, which costs nothing in traffic.

        window:     x̄ = (1/K)·Σ of the last K models
        geometric:  x̄ = Σ_s d^(t-s)·x_s / Σ_s d^(t-s),  d = 1 - 1/K, so that K is about its length

    K, ``rounds``, is at least 1; a window keeps so many models in memory. Only trained parameters
    are averaged: BatchNorm's statistics belong to one model, and have to be measured anew for the
    average. All else is the last model's.
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
