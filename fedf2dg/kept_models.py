"""Local models that :class:`KeepLocalModels` left in a folder, one at a time, without Flower."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from foundation.models import State


class KeptModels(Mapping[int, State]):
    """The last round's local models by Flower's node id, in the folder of ``KeepLocalModels``."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    @cached_property
    def num_examples(self) -> dict[int, int]:
        """Training samples of each client, as it reported them."""
        found = {}
        for path in sorted(round_folder(self.directory).glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                found[int(path.stem)] = int(file.metadata()["num-examples"])
        return found

    def __getitem__(self, node: int) -> State:
        if node not in self.num_examples:
            raise KeyError(node)
        return load_file(round_folder(self.directory) / f"{node}.safetensors")

    def __iter__(self) -> Iterator[int]:
        return iter(self.num_examples)

    def __len__(self) -> int:
        return len(self.num_examples)


def round_folder(directory: Path) -> Path:
    """Return the folder of the newest round that was kept whole; FileNotFoundError without one."""
    folders = sorted(directory.glob("round-*"))
    if not folders:
        raise FileNotFoundError(
            f"{directory} holds no local models: has the strategy that KeepLocalModels wraps "
            "finished a round?"
        )
    return folders[-1]
