"""A client's place: its data and its model, kept in the process for the next message."""

import hashlib
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

import questions
from foundation.data import Batches, Description, ImageData, as_seen, site_data
from foundation.data.agreement import from_values
from foundation.data.cache import cache_directory, stored_features
from foundation.models import (
    Classifier,
    State,
    StateLayout,
    fit_threads,
    resolve_device,
)
from foundation.models.client_store import SiteFolder, batch_norm_entries
from foundation.models.device import reduced_type
from foundation.models.evaluation import LabelledImages
from foundation.models.freezing import KeptFeatures, Store, encoder_is_frozen
from foundation.processes import cores, running, threads
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from generation import forward_operations
from strategies import get, shared_model

from .training import train_round

# Simulated clients share processes; a process keeps the batches of this many.
_resident = lru_cache(maxsize=64)

# Operations of an image's forward pass from which bfloat16 gains in local training. On a CPU,
# measured on one thread with AMX: a step on 8x8 images (1.5e6) loses 7 %, one on 32x32 images gains
# a factor of 1.9 (resnet8, 2.4e7) to 2.5 (resnet18, 1.1e9). On an H200, whose convolutions compute
# float32 in TF32, 64 images a step: resnet8 loses 8 %, resnet18 gains nothing (5.77 and 5.78 ms):
# starting the kernels takes the time. Larger models were not measured.
BFLOAT16_FROM = {"cpu": 1e7, "cuda": 2e9}


@dataclass(frozen=True)
class Site(questions.Site):
    """One client: who it is, its settings, and where it computes.

    ``data_path`` is a real client's; ``threads`` are what this node, or else the run, asks for, 0
    for its share of the processors; ``runs`` is what :meth:`.SiteFolder.after_rounds` takes.
    """

    data_path: str = ""
    threads: int = 0
    runs: dict[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        configuration: RunConfiguration,
        node_config: Mapping[str, Any],
        sent: Mapping[str, Any],
        memory: MutableMapping[str, Any] | None = None,
    ) -> Self:
        """Read who this client is, of its ``--node-config`` and of what the server's message says.

        ConfigurationError if the node names neither a partition nor data of its own.
        """
        data_path = str(node_config.get("data-path", ""))
        if not data_path and "partition-id" not in node_config:
            raise ConfigurationError(
                "this node has no data: start its SuperNode with --node-config "
                '"data-path=\'/path/to/images\'" or "partition-id=0 num-partitions=10"'
            )
        description = from_values(sent) or configuration.data_set.describe()
        return cls(
            configuration,
            description,
            int(node_config.get("partition-id", -1)),
            int(node_config.get("num-partitions", 0)),
            str(node_config.get("site-name", "")) or _own_name(configuration, node_config),
            resolve_device(configuration.device),
            {} if memory is None else memory,
            _folder(node_config, str(sent.get("sites-folder", ""))),
            data_path,
            _threads_of(node_config) or configuration.threads,
            dict(zip(sent.get("runs", ()), sent.get("last-rounds", ()), strict=True)),
        )

    @_resident
    def data(self) -> ImageData:
        if self.data_path:
            return self._own_data("train")
        return self.configuration.division.data(self.partition_id)

    @_resident
    def held_out(self) -> ImageData:
        if not self.data_path:
            return self.configuration.division.data(self.partition_id, "held-out")
        if self.configuration.validation_share == 0:
            return self.data().subset([])
        return self._own_data("test")

    def _own_data(self, split: str) -> ImageData:
        """Return a part of a real edge client's own files."""
        return site_data(
            self.data_path,
            split,
            like=self.description,
            site=f"site {self.name}",
            holdout=self.configuration.validation_share,
            leave_out_unreadable=self.configuration.data_set.leave_out_unreadable,
        )

    @_resident
    def judging_images(self) -> LabelledImages:
        data, normalization = self.held_out(), self.description.normalization
        # Copies: a site's own test images are memory-mapped and read-only.
        images, labels = torch.tensor(data.images), torch.tensor(data.labels)
        apply: Callable[[torch.Tensor], torch.Tensor] = normalization.apply
        if data.feature_noise is not None:  # which bytes cannot hold
            images, apply = as_seen(data, normalization), torch.clone
        return LabelledImages(images, labels, apply, self.device, self._feature_store(data))

    @_resident
    def batches(self, pooled: bool = False) -> Batches:
        """Return the client's training batches, on its device; ``pooled``: all clients'."""
        configuration, description = self.configuration, self.description
        return Batches(
            self._training_data(pooled),
            normalization=description.normalization,
            batch_size=configuration.batch_size,
            augmentation=configuration.augmentation_for(description.augmentation),
            device=self.device,
            channels_last=True,
            drop_singleton=self.model().has_batch_norm,
        )

    def _training_data(self, pooled: bool) -> ImageData:
        if pooled and self.data_path:
            raise ConfigurationError(
                "strategy = 'centralized' pools all data, which only a simulation can do: this "
                "client's data stays where it is"
            )
        return pooled_data(self.configuration) if pooled else self.data()

    def inputs(
        self, pooled: bool = False, autocast: torch.dtype | None = None, ordered: bool = False
    ) -> Batches:
        """Return the training batches as the resident model is to be given them.

        Where its encoder is frozen, these are of features, computed once: where images are the same
        in every epoch, or are gone through in their order (``ordered``), without augmentation.
        """
        batches, model = self.batches(pooled), self.model()
        if encoder_is_frozen(model) and (ordered or batches.steady):
            return batches.given(self._features(pooled).of(model, autocast))
        return batches

    def train_alone(self, server_round: int, client: int) -> None:
        autocast = self.autocast()
        train_round(
            self.model(),
            self.inputs(autocast=autocast),
            get("local"),
            self.configuration,
            server_round=server_round,
            client=client,
            classes=lambda: self.description.classes,
            autocast=autocast,
        )

    @_resident
    def _features(self, pooled: bool) -> KeptFeatures:
        batches, store = self.batches(pooled), self._feature_store(self._training_data(pooled))
        return KeptFeatures(lambda: (images for images, _ in batches.ordered()), store)

    def _feature_store(self, data: ImageData) -> Store | None:
        """Return where the features of images outlive the process, for a real client's next one.

        A trained encoder has others in every round, which nobody asks for again.
        """
        if not encoder_is_frozen(self.model()):
            return None
        pixels = hashlib.sha256(data.images.tobytes()).hexdigest()
        noise = "" if data.feature_noise is None else f" {data.feature_noise}"
        known = f"{pixels}{noise} {self.description.normalization} {self.device.type}"
        return lambda name, compute: stored_features(f"{known} {name}", compute)

    def own_batch_norm(self) -> State:
        names, state = batch_norm_entries(self.model()), self.model().state_dict()
        return self.folder.after_rounds(self.runs, {name: state[name] for name in names})

    def model(self) -> Classifier:
        return _resident_model(self.configuration, self.description, self.device, self.threads)[0]

    def frozen(self) -> tuple[str, ...]:
        """Return the names of the model's entries that are not trained."""
        return _resident_model(self.configuration, self.description, self.device, self.threads)[1]

    def autocast(self) -> torch.dtype | None:
        """Return the reduced type local training multiplies in; None: float32.

        A frozen encoder is run once, for training as for statistics and judgements, in float32.
        """
        if self.configuration.precision == "auto" and encoder_is_frozen(self.model()):
            return None
        operations = model_operations(self.configuration, self.description)
        return reduced_type(self.configuration.precision, self.device, operations, BFLOAT16_FROM)


def _own_name(configuration: RunConfiguration, node_config: Mapping[str, Any]) -> str:
    """Return the name of a client's folder; empty where a simulated client has none of its own."""
    if data_path := str(node_config.get("data-path", "")):
        return Path(data_path).name
    return dict(enumerate(configuration.data_set.sites())).get(int(node_config["partition-id"]), "")


def _folder(node_config: Mapping[str, Any], of_simulation: str) -> SiteFolder:
    """Return where this client keeps its own layers; a simulation's server names a folder here."""
    if given := str(node_config.get("keep-path", "")):
        return SiteFolder(Path(given))
    if data_path := str(node_config.get("data-path", "")):
        return SiteFolder.beside(Path(data_path))
    name = f"client-{int(node_config['partition-id']):05d}"
    if of_simulation and Path(of_simulation).is_dir():
        return SiteFolder(Path(of_simulation) / name)
    return SiteFolder(cache_directory() / "sites" / name)


def _threads_of(node_config: Mapping[str, Any]) -> int:
    wish = node_config.get("threads", 0)
    if not isinstance(wish, int) or wish < 0:
        raise ConfigurationError(
            f"--node-config threads = {wish!r} must be a whole number: CPU threads of this node's "
            "client, or 0 for its share of the processors"
        )
    return wish


def _share_of_threads() -> int:
    """Return the threads for one client's process: SuperNodes' clients train at the same time."""
    beside = max(1, running("flower-supernode"))
    return min(max(1, cores() // beside), threads())


def pooled_data(configuration: RunConfiguration) -> ImageData:
    """Return what all simulated clients hold together, wrong labels included, without noise."""
    parts = [configuration.division.data(client) for client in range(configuration.num_clients)]
    return ImageData(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].class_names,
    )


@lru_cache(maxsize=4)
def _resident_model(
    configuration: RunConfiguration, description: Description, device: torch.device, wish: int
) -> tuple[Classifier, tuple[str, ...]]:
    """Return the process's model, and the names of what it does not train."""
    model = shared_model(configuration, description).to(device)
    fit_threads(model_operations(configuration, description), _share_of_threads(), wish)
    model = model.to(memory_format=torch.channels_last)
    return model, StateLayout.of(model).frozen


@lru_cache(maxsize=4)
def model_operations(configuration: RunConfiguration, description: Description) -> float:
    """Return the floating-point operations of one image's forward pass."""
    return forward_operations(shared_model(configuration, description), description.image_shape)
