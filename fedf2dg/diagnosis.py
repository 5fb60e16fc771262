"""What a federated model could gain after training, and what stands in the way.

Three ceilings, each with one thing in place of what a data-free method has: the *teacher* (what the
local models say together), the *head* (refitted on the clients' real images, the body as it is),
and the *images* (distillation from real images). The last two need the clients' images, which only
a simulation has: a diagnosis of the method, not a method.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillation import distil, teachers
from fedf2dg.report.tables import DIAGNOSIS
from foundation import write_whole
from foundation.errors import log
from foundation.models import Classifier, State, cpu_state, load_state, resolve_device
from foundation.models.classifier import LinearHead, head_name
from foundation.models.client_store import ClientStore
from foundation.models.evaluation import features_of, predicted_logits
from foundation.seeds import DISTILLATION, derived_seed
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app.checkpoints import Checkpoints
from server_app.images import description_of, normalized
from server_app.run_directory import settings_to_resume
from strategies import prior_left, shared_model

#: Most real images that a head is fitted on or that are distilled from.
MOST_IMAGES = 2000
# Shrinks the change of the head, so that the fit has one solution however well classes separate.
_PENALTY = 1e-3
_STEPS = 200


@dataclass(frozen=True)
class Ceiling:
    """The accuracy (0 to 1, on the server's test images) with one thing in another's place.

    ``part`` is ``"federated"``, ``"teacher"``, ``"head"`` or ``"images"``; ``simulation_only`` says
    that it took the clients' own images.
    """

    part: str
    what: str
    accuracy: float
    simulation_only: bool = False


def diagnose(directory: Path) -> list[Ceiling]:
    """Measure the ceilings of a run after its last federated round, and write them beside it.

    ConfigurationError if it is no directory of a run, it had no rounds, or its server has no test
    images;
    CheckpointError if the models of the last round are not there.
    """
    trained = _Trained(directory)
    found = list(_ceilings(trained))
    content = {"images": len(trained.test_labels), "ceilings": [asdict(entry) for entry in found]}
    write_whole(directory / DIAGNOSIS, json.dumps(content, indent=1) + "\n")
    return found


def _ceilings(trained: "_Trained") -> Iterator[Ceiling]:
    model, counts = trained.model(trained.global_state), trained.label_counts

    def corrected(answers: list[Tensor], counts: Tensor) -> Tensor:
        return teachers.prior_corrected(answers, counts, trained.prior_left)

    yield Ceiling("federated", "the federated model", trained.accuracy_of(model))
    logits = list(trained.answers(trained.test_images))
    together = {
        "logits": teachers.uniform(logits),
        "probabilities": torch.stack([values.softmax(dim=1) for values in logits]).mean(dim=0),
    }
    if counts is not None:
        together["logits, priors taken out"] = corrected(logits, counts)
    for of, mean in together.items():
        yield Ceiling("teacher", f"mean of the local models' {of}", trained.accuracy(mean))
    real = trained.real_images()
    if real is None:
        log.info("no clients' images here: head and images are not diagnosed")
        return
    images, labels, sources = real
    refit = load_state(model, refitted(model, images, labels))
    said = f"head refitted on {len(labels)} real images with their labels"
    yield Ceiling("head", said, trained.accuracy_of(refit), simulation_only=True)
    answers = list(trained.answers(images))
    lessons = {"each image's own model": teachers.own(answers, sources)}
    if counts is None:
        lessons["the mean of the logits"] = teachers.uniform(answers)
    else:
        lessons["the mean of the logits, priors taken out"] = corrected(answers, counts)
    for number, (teacher, lesson) in enumerate(lessons.items()):
        student = trained.model(trained.global_state)
        result = distil(
            student,
            images,
            lesson,
            trained.configuration.distillation,
            seed=derived_seed(trained.configuration.seed, DISTILLATION, number),
            device=trained.device,
        )
        yield Ceiling(
            "images",
            f"distilled from {len(labels)} real images, teacher: {teacher}",
            trained.accuracy_of(result.model.to(trained.device)),
            simulation_only=True,
        )


def refitted(model: nn.Module, images: Tensor, labels: Tensor) -> State:
    """Return the model's state with its last linear layer fitted to labelled images.

    Minimises cross-entropy + λ·‖change of the layer‖² over weight and bias, which is convex; the
    features stay what they are. The model is in evaluation mode, ``images`` (n, C, H, W) in its
    input space, ``labels`` (n,) int64.
    """
    state, name = cpu_state(model), head_name(model)
    old = LinearHead.of(state, name)
    features = features_of(model, images).double()
    start = torch.cat([old.weight, old.bias[:, None]], dim=1)
    design = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    change = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [change], max_iter=_STEPS, tolerance_grad=1e-8, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(design @ (start + change).T, labels)
        loss = loss + _PENALTY * change.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    fitted = (start + change).detach()
    return LinearHead(fitted[:, :-1], fitted[:, -1]).put_into(state, name)


class _Trained:
    """A run's models after its last federated round, and the images to measure them on."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "config.json").is_file():
            raise ConfigurationError(f"{directory} is not the directory of a run")
        settings = settings_to_resume(directory)
        self.configuration = RunConfiguration.parse(
            {**settings, "stages": "generate", "resume-from": str(directory), "output-dir": ""}
        )
        configuration = self.configuration
        if not configuration.data_set.has("test"):
            raise ConfigurationError(
                f"the server of {directory} has no test images: nothing can be measured here"
            )
        if configuration.num_server_rounds == 0:
            raise ConfigurationError(
                f"{directory} had no rounds: there are no local models to measure"
            )
        loaded = Checkpoints(directory / "checkpoints", configuration).load(("generate",))
        assert loaded is not None, "a run that starts behind training starts from a checkpoint"
        self.global_state = loaded.global_state
        self._store = ClientStore(directory / "checkpoints" / "local_models")
        self._store.declare(loaded.versions["local_models"])
        self._description = normalized(description_of(configuration), loaded.normalization)
        self.device = resolve_device(configuration.device)
        test = configuration.data_set.load("test")
        self.test_images = self._normalized(test.images)
        self.test_labels = torch.tensor(test.labels)
        self.label_counts = self._counts(loaded.label_counts)
        self.prior_left = prior_left(configuration)

    def model(self, state: State) -> Classifier:
        """Return a new model that holds a state, in evaluation mode."""
        model = shared_model(self.configuration, self._description)
        load_state(model, state)
        return model.to(self.device).eval()

    def answers(self, images: Tensor) -> Iterator[Tensor]:
        """Yield every local model's logits, one model in memory at a time."""
        for client in self._store.versions:
            yield predicted_logits(self.model(self._store.read(client)), images)

    def accuracy(self, scores: Tensor) -> float:
        """Return how often the largest score on the test images is right."""
        return float((scores.argmax(dim=1) == self.test_labels).double().mean())

    def accuracy_of(self, model: nn.Module) -> float:
        """Return a model's accuracy on the test images."""
        return self.accuracy(predicted_logits(model.eval(), self.test_images))

    def real_images(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a sample of the clients' training images, their labels, and whose they are.

        The last are places among the local models. None where the images are not here.
        """
        configuration = self.configuration
        if not configuration.data_set.has("train"):
            return None
        rows, sources = [], []
        for place, client in enumerate(self._store.versions):
            own, _ = configuration.division.rows(client)
            rows.append(own)
            sources.append(np.full(len(own), place))
        every, whose = np.concatenate(rows), np.concatenate(sources)
        draw = np.random.default_rng(derived_seed(configuration.seed, DISTILLATION))
        taken = draw.permutation(len(every))[:MOST_IMAGES]
        data = configuration.data_set.load("train")
        return (
            self._normalized(data.images[every[taken]]),
            torch.tensor(data.labels[every[taken]]),
            torch.tensor(whose[taken]),
        )

    def _normalized(self, images: Any) -> Tensor:
        return self._description.normalization.apply(torch.tensor(images))

    def _counts(self, told: Mapping[str, Mapping[str, Any]]) -> Tensor | None:
        """Return the label counts that the clients gave, (clients, classes), if all did."""
        for counts in told.values():
            table = [counts.get(str(client)) for client in self._store.versions]
            if all(row and sum(row) for row in table):
                return torch.tensor(table)
        return None
