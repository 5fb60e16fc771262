"""FedMedian (Yin et al. 2018), as Flower implements it: the median, coordinate by coordinate."""

from __future__ import annotations

from flwr.serverapp.strategy import FedMedian

from .flower import from_flower

algorithm = from_flower("fedmedian", lambda _: FedMedian())
