"""Keep the clients' models of the last round, under any of Flower's strategies.

``KeepLocalModels(FedAvg(...), "kept")`` does what ``FedAvg(...)`` does, and leaves in the folder
``kept`` what :func:`fedf2dg.post_train` needs.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from safetensors.torch import save_file

from foundation.errors import log
from foundation.files import clear_unfinished, whole_folder
from foundation.models import first_non_finite

from .kept_models import KeptModels


class KeepLocalModels(Strategy):
    """A strategy around another one that sees the replies of each round pass by.

    Parameters
    ----------
    strategy : Strategy
        Does all the work.
    directory : str or Path
        Where to keep one safetensors file per client, of the last round alone and all at once.
    num_examples_key : str (default: "num-examples")
        The metric in which clients report their number of samples; Flower's ``weighted_by_key``.
    """

    def __init__(
        self, strategy: Strategy, directory: str | Path, *, num_examples_key: str = "num-examples"
    ) -> None:
        if type(strategy).start is not Strategy.start:
            raise TypeError(
                f"{type(strategy).__name__} has a round loop of its own, in which the replies "
                "would not be seen; KeepLocalModels works with strategies that use Flower's"
            )
        self.strategy = strategy
        self.directory = Path(directory)
        self.num_examples_key = num_examples_key

    def __getattr__(self, name: str) -> Any:
        if name == "strategy":  # not there yet, e.g. while being copied
            raise AttributeError(name)
        return getattr(self.strategy, name)

    @property
    def kept(self) -> KeptModels:
        """The models of the last round, by node id."""
        return KeptModels(self.directory)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        result = self.strategy.aggregate_train(server_round, replies)
        if result[0] is not None:  # otherwise the global model is still that of the round before
            self._keep(server_round, replies)
        return result

    def _keep(self, server_round: int, replies: Iterable[Message]) -> None:
        clear_unfinished(self.directory)
        target = self.directory / f"round-{server_round:06d}"
        with whole_folder(target, replace=True) as folder:  # maybe of a run before
            for reply in replies:
                self._keep_one(folder, reply)
        for other in self.directory.glob("round-*"):
            if other != target:
                shutil.rmtree(other)

    def _keep_one(self, folder: Path, reply: Message) -> None:
        node = reply.metadata.src_node_id
        if reply.has_error():
            return
        arrays = list(reply.content.array_records.values())
        counts = [
            count
            for record in reply.content.metric_records.values()
            if isinstance(count := record.get(self.num_examples_key), int | float)
        ]
        if len(arrays) != 1 or len(counts) != 1:
            log.warning(
                "node %d: its model is not kept: one ArrayRecord and one metric %r are needed",
                node,
                self.num_examples_key,
            )
            return
        state = {
            name: value.contiguous() for name, value in arrays[0].to_torch_state_dict().items()
        }
        if (name := first_non_finite(state)) is not None or not int(counts[0]) > 0:
            log.warning("node %d: its model is not kept: %s", node, name or "no training samples")
            return
        metadata = {"num-examples": str(int(counts[0]))}
        save_file(state, folder / f"{node}.safetensors", metadata)

    # ------------------------------------------------------------------- the wrapped strategy's own

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        self.strategy.summary()
