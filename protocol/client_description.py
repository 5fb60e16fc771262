"""What a client says of itself when it joins, checked before it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from .numbers import metrics_of, whole_numbers
from .reasons import printable
from .records import InvalidContent

# Tables are as long as the largest index.
_MOST_CLIENTS = 10**6
_MOST_SAMPLES = 10**10
_MOST_CLASSES = 100_000
_LONGEST_NAME = 60


@dataclass(frozen=True)
class ClientDescription:
    """Which client a node speaks for, and how much it has.

    Parameters
    ----------
    num_examples : int
        Training samples n_i, at least 1: the client's weight in every average.
    partition, partitions : int (default: -1, 0)
        Which part of how many a simulated client holds; -1 and 0 for a client that names none.
    held_out : tuple of int (default: ())
        Held-out images by class, or in one column where the server may not know the classes: the
        client's weight when it judges. Empty if it did not say.
    site_name : str (default: "")
        What the site calls itself; empty if it has no name.
    """

    num_examples: int
    partition: int = -1
    partitions: int = 0
    held_out: tuple[int, ...] = ()
    site_name: str = ""

    def content(self) -> RecordDict:
        """Return the description as a reply carries it."""
        return RecordDict(
            {
                "metrics": MetricRecord(
                    {
                        "num-examples": self.num_examples,
                        "partition-id": self.partition,
                        "num-partitions": self.partitions,
                        "held-out": list(self.held_out),
                    }
                ),
                "site": ConfigRecord({"site-name": self.site_name}),
            }
        )

    @classmethod
    def received(cls, content: RecordDict, columns: int | None = None) -> ClientDescription:
        """Read what :meth:`content` wrote.

        Parameters
        ----------
        content : RecordDict
            The reply.
        columns : int, optional
            In how many columns held-out images are told, if they are; None: in any number.

        Raises
        ------
        InvalidContent
            If it is missing or impossible.
        """
        metrics = metrics_of(content, "metrics")
        try:
            num_examples, partition, partitions = (
                int(metrics[name])  # type: ignore[arg-type]
                for name in ("num-examples", "partition-id", "num-partitions")
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidContent("it sent no valid description of itself") from error
        if not 0 < num_examples < _MOST_SAMPLES:
            raise InvalidContent(f"it claims {num_examples} training samples")
        if partition >= _MOST_CLIENTS:
            raise InvalidContent(f"it claims partition-id {partition}")
        held_out = metrics.get("held-out", [])
        told = len(held_out) if isinstance(held_out, list) else 0
        if told > _MOST_CLASSES or (told and columns is not None and told != columns):
            raise InvalidContent(f"it claims held-out images of {told} classes")
        counts = whole_numbers(metrics, "held-out", told, _MOST_SAMPLES) if told else []
        site = content.config_records.get("site", ConfigRecord())
        name = printable(str(site.get("site-name", "")))[:_LONGEST_NAME].strip()
        return cls(num_examples, partition, partitions, tuple(counts), name)
