"""Labelled images for federated learning: sources, partitions, noise and batches.

Knows nothing of Flower: plain arguments in, arrays and tensors out.

- `describe` and `load_split` give any data set by name, decoded once per machine.
- `client_data` gives a simulated client its part; `site_data` a real site its own files.
- `partition` divides labels over clients.
- `Batches` trains on a client's images: resident on the device, augmented in batches.
"""

from .announced import announced, parsed_shape
from .batches import Batches
from .cache import cache_directory
from .clients import FOLDERS, client_data, client_indices, client_rows, site_data
from .errors import DataError, PartitionError
from .images import ImageData, Normalization
from .noise import FEATURE_NOISES, LABEL_NOISES, FeatureNoise, feature_noise, noisy_labels
from .partitions import PARTITIONS, partition, to_assignment
from .sources import (
    AUGMENTATIONS,
    OWN_SETS,
    Description,
    describe,
    has_split,
    load_split,
    sites_in,
)
from .stratification import stratified_split, stratified_subset

__all__ = [
    "AUGMENTATIONS",
    "FEATURE_NOISES",
    "FOLDERS",
    "LABEL_NOISES",
    "OWN_SETS",
    "PARTITIONS",
    "Batches",
    "DataError",
    "Description",
    "FeatureNoise",
    "ImageData",
    "Normalization",
    "PartitionError",
    "announced",
    "cache_directory",
    "client_data",
    "client_indices",
    "client_rows",
    "describe",
    "feature_noise",
    "has_split",
    "load_split",
    "noisy_labels",
    "parsed_shape",
    "partition",
    "site_data",
    "sites_in",
    "stratified_split",
    "stratified_subset",
    "to_assignment",
]
