"""What a question is: a client's half, a server's half, and the little that each sees of its side.

Neither half knows Flower. They write :class:`~foundation.messages.content.Content`, and read
:class:`~foundation.messages.content.Received`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

from foundation.data import Batches, Description, ImageData
from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant, Participants
from foundation.models import Classifier, State
from foundation.models.client_store import SiteFolder
from foundation.models.evaluation import LabelledImages
from foundation.settings.configuration import RunConfiguration

A = TypeVar("A")
P = TypeVar("P")


@dataclass(frozen=True)
class Site(ABC):
    """A client's place, as its half of a question sees it."""

    #: The run's settings.
    configuration: RunConfiguration
    #: What the federation agreed on about its images.
    description: Description
    #: Which of how many simulated clients this is; -1 and 0 for a real one.
    partition_id: int
    num_partitions: int
    #: What the site calls itself; empty if it has no name.
    name: str
    #: Where to compute.
    device: torch.device
    #: What the node remembers of this run; lost when its SuperNode restarts.
    memory: MutableMapping[str, Any] = field(default_factory=dict, compare=False)
    #: Where it keeps layers of its own.
    folder: SiteFolder = field(default=SiteFolder(Path()), compare=False)

    @abstractmethod
    def own_batch_norm(self) -> State:
        """Return the BatchNorm layers that its last round left it; empty if there was none."""

    @abstractmethod
    def data(self) -> ImageData:
        """Return the training images."""

    @abstractmethod
    def inputs(
        self, pooled: bool = False, autocast: torch.dtype | None = None, ordered: bool = False
    ) -> Batches:
        """Return them, on the device, as the resident model takes them: maybe as features."""

    @abstractmethod
    def held_out(self) -> ImageData:
        """Return the images that only judge models; maybe none."""

    @abstractmethod
    def judging_images(self) -> LabelledImages:
        """Return the held-out images, resident on the device."""

    @abstractmethod
    def train_alone(self, server_round: int, client: int) -> None:
        """Train the resident model for a round on the training images, as ``strategy=local``."""

    @abstractmethod
    def model(self) -> Classifier:
        """Return the process's model, whose weights the caller overwrites."""


@dataclass(frozen=True)
class Question:
    """What a file of this folder declares: the client's half, for messages ``query.<name>``."""

    name: str
    tell: Callable[[Site, Received], Content]


class Request(ABC, Generic[A, P]):
    """The server's half: a question with all that it asks about.

    A is a client's answer, checked; P what the answers of all clients come to.
    """

    #: What is asked.
    asks: ClassVar[Question]
    #: Whether only those are asked that hold images out.
    of_judges: ClassVar[bool] = False
    #: For how many rounds a client works on its answer, and has time.
    rounds: int = 1

    def for_run(self, configuration: RunConfiguration, classes: int) -> Self | None:
        """Return the question as a run's settings let it be asked; None if they do not."""
        return self

    def clients(self, participants: Participants) -> list[int]:
        """Return whom to ask."""
        return participants.judges if self.of_judges else participants.clients

    def content(self) -> Content:
        """Return what every client is sent."""
        return Content()

    def content_for(self, client: int) -> Content:
        """Return what one client is sent beside it."""
        return Content()

    @abstractmethod
    def checked(self, who: Participant, reply: Received) -> A:
        """Return a client's answer; InvalidContent says what no honest client can have sent."""

    def outliers(self, answers: Mapping[int, A]) -> Mapping[int, str]:
        """Return why a client's answer, which passed, is of no use beside the others', if any."""
        return {}

    @abstractmethod
    def pooled(self, answers: Mapping[int, A]) -> P:
        """Return what the answers come to, by client in the order of the clients; maybe none."""
