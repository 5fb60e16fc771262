"""What a post-training method sees of a federation that has been trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from foundation.errors import log
from foundation.events.family import Event, ImagesMade, failures_of
from foundation.models import State, load_state
from foundation.processes import Workers
from generation import Generation, InversionSettings, PixelRange, PseudoData, generate
from questions import Request

P = TypeVar("P")


@dataclass(frozen=True)
class PseudoRequest:
    """A batch of pseudo images to make by inverting local models; all randomness is ``seed``'s.

    Parameters
    ----------
    kind : str
        ``"common"`` samples, or ``"hard"`` ones, on which local and global model disagree. Clients
        that make images themselves know the inversion's settings of either kind.
    repetition, batch : int
        Which repetition of the competition loop wants them, 0 for common samples, and which of its
        batches it is, from 0 on.
    budgets : Mapping[int, int]
        Images wanted of each client, 0 or more.
    label_weights : Mapping[int, sequence of float], optional
        (classes,) by client, what its images' classes are drawn in the shares of; None: each
        client's label counts, or evenly where those are not known.
    """

    kind: str
    repetition: int
    batch: int
    budgets: Mapping[int, int]
    inversion: InversionSettings
    seed: int
    label_weights: Mapping[int, Sequence[float]] | None = None

    @property
    def competes(self) -> bool:
        """Whether images are to tell the local model from the global one."""
        return self.inversion.competition_weight > 0

    def event(self, made: Generation, seconds: float, names: Mapping[int, str]) -> ImagesMade:
        """Say what came of it; ``names`` are the clients'."""
        return ImagesMade(
            self.kind,
            self.repetition,
            self.batch,
            len(made.data),
            self.inversion.iterations,
            made.objective,
            seconds,
            failures=failures_of(made.failures, names),
        )


@dataclass(frozen=True)
class Inputs:
    """The ``shape`` (C, H, W) of what the models take, and how many classes they tell apart.

    ``pixel_range`` is the lowest and highest value of a real pixel, for each channel, in the
    models' input space; None: not known, or not to be kept to.
    """

    shape: tuple[int, int, int]
    classes: int
    pixel_range: PixelRange | None = None


class ReadWhenAsked(Mapping[int, State]):
    """Local models of some clients, one in memory at a time: there may be a thousand."""

    def __init__(self, clients: Sequence[int], read: Callable[[int], State]) -> None:
        self._clients, self._read = clients, read

    def __getitem__(self, client: int) -> State:
        if client not in self._clients:
            raise KeyError(client)
        return self._read(client)

    def __iter__(self) -> Iterator[int]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)


class PseudoStore(Protocol):
    """Pseudo images by the step that made them; a dict is one."""

    def __getitem__(self, step: str) -> PseudoData: ...

    def __setitem__(self, step: str, data: PseudoData) -> None: ...


class Trained(Protocol):
    """A trained federation, as a method sees it.

    A run of this app offers it over its clients, files and checkpoints;
    :class:`post_training.library.TrainedModels` offers it over plain state dictionaries.
    Clients are named by their index.
    """

    @property
    def global_state(self) -> State:
        """The current global model: the federated one, or what was taken of :meth:`offer` since."""

    def model(self, state: State) -> nn.Module:
        """Return a new model that holds ``state``, in evaluation mode, on the device to work on."""

    @property
    def inputs(self) -> Inputs:
        """What the models take."""

    @property
    def local_models(self) -> Mapping[int, State]:
        """The last round's local models by client; a state is read when it is asked for.

        There may be a thousand: read one at a time.
        """

    @property
    def names(self) -> Mapping[int, str]:
        """What messages call every client in :attr:`local_models`."""

    @property
    def num_examples(self) -> Mapping[int, int]:
        """Training samples n_i of every client in :attr:`local_models`."""

    def label_counts(self) -> Mapping[int, list[int]] | None:
        """Return (classes,) training labels of the clients, without those who gave none.

        Asks the clients if that was not done before. None if the configuration has the server know
        none.
        """

    def ask(self, request: Request[Any, P]) -> P | None:
        """Ask the clients a question of :mod:`questions`, and pool their answers.

        None if nobody can answer, or the configuration keeps from the server what is asked for.
        """

    def evaluate(self, state: State, stage: str) -> float | None:
        """Measure the accuracy of a model on the way to a stage's result, 0 to 1.

        For reports alone: nothing may be chosen by it. None where there is no test set.
        """

    def round(self) -> bool:
        """Run one more federated round from the global model; False if there are no clients.

        Afterwards :attr:`global_state` and :attr:`local_models` are those of that round.
        """

    def pseudo_images(self, request: PseudoRequest) -> PseudoData:
        """Make pseudo images, here or on the clients; RuntimeError if none could be made."""

    @property
    def store(self) -> PseudoStore:
        """Pseudo images by the step that made them; in a run, on disk, and there on resuming."""

    def record(self, event: Event) -> None:
        """Say what happened, for the log, sinks and reports."""

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        """Return a function that shows progress, called with (done, total) in ``unit``."""

    def timed(self, name: str) -> AbstractContextManager[None]:
        """Add the time spent inside to what the method spent on ``name``."""

    def done(self, step: str) -> bool:
        """Tell whether a step was completed, now or before the run was resumed."""

    def commit(self, step: str) -> None:
        """Make a finished step durable: a run that is killed now goes on behind it."""

    def offer(
        self, stage: str, state: State, *, needs_proof: bool = True, whole: bool = False
    ) -> None:
        """Hand over the result of a stage.

        It is measured, and judged where there is a judge; what is taken becomes
        :attr:`global_state`, from which the method goes on.

        Parameters
        ----------
        needs_proof : bool (default: True)
            False for a step that was seen to help, or to change little, wherever it was tried: then
            judges keep it unless their images speak against it, not only if they speak for it.
        whole : bool (default: False)
            Whether it is kept as it is or not at all, as a head in closed form: there is no reason
            for a model between the one before and it.
        """


def inverted(
    trained: Trained,
    request: PseudoRequest,
    device: str | torch.device,
    workers: Workers | None = None,
) -> Generation:
    """Make pseudo images here, in this process or in processes beside it."""
    local_models, shell = trained.local_models, trained.model(trained.global_state)
    weights: Mapping[int, Sequence[float]] | None = request.label_weights
    if weights is None:
        weights = trained.label_counts()
        for client, images in request.budgets.items():
            if images and weights is not None and client not in weights:
                name = trained.names[client]
                log.warning("%s gave no label counts: its pseudo images are of all classes", name)
    return generate(
        lambda client: load_state(shell, local_models[client]).eval(),
        budgets=request.budgets,
        label_counts=weights,
        image_shape=trained.inputs.shape,
        settings=request.inversion,
        classes=trained.inputs.classes,
        global_model=trained.model(trained.global_state) if request.competes else None,
        pixel_range=trained.inputs.pixel_range,
        seed=request.seed,
        device=device,
        progress=trained.progress(f"inversion of {request.kind} samples", "image-iterations"),
        workers=workers,
        names=trained.names,
    )
