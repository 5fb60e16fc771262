"""Labelled images for federated learning: sources, partitions, noise and batches.

`DataSet` gives any data set by name, decoded once per machine; `Division` gives a simulated client
its part of one, `site_data` a real site its own files; `Batches` trains on a client's images.
"""

from foundation.errors import DataError as DataError
from foundation.errors import PartitionError as PartitionError

from .agreement import Description as Description
from .agreement import announced as announced
from .agreement import parsed_shape as parsed_shape
from .batches import Batches as Batches
from .batches import as_seen as as_seen
from .cache import cache_directory as cache_directory
from .collection import Collection as Collection
from .collection import Source as Source
from .collection import in_memory as in_memory
from .data_set import FOLDERS as FOLDERS
from .data_set import DataSet as DataSet
from .data_set import Division as Division
from .images import ImageData as ImageData
from .images import Normalization as Normalization
from .noise import FeatureNoise as FeatureNoise
from .noise import feature_noise as feature_noise
from .noise import noisy_labels as noisy_labels
from .partitions import PARTITIONS as PARTITIONS
from .partitions import partition as partition
from .partitions import stratified_split as stratified_split
from .partitions import stratified_subset as stratified_subset
from .partitions import to_assignment as to_assignment
from .sources.folder import site_data as site_data
