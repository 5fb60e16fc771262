"""The clients of anybody's Flower app answer for :func:`fedf2dg.post_train`: C numbers each.

The server gives ``post_train(…, ask=AskClients(grid, strategy.kept, classes=C))``; the clients
answer the query ``predictions`` with :func:`tell_predictions`. C is the number of classes.
"""

from collections.abc import Iterable, Mapping

import torch
from flwr.app import RecordDict
from flwr.serverapp import Grid
from torch import Tensor, nn

from fedf2dg.kept_models import KeptModels
from foundation.errors import log
from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent
from foundation.models.class_statistics import ClassSums
from questions import Question
from questions.ask import ask_nodes
from questions.class_statistics import (
    PREDICTIONS,
    ClassStatistics,
    ClientStatistics,
    StatisticsRequest,
    tell,
)


@torch.inference_mode()
def tell_predictions(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> RecordDict:
    """Add up what a model predicts for a client's training images, and count their labels.

    Parameters
    ----------
    model : nn.Module
        Gives logits (n, C); left in evaluation mode.
    batches : iterable
        (images, labels) of all training images, once each and without augmentation, on the model's
        device; a data loader will do.

    Returns
    -------
    RecordDict
        The content of the reply: Σ softmax(z), (C,), and the number of images of each class.

    Raises
    ------
    ValueError
        If there is no image, or a batch is no pair of images and whole-numbered labels (n,).
    """
    model.eval()
    sums = counts = None
    for batch in batches:
        images, labels = _pair(batch)
        logits = model(images)
        _check_labels(labels, logits)
        probabilities = logits.double().softmax(dim=1)
        told = labels.bincount(minlength=logits.shape[1])
        sums = probabilities.sum(dim=0) + (0 if sums is None else sums)
        counts = told + (0 if counts is None else counts)
    if sums is None or counts is None:
        raise ValueError("this client has no training image to answer for")
    answer = ClientStatistics(int(counts.sum()), ClassSums(sums.cpu()), counts.tolist())
    return answer.content().records()


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        images, labels = batch
        if isinstance(images, Tensor) and isinstance(labels, Tensor):
            return images, labels
    raise ValueError(
        f"a batch must be a pair of tensors, (images, labels), and is a {type(batch).__name__}: "
        'of dictionaries, give ((b["image"], b["label"]) for b in loader)'
    )


def _check_labels(labels: Tensor, logits: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the model must give logits (n, C) of two classes or more, not {tuple(logits.shape)}"
        )
    classes = logits.shape[1]
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if whole and labels.shape == logits.shape[:1]:
        if not len(labels) or (int(labels.min()) >= 0 and int(labels.max()) < classes):
            return
        found = f"go from {int(labels.min())} to {int(labels.max())}"
    else:
        found = f"are {labels.dtype} of shape {tuple(labels.shape)}"
    raise ValueError(
        f"labels must be whole numbers from 0 to {classes - 1} of shape ({len(logits)},); "
        f"they {found}"
    )


class PredictionsRequest(StatisticsRequest):
    """Ask the clients of any Flower app: under tensors' own names, in one record."""

    asks = Question(PREDICTIONS, tell)

    def content(self) -> Content:
        """Return the model as Flower's strategies send it."""
        return Content({"arrays": self.state}, joined=False)

    def checked(self, who: Participant, reply: Received) -> ClientStatistics:
        """Hold an answer against what the client reported when it trained."""
        if (images := reply.whole_number("images", 1, 10**12)) != who.num_examples:
            raise InvalidContent(
                f"it answers for {images} images, and reported {who.num_examples} samples when it "
                "trained"
            )
        return super().checked(who, reply)


class AskClients:
    """Asks the clients whose models were kept, and adds up what they tell.

    Parameters
    ----------
    kept : KeptModels
        ``KeepLocalModels(…).kept``: whom to ask, and how many samples each has reported.
    classes : int
        C.
    timeout : float (default: 3600.0)
        Seconds after asking; clients that are not heard by then are left out.
    """

    def __init__(
        self, grid: Grid, kept: KeptModels, classes: int, *, timeout: float = 3600.0
    ) -> None:
        self._grid = grid
        self._num_examples: Mapping[int, int] = kept.num_examples
        self._timeout = timeout
        #: C, for who knows the model.
        self.classes = classes

    def __call__(self, request: StatisticsRequest) -> ClassStatistics | None:
        """Return sums over the clients that answered; None if none did, or for other questions."""
        if request.parts != [PREDICTIONS]:
            return None
        asked = PredictionsRequest(
            request.state, predictions=True, classes=self.classes, label_counts="exact"
        )
        connected = set(self._grid.get_node_ids())
        known = {node: Participant(node, node, n) for node, n in self._num_examples.items()}
        addresses = {node: node if node in connected else None for node in known}
        answers = ask_nodes(self._grid, asked, known, addresses, {}, self._timeout)
        if answers.failures:
            log.warning("predictions: %s", answers.who_failed)
        if not answers.valid:
            log.warning("predictions: no client has told any")
        return asked.pooled(answers.valid)
