"""What does this model say of your training images? Sums of predictions and features by class.

Importable without Flower: post-training methods ask it.
"""

import hashlib
import secrets
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from foundation.errors import log
from foundation.messages.content import Content, Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent, template
from foundation.models import State, load_state
from foundation.models.class_statistics import ClassSums, class_sums, noised
from foundation.models.closed_form import FeatureSums
from foundation.settings.configuration import ConfigurationError, RunConfiguration

from .label_counts import shareable_counts
from .question import Question, Request, Site

#: What can be asked for, as :class:`~foundation.models.class_statistics.ClassSums` names it.
PARTS = PREDICTIONS, MEANS, MOMENT, CLASS_MOMENTS = (
    "predictions",
    "feature_sums",
    "moment",
    "class_moments",
)
# Relative; float32 probabilities add up to 1 within about 1e-6.
_TOLERANCE = 1e-4
# Sums of larger features over the clients could overflow in float32.
_LARGEST_FEATURE = 1e15
# Of a client's mean ‖f‖² in the median client's. Through one encoder, single photographs stay
# below 2.6, clients of few classes below 1.3 (docs/lab/2026-11-one-message.md).
_LARGEST_SIZE = 10.0


@dataclass(frozen=True)
class ClientStatistics:
    """One client's sums over its training images.

    Of its labels it tells what the run's settings let be known: counts, noised counts, or None.
    """

    images: int
    sums: ClassSums
    label_counts: list[int] | None = None

    def content(self, single: bool = False) -> Content:
        """Return them as an answer; of the symmetric moment a triangle, maybe in float32."""
        tensors = {part: getattr(self.sums, part) for part in PARTS}
        if (moment := self.sums.moment) is not None:
            rows, columns = torch.triu_indices(*moment.shape)
            triangle = moment[rows, columns]
            tensors[MOMENT] = triangle.float() if single else triangle
        counts = self.sums.feature_counts
        return Content(
            {"statistics": {part: value for part, value in tensors.items() if value is not None}},
            {
                "images": self.images,
                "label-counts": self.label_counts or [],
                "feature-counts": [] if counts is None else counts.tolist(),
            },
        )


@dataclass(frozen=True, kw_only=True)
class ClassStatistics(ClassSums):
    """Sums over the images of the clients that answered; the counts of features are float64.

    Only sums over clients are held, so that secure aggregation can make them. ``label_counts`` is
    (C,) float64, n_c, or None where clients do not tell. With feature sums comes ``mean_products``,
    (d, d) float64: Σ s·sᵀ/n over the ``means_added`` pairs of client and class, s being the sum of
    the features of n images.
    """

    clients: tuple[int, ...]
    images: int
    label_counts: Tensor | None = None
    mean_products: Tensor | None = None
    means_added: int = 0


def tell(site: Site, asked: Received) -> Content:
    """Add up what a model says of the training images, as far as the run's settings let be told.

    The same question has the same noise: the mean of many would have none.
    """
    configuration = site.configuration
    model = site.model()
    state = asked.state("arrays", model.state_dict())
    wish = asked.setting("statistics")
    parts = [str(part) for part in wish] if isinstance(wish, list) else []
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts:
        raise ConfigurationError(f"statistics {unknown or 'none'}: choose of {', '.join(PARTS)}")
    by_class = MEANS in parts or CLASS_MOMENTS in parts
    if by_class and not configuration.exact_counts_told:
        raise ConfigurationError(_kept_back(configuration))
    load_state(model, state)
    batches = site.inputs(ordered=True)
    sums = class_sums(
        model,
        batches.ordered(),
        torch.from_numpy(site.data().label_counts()),
        predictions=PREDICTIONS in parts,
        means=by_class,
        moment=MOMENT in parts,
        class_moments=CLASS_MOMENTS in parts,
        minimum=configuration.class_statistics_minimum,
    )
    if (scale := configuration.class_statistics_noise) > 0:
        sums = noised(sums, scale, torch.Generator().manual_seed(_noise_seed(site, state)))
    told = shareable_counts(site) if configuration.generation.place == "server" else None
    return ClientStatistics(batches.samples, sums, told).content(bool(asked.setting("single")))


def own_features(site: Site) -> tuple[FeatureSums, Tensor]:
    """Add up the resident model's features of the site's training images; nothing of it is told.

    The sums are of the classes that the site has images of; which these are, (C,) bool, comes with
    them.
    """
    counts = torch.from_numpy(site.data().label_counts())
    batches = site.inputs(ordered=True).ordered()
    sums = class_sums(site.model(), batches, counts, means=True, moment=True)
    assert sums.moment is not None and sums.feature_sums is not None
    known = counts > 0
    return FeatureSums(sums.moment, sums.feature_sums[known], counts[known]), known


def _kept_back(configuration: RunConfiguration) -> str:
    return (
        "class means show how many images of each class a client has, which label-counts="
        f"{configuration.label_counts} and generation.place={configuration.generation.place} keep "
        "from the server"
    )


def _noise_seed(site: Site, state: State) -> int:
    """Return a seed that depends on the model, and on what only this client knows in this run."""
    digest = hashlib.sha256(site.memory.setdefault("secret", secrets.token_bytes(16)))
    for value in state.values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "little") >> 1


question = Question("class_statistics", tell)


@dataclass(frozen=True)
class StatisticsRequest(Request[ClientStatistics, "ClassStatistics | None"]):
    """Ask what a model says of the clients' training images, in evaluation mode.

    ``predictions``, ``means``, ``moment`` and ``class_moments`` ask for the sum of its softmax
    outputs; of its features f by class; of f·fᵀ over all images; of f·fᵀ by class, which goes with
    ``means``. ``single`` has f·fᵀ sent in half the bytes; clients add up in double precision all
    the same.

    Answers are held against the rest, which a run fills in: the number of ``classes``, the
    ``minimum`` of images of a class whose features are added up, whether features are ``noised``,
    so that impossible sums are possible, and whether ``label_counts`` come along ("none", "noised",
    "exact").
    """

    state: State
    predictions: bool = False
    means: bool = False
    moment: bool = False
    class_moments: bool = False
    single: bool = False
    classes: int = 0
    minimum: int = 1
    noised: bool = False
    label_counts: str = "none"

    asks = question

    @property
    def parts(self) -> list[str]:
        """What is asked for, some of :data:`PARTS`."""
        wishes = (self.predictions, self.means, self.moment, self.class_moments)
        return [part for part, wish in zip(PARTS, wishes, strict=True) if wish]

    def for_run(self, configuration: RunConfiguration, classes: int) -> Self | None:
        if self.means and not configuration.exact_counts_told:
            log.warning("class means are not asked for: %s", _kept_back(configuration))
            return None
        exact, told = configuration.exact_counts_told, configuration.label_counts_told
        return replace(
            self,
            classes=classes,
            minimum=configuration.class_statistics_minimum,
            noised=configuration.class_statistics_noise > 0,
            label_counts="exact" if exact else "noised" if told else "none",
        )

    def content(self) -> Content:
        wish = {"statistics": self.parts, "single": self.single}
        return Content({"arrays": self.state}, settings=wish)

    def checked(self, who: Participant, reply: Received) -> ClientStatistics:
        images = reply.whole_number("images", 1, 2**62)
        if images != who.num_examples:
            raise InvalidContent(
                f"it answers for {images} images, but joined with {who.num_examples}"
            )
        state = reply.state("statistics", self._shapes())
        labels = self._checked_labels(reply, images)
        counts = self._checked_counts(reply, images, labels)
        if MOMENT in state:
            state[MOMENT] = _square(state[MOMENT])
        predictions, means, moment, class_moments = (state.get(part) for part in PARTS)
        sums = ClassSums(predictions, means, counts, moment, class_moments)
        _check_predictions(sums.predictions, images)
        for part, power in ((MEANS, 1), (MOMENT, 2), (CLASS_MOMENTS, 2)):
            if part in state and (state[part].abs() > images * _LARGEST_FEATURE**power).any():
                raise InvalidContent(f"{part!r} adds up features beyond {_LARGEST_FEATURE:g}")
        if not self.noised:
            _check_features(sums)
        return ClientStatistics(images, sums, labels)

    def _shapes(self) -> State:
        classes = self.classes
        features = self.state["head.weight"].shape[1] if self.parts != [PREDICTIONS] else 0
        shapes = {
            PREDICTIONS: (classes,),
            MEANS: (classes, features),
            MOMENT: (features * (features + 1) // 2,),
            CLASS_MOMENTS: (classes, features, features),
        }
        single = {MOMENT} if self.single else set()
        return {
            part: template(torch.float32 if part in single else torch.float64, *shapes[part])
            for part in self.parts
        }

    def _checked_labels(self, reply: Received, images: int) -> list[int] | None:
        if self.label_counts == "none":
            return None
        exact = self.label_counts == "exact"
        # Noise may make a count larger than it is.
        labels = reply.whole_numbers("label-counts", self.classes, images if exact else 10**10)
        if exact and sum(labels) != images:
            raise InvalidContent(f"the label counts sum to {sum(labels)} instead of {images}")
        return labels

    def _checked_counts(
        self, reply: Received, images: int, labels: list[int] | None
    ) -> Tensor | None:
        if not self.means:
            return None
        counts = reply.whole_numbers("feature-counts", self.classes, images)
        if any(0 < count < self.minimum for count in counts):
            raise InvalidContent(f"it adds up features of fewer than {self.minimum} images")
        own = labels if labels is not None and self.label_counts == "exact" else counts
        if sum(counts) > images or any(
            count not in (0, label) for count, label in zip(counts, own, strict=True)
        ):
            raise InvalidContent("it adds up features of other images than it has")
        return torch.tensor(counts)

    def outliers(self, answers: Mapping[int, ClientStatistics]) -> Mapping[int, str]:
        reason = (
            f"left out, its features are more than {_LARGEST_SIZE**0.5:.2g} times the size of the "
            "median client's, which one encoder does not make of photographs"
        )
        return dict.fromkeys(_inflated({c: a.sums for c, a in answers.items()}), reason)

    def pooled(self, answers: Mapping[int, ClientStatistics]) -> ClassStatistics | None:
        return added(tuple(answers), list(answers.values())) if answers else None


def _inflated(sums: Mapping[int, ClassSums]) -> list[int]:
    """Name those of three or more clients whose features would drown those of the others.

    Sums that fit each other pass every check of one client alone, whatever their scale.
    """
    sizes = {
        client: float(moment.trace() / counts.sum())
        for client, one in sums.items()
        if (counts := one.feature_counts) is not None and counts.any()
        if (moment := _mean_products(one) if one.moment is None else one.moment) is not None
    }
    if len(sizes) < 3:
        return []
    usual = statistics.median(sizes.values())
    return [client for client, size in sizes.items() if size > _LARGEST_SIZE * usual]


def _square(triangle: Tensor) -> Tensor:
    """Return the symmetric matrix (d, d) float64 whose upper triangle, row by row, is given."""
    size = int((2 * len(triangle)) ** 0.5)
    rows, columns = torch.triu_indices(size, size)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix[rows, columns] = matrix[columns, rows] = triangle.double()
    return matrix


def _check_predictions(predictions: Tensor | None, images: int) -> None:
    if predictions is None:
        return
    total = float(predictions.sum())
    if float(predictions.min()) < 0 or abs(total - images) > _TOLERANCE * images:
        raise InvalidContent(f"the predictions add up to {total:g} instead of {images}")


def _check_features(sums: ClassSums) -> None:
    counts, means = sums.feature_counts, sums.feature_sums
    if means is not None and counts is not None:
        if means[counts == 0].any():
            raise InvalidContent("it adds up features of a class that it leaves out")
        if sums.class_moments is not None and sums.class_moments[counts == 0].any():
            raise InvalidContent("it adds up products of a class that it leaves out")
    if sums.moment is not None:
        _check_spread(sums.moment, _mean_products(sums))
    if sums.class_moments is not None:
        outer = torch.zeros(())
        if means is not None and counts is not None:
            scaled = means / counts.clamp_min(1).unsqueeze(1)
            outer = means.unsqueeze(2) * scaled.unsqueeze(1)
        _check_spread(sums.class_moments, outer)


def _check_spread(moments: Tensor, of_means: Tensor | None) -> None:
    """Refuse second moments (…, d, d) below those of the means: squares add up to 0 or more."""
    diagonal = moments.diagonal(dim1=-2, dim2=-1)
    tolerance = 1e-6 * float(diagonal.abs().max())
    if not torch.allclose(moments, moments.mT, rtol=1e-6, atol=tolerance):
        raise InvalidContent("the second moment is not symmetric")
    within = moments if of_means is None else moments - of_means
    slack = 1e-6 * diagonal.abs().sum(dim=-1) + 1e-12
    shifted = within + slack[..., None, None] * torch.eye(moments.shape[-1])
    if torch.linalg.cholesky_ex(shifted).info.any():
        raise InvalidContent("the second moment is too small for the sums of features")


def added(clients: tuple[int, ...], parts: Sequence[ClientStatistics]) -> ClassStatistics:
    """Return the sums over at least one client."""
    labels = [torch.tensor(p.label_counts) for p in parts if p.label_counts is not None]
    sums = [part.sums for part in parts]
    counts = [part.feature_counts for part in sums if part.feature_counts is not None]
    told: dict[str, Any] = {part: _sum([getattr(one, part) for one in sums]) for part in PARTS}
    return ClassStatistics(
        clients=clients,
        images=sum(part.images for part in parts),
        label_counts=_sum(labels),
        **told,
        feature_counts=_sum(counts),
        mean_products=_sum([_mean_products(one) for one in sums]),
        means_added=sum(int((count > 0).sum()) for count in counts),
    )


def _mean_products(sums: ClassSums) -> Tensor | None:
    """Return Σ s·sᵀ/n over a client's classes, (d, d)."""
    if sums.feature_sums is None or sums.feature_counts is None:
        return None
    means = sums.feature_sums / sums.feature_counts.clamp_min(1).unsqueeze(1)
    return sums.feature_sums.T @ means


def _sum(tensors: Sequence[Tensor | None]) -> Tensor | None:
    given = [tensor.double() for tensor in tensors if tensor is not None]
    return torch.stack(given).sum(dim=0) if given else None
