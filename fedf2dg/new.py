"""``fedf2dg new NAME``: a Flower app of one's own, with a strategy, a model and data as examples.

It runs as it is written in both engines, with ``flwr run`` and on real sites. Its files are one
package, which travels in its bundle and is part of the fingerprint that clients compare.
"""

from __future__ import annotations

import keyword
from pathlib import Path

from foundation import ConfigurationError, whole_folder, write_whole

_FILES = {
    "pyproject.toml": """\
[project]
name = "{name}"
version = "0.1.0"
description = "A federated study with fedf2dg"
license = "Apache-2.0"
# fedf2dg itself is installed on every machine beforehand: see README.md.
dependencies = []

[tool.flwr.app]
publisher = "{name}"
# Code alone travels to the sites, whatever else lies in this folder.
fab-include = ["{package}/**/*.py"]

[tool.flwr.app.components]
serverapp = "{package}.server:app"
clientapp = "{package}.client:app"

# What a run is to do. `flwr run --run-config` changes keys that are written here, and
# `fedf2dg keys` prints all that there are.
[tool.flwr.app.config]
strategy = "{package}.strategy:damped"
model = "{package}.model:small_net"
dataset = "{package}.data:stripes"
num-clients = 4
partition = "dirichlet"
dirichlet-alpha = 0.5
num-server-rounds = 3
local-epochs = 2
post-training = "fedf2dg"
stages = "train,generate,distil"
data-dir = ""
output-dir = ""
seed = 0

[tool.flwr.app.config.damped]
step = 0.7

[tool.flwr.app.config.generation]
iterations = 50
images-per-client = 16

[tool.flwr.app.config.distillation]
epochs = 10
""",
    "README.md": """\
# {name}

A Flower app on fedf2dg, which has to be installed wherever it runs. In this folder:

```sh
fedf2dg simulate --config pyproject.toml --engine local
fedf2dg simulate --config pyproject.toml                 # through Flower and Ray
fedf2dg compare --config pyproject.toml strategy={package}.strategy:damped,fedavg seed=0..2
```

With Flower's own command, on this machine or on a SuperLink with real sites:

```sh
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
flwr run . --stream --federation-config "num-supernodes=4 client-resources-num-cpus=1"
```

| file | what to change |
|---|---|
| `pyproject.toml` | the keys of a run |
| `{package}/strategy.py` | what server and clients do in a round, and a setting of its own |
| `{package}/model.py` | the classifier |
| `{package}/data.py` | the images; sites with files of their own take `dataset=folder` instead |

A server and its clients compare these files before they train: sites that have others are refused.
""",
    "{package}/__init__.py": '"""What {name} adds to fedf2dg."""\n',
    "{package}/server.py": '''\
"""The server: that of fedf2dg."""

from fedf2dg import flower_server

app = flower_server.app
''',
    "{package}/client.py": '''\
"""A client: that of fedf2dg."""

from fedf2dg import flower_client

app = flower_client.app
''',
    "{package}/strategy.py": '''\
"""Federated averaging that goes a part of the way only, to bear clients that differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from foundation.models import State
from foundation.settings import Section, key
from strategies import Algorithm, FederatedStrategy, LocalUpdate


@dataclass(frozen=True)
class DampedSettings(Section, name="damped"):
    """The keys ``damped.…``."""

    step: float = key(
        0.5, "Step towards the clients' mean; 1 is plain averaging.", above=0.0, maximum=1.0
    )


class Damped(FederatedStrategy):
    """x + step·(mean - x)."""

    def aggregate(
        self, server_round: int, global_state: State, updates: Sequence[LocalUpdate]
    ) -> State:
        """Return the next global state."""
        mean = super().aggregate(server_round, global_state, updates)
        step = self.configuration.section(DampedSettings).step
        for name in self.layout.parameters:
            mean[name] = global_state[name] + step * (mean[name] - global_state[name])
        return mean


damped = Algorithm("damped", Damped, settings=DampedSettings)
''',
    "{package}/model.py": '''\
"""A small convolutional network."""

from torch import nn


def small_net(channels: int, image_size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Return an encoder of images, and how many features it gives; the head is added to it."""
    encoder = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return encoder, 32
''',
    "{package}/data.py": '''\
"""Stripes in three directions under noise: images that need no download."""

import numpy as np

from foundation.data import Collection, Source, in_memory

CLASSES = ("upright", "level", "slanted")


def _open(data_dir: str, class_names: tuple[str, ...]) -> Collection:
    draw = np.random.default_rng(0)
    labels = np.arange(600) % len(CLASSES)
    row, column = np.mgrid[:12, :12]
    waves = np.stack([column, row, row + column])[labels] + draw.uniform(0, 6, (600, 1, 1))
    noise = draw.normal(0, 80, waves.shape)
    images = np.clip(128 + 60 * np.sin(waves) + noise, 0, 255).astype(np.uint8)
    return in_memory("stripes", CLASSES, train=(images, labels))


stripes = Source("stripes", _open)
''',
}


def write_new(folder: Path) -> None:
    """Write an app into a new folder, whose name is the app's.

    Raises
    ------
    ConfigurationError
        If the folder is there, or its name can be no app's.
    """
    name = folder.resolve().name
    package = name.replace("-", "_")
    if not (package.isidentifier() and name == name.lower()) or keyword.iskeyword(package):
        raise ConfigurationError(
            f"{name!r} cannot be the name of an app: take lower-case letters, digits and hyphens, "
            "such as my-study"
        )
    if "_" in name or len(name) > 32:
        raise ConfigurationError(f"{name!r}: Flower takes up to 32 letters, and no underscore")
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already: name a new folder")
    with whole_folder(folder) as aside:
        for path, text in _FILES.items():
            target = aside / path.replace("{package}", package)
            write_whole(target, text.replace("{package}", package).replace("{name}", name))
