"""Labelled images for federated learning: sources, partitions, noise and batches.

`DataSet` gives any data set by name, decoded once per machine; `Division` gives a simulated client
its part of one, `site_data` a real site its own files; `Batches` trains on a client's images.
"""

from foundation.errors import DataError, PartitionError

from .agreement import Description, announced, parsed_shape
from .batches import Batches, as_seen
from .cache import cache_directory
from .collection import Collection, Source, in_memory
from .data_set import FOLDERS, DataSet, Division
from .images import ImageData, Normalization
from .noise import FeatureNoise, feature_noise, noisy_labels
from .partitions import (
    PARTITIONS,
    partition,
    stratified_split,
    stratified_subset,
    to_assignment,
)
from .sources.folder import site_data

__all__ = [
    "FOLDERS",
    "PARTITIONS",
    "Batches",
    "Collection",
    "DataError",
    "DataSet",
    "Description",
    "Division",
    "FeatureNoise",
    "ImageData",
    "Normalization",
    "PartitionError",
    "Source",
    "announced",
    "as_seen",
    "cache_directory",
    "feature_noise",
    "in_memory",
    "noisy_labels",
    "parsed_shape",
    "partition",
    "site_data",
    "stratified_split",
    "stratified_subset",
    "to_assignment",
]
