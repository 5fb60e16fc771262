"""Centralized baseline: one model trained on all data pooled, the upper bound of every table.

Only a simulation can pool: the first client is asked to train on the whole training set. A client
that holds its own data refuses.
"""

from .algorithm import Algorithm
from .server import FederatedStrategy

POOLED = "pooled"


class Centralized(FederatedStrategy):
    """Server half: one client, all data."""

    has_global_model = False

    def sample(self, server_round: int) -> list[int]:
        return self.participants.available[:1]

    def required_replies(self) -> int:
        return 1

    def train_config(self, server_round: int, client: int) -> dict[str, int | bool]:
        return {**super().train_config(server_round, client), POOLED: True}

    def expected_examples(self, client: int) -> int:
        return sum(self.participants[each].num_examples for each in self.participants.clients)


algorithm = Algorithm("centralized", Centralized)
