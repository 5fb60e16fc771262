"""A tiny federation around the real code: only the clients' data and the model are made up.

Messages go through the app's own handlers, local training loop, grid and strategies, so that a
fixed point or an invariant that holds here holds for what users run.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message
from torch import Tensor, nn

from fedf2dg.simulation.local_grid import LocalGrid
from foundation.messages.gather import sort_replies
from foundation.models import State, StateLayout
from foundation.settings.configuration import RunConfiguration
from strategies import FederatedStrategy, get
from strategies.privacy import server_half
from tests import sampling
from tests.meeting import meeting

# The tensors are tiny: threads would only wait for each other. The variable is for processes that a
# test starts.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

Loss = Callable[[Tensor, Tensor], Tensor]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--all``."""
    parser.addoption("--all", action="store_true", help="carry out exhaustive sweeps as a whole")


def pytest_configure(config: pytest.Config) -> None:
    """Say how much of the sweeps is tried, before test modules are imported."""
    sampling.everything = bool(config.getoption("--all"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests, which may share a run, on one worker; start what takes longest first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


def half_squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """The loss of least squares: gradient Xᵀ(Xw - y)/n, Hessian XᵀX/n."""
    return 0.5 * (predictions - targets).square().mean()


class Linear(nn.Module):
    """Predicts ⟨image, w⟩; offers what the local loop needs of a classifier."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dimension, dtype=torch.float64))

    def embed(self, images: Tensor) -> Tensor:
        return images

    def classify(self, features: Tensor) -> Tensor:
        return features @ self.weight


@dataclass
class Client:
    """One client's data. Every step of an epoch sees all of it, so gradients have no noise.

    The server is told how many steps that makes: it believes no client.
    """

    images: Tensor
    targets: Tensor
    steps: int = 1

    @property
    def samples(self) -> int:
        return len(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def label_counts(self) -> np.ndarray:
        return np.array([len(self.targets)])

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.steps):
            yield self.images, self.targets


class OpenGrid(LocalGrid):
    """A grid whose nodes can leave and come, and whose replies can be touched on their way."""

    online: set[int] | None = None
    order: Callable[[list[int]], list[int]] = staticmethod(sorted)
    #: Takes the client index and its reply to a train message; None means the reply is lost.
    touch: Callable[[int, Message], Message | None] | None = None

    def get_node_ids(self) -> list[int]:
        nodes = super().get_node_ids()
        return self.order([n for n in nodes if self.online is None or n - 100 in self.online])

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = []
        for reply in super().send_and_receive(messages, timeout=timeout):
            if self.touch is not None and reply.metadata.message_type == "train":
                changed = self.touch(reply.metadata.src_node_id - 100, reply)
                replies += [] if changed is None else [changed]
            else:
                replies.append(reply)
        return replies


@dataclass
class Laboratory:
    """A federation that can be stepped round by round.

    ``strategy`` may be replaced by a new one (a restarted server); the clients stay.
    """

    configuration: RunConfiguration
    grid: OpenGrid
    model: nn.Module
    clients: Sequence[Client]
    state: State
    directory: Path
    strategy: FederatedStrategy = field(init=False)
    server_round: int = 0

    def round(self) -> State:
        """Run one round and return the new global state."""
        self.server_round += 1
        replies = self.grid.send_and_receive(self.messages())
        self.state = self.finish(replies)
        return self.state

    def messages(self) -> Iterator[Message]:
        """Begin a round, and return messages that are built one after the other."""
        strategy = self.strategy
        strategy.begin(self.server_round, self.state, self.grid)
        return (
            Message(strategy.content(self.server_round, ConfigRecord(), client), node, "train")
            for client, node in strategy.addresses.items()
            if node is not None
        )

    def finish(self, replies: Iterable[Message]) -> State:
        """Combine what came."""
        check = partial(self.strategy.checked, self.server_round)
        gathered = sort_replies(replies, self.strategy.addresses, check)
        return self.strategy.finish(self.server_round, gathered)

    def rounds(self, count: int) -> Tensor:
        """Run rounds and return the global weights."""
        for _ in range(count):
            self.round()
        return self.state["weight"]

    def new_strategy(self, name: str = "") -> FederatedStrategy:
        """Build a server half from nothing but the configuration and its directory."""
        half = get(name).server if name else server_half(self.configuration)
        strategy = half(
            self.configuration,
            StateLayout.of(self.model),
            self.directory,
            meeting(self.configuration.num_clients, self.configuration.node_timeout),
        )
        # Here, batches do not follow from the batch size: both sides know what they are.
        strategy.expected_steps = lambda client: (  # type: ignore[method-assign]
            self.configuration.local_epochs * self.clients[client].steps
        )
        return strategy


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded data out of the user's cache; processes that a test starts inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDF2DG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_is_drawn_or_synced() -> Iterator[None]:
    """Spare the runs in this process what takes longer than they do.

    The tests of reports draw them from made-up runs; runs that are looked at ask for
    :func:`drawn_reports`. No test pulls the plug, so no file has to be on the disk when it ends.
    """
    import fedf2dg.report.live as pages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "write_report", lambda directory: directory / "report.html")
        patch.setattr(pages, "pseudo_grid", lambda *given, **named: None)
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def drawn_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs in this process draw their report and the picture of their pseudo images."""
    import fedf2dg.report.live as pages
    from fedf2dg.report import pseudo_images, report

    monkeypatch.setattr(pages, "write_report", report.write_report)
    monkeypatch.setattr(pages, "pseudo_grid", pseudo_images.pseudo_grid)


@pytest.fixture
def laboratory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Laboratory]:
    """Return a function that builds a :class:`Laboratory`.

    Arguments: the clients, the loss, the model (default: linear, float64) and configuration keys
    in snake case.
    """
    import client_app.app as application
    import client_app.training as training

    def build(
        clients: Sequence[Client],
        loss: Loss = half_squared_error,
        model: nn.Module | None = None,
        **keys: Any,
    ) -> Laboratory:
        settings: dict[str, Any] = {
            "local-epochs": 1,
            "momentum": 0.0,
            "weight-decay": 0.0,
            "learning-rate": 0.1,
            "batch-size": 1,
            "num-clients": len(clients),
            **{name.replace("__", ".").replace("_", "-"): value for name, value in keys.items()},
        }
        configuration = RunConfiguration.parse(settings)
        shell = model or Linear(clients[0].images.shape[1])

        pool = Client(
            torch.cat([client.images for client in clients]),
            torch.cat([client.targets for client in clients]),
            clients[0].steps,
        )

        class TinySite:
            @staticmethod
            def of(given: RunConfiguration, node: Any, sent: Any, memory: Any) -> Any:
                index = node["partition-id"]
                return SimpleNamespace(
                    configuration=given,
                    partition_id=index,
                    num_partitions=given.num_clients,
                    memory=memory,
                    device=torch.device("cpu"),
                    data=lambda: clients[index],
                    held_out=lambda: SimpleNamespace(label_counts=lambda: []),
                    name="",
                    inputs=lambda pooled, autocast: pool if pooled else clients[index],
                    model=lambda: shell,
                    frozen=tuple,
                    description=SimpleNamespace(classes=2),
                    autocast=lambda: None,
                )

        monkeypatch.setattr(application, "Site", TinySite)
        monkeypatch.setitem(training.LOSSES, "cross-entropy", loss)
        directory = tmp_path / f"{configuration.strategy}-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        grid = OpenGrid(application.app, len(clients), configuration.flat())
        state = {name: value.detach().clone() for name, value in shell.state_dict().items()}
        laboratory = Laboratory(configuration, grid, shell, clients, state, directory)
        laboratory.strategy = laboratory.new_strategy()
        return laboratory

    return build


@pytest.fixture
def make_client() -> type[Client]:
    """Return the class of a made-up client: images, targets, steps per epoch."""
    return Client


@pytest.fixture
def curved_clients() -> list[Client]:
    """Return four least-squares clients with different n_i, curvature, minimum and steps.

    Their Hessians' eigenvalues lie between 0.7 and 1.8: convergence takes tens of rounds.
    """
    draw = np.random.default_rng(7)
    dimension, clients = 3, []
    for samples, steps in ((12, 3), (7, 2), (30, 7), (19, 4)):
        images = draw.standard_normal((samples, dimension))
        left, _, right = np.linalg.svd(images, full_matrices=False)
        curvature = draw.uniform(0.7, 1.8, dimension)
        images = left @ np.diag(np.sqrt(samples * curvature)) @ right
        targets = images @ draw.normal(0.0, 2.0, dimension) + draw.standard_normal(samples)
        clients.append(Client(torch.from_numpy(images), torch.from_numpy(targets), steps))
    return clients


@pytest.fixture
def minimiser() -> Callable[..., Tensor]:
    """Return the function that solves for w* of Σ p_i·f_i + (λ/2)‖w‖² by linear algebra."""

    def solve(clients: Sequence[Client], weight_decay: float = 0.0) -> Tensor:
        total = sum(client.samples for client in clients)
        dimension = clients[0].images.shape[1]
        # p_i·XᵀX/n_i = XᵀX/n: pooled least squares.
        images = torch.cat([client.images for client in clients])
        targets = torch.cat([client.targets for client in clients])
        hessian = images.T @ images / total + weight_decay * torch.eye(dimension).double()
        return torch.linalg.solve(hessian, images.T @ targets / total)

    return solve


@pytest.fixture
def app_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """Return pytest's log capture, hearing the logger that Flower does not pass on."""
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    caplog.set_level(logging.INFO, logger="flwr.fedf2dg")
    return caplog
