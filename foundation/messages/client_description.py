"""What a client says of itself when it joins, checked before it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from foundation.messages.numbers import metrics_of, whole_numbers
from foundation.messages.pixel_sums import PixelSums
from foundation.messages.reasons import printable
from foundation.messages.records import InvalidContent

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
    label_counts : tuple of int (default: ())
        Training images by class, where the server may know them exactly: a message of its own
        would cost the client's site another process. Empty if it did not say.
    pixels : PixelSums, optional
        What its images' pixels add up to, where they are to be normalised by that.
    """

    num_examples: int
    partition: int = -1
    partitions: int = 0
    held_out: tuple[int, ...] = ()
    site_name: str = ""
    label_counts: tuple[int, ...] = ()
    pixels: PixelSums | None = None

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
                        **({"label-counts": list(self.label_counts)} if self.label_counts else {}),
                        **(self.pixels.metrics() if self.pixels else {}),
                    }
                ),
                "site": ConfigRecord({"site-name": self.site_name}),
            }
        )

    @classmethod
    def received(
        cls,
        content: RecordDict,
        columns: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> ClientDescription:
        """Read what :meth:`content` wrote.

        Parameters
        ----------
        content : RecordDict
            The reply.
        columns : int, optional
            In how many columns images are told by class, if they are; None: in any number.
        image_shape : (C, H, W), optional
            Of the images whose pixels were to be added up; None: no sums are read.

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
        held_out = _by_class(metrics, "held-out", columns)
        labels = _by_class(metrics, "label-counts", columns)
        if labels and sum(labels) != num_examples:
            raise InvalidContent(
                f"its label counts sum to {sum(labels)}, but it claims {num_examples} images"
            )
        site = content.config_records.get("site", ConfigRecord())
        name = printable(str(site.get("site-name", "")))[:_LONGEST_NAME].strip()
        pixels = None
        if image_shape is not None:
            channels, height, width = image_shape
            pixels = PixelSums.received(metrics, num_examples * height * width, channels)
        return cls(num_examples, partition, partitions, held_out, name, labels, pixels)


def _by_class(metrics: MetricRecord, name: str, columns: int | None) -> tuple[int, ...]:
    """Return images by class; empty if they are not told."""
    values = metrics.get(name, [])
    told = len(values) if isinstance(values, list) else 0
    if told > _MOST_CLASSES or (told and columns is not None and told != columns):
        raise InvalidContent(f"it claims {name} of {told} classes")
    return tuple(whole_numbers(metrics, name, told, _MOST_SAMPLES)) if told else ()
