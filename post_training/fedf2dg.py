"""FedF²DG (Zhao et al. 2024): generate, distil, and compete.

Common samples are inverted from every local model and distilled into the global one. Then, a number
of times: a federated round from the distilled model, hard samples on which local and global model
disagree, and distillation again.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from distillation import chosen_layers, distil, teachers, trained_parameters
from foundation.errors import log
from foundation.events.family import EpochDone, TeacherTaken
from foundation.models import cpu_state, device_of, load_state
from foundation.models.evaluation import predicted_logits
from foundation.seeds import DISTILLATION, GENERATION, derived_seed
from foundation.settings import ConfigurationError, Teacher
from foundation.settings.post_training import SMALLEST_PHOTOGRAPH
from generation import PseudoData, quality_losses
from post_training.method import Method, Settings, carry_out
from post_training.pseudo_order import order_images
from post_training.trained import Trained


def run(trained: Trained, settings: Settings) -> None:
    """Run those of the stages generate, distil and compete that the settings name."""
    common, competition = settings.generation, settings.competition
    if "generate" in settings.stages:
        for batch in range(common.batches):
            _generate(trained, settings, 0, batch)
    if "distil" in settings.stages:
        _distil(trained, settings, 0)
    if "compete" in settings.stages:
        for repetition in range(1, competition.rounds + 1):
            retrain = repetition == 1 or competition.retrain == "every"
            if retrain and not _train(trained, repetition):
                return
            for batch in range(competition.batches):
                _generate(trained, settings, repetition, batch)
            _distil(trained, settings, repetition)


method = Method(
    "fedf2dg",
    run,
    has_stages=True,
    suits=lambda model, settings: trained_parameters(model, settings.distillation.layers),
)


def _train(trained: Trained, repetition: int) -> bool:
    """Run one more federated round, from the distilled model; False if there are no clients.

    The competition ends there: hard samples of models that have learned nothing new made the
    distilled model worse wherever it was tried.
    """
    step = f"{_prefix(repetition)}train"
    if trained.done(step):
        return True
    with trained.timed("competition"):
        if not trained.round():
            log.info("there are no clients to train: no competition")
            return False
    trained.commit(step)
    return True


def _generate(trained: Trained, settings: Settings, repetition: int, batch: int) -> None:
    """Make one batch of common samples (repetition 0) or hard ones from the local models."""
    step = _images_step(repetition, batch)
    kind = "hard" if repetition else "common"

    def generate() -> None:
        examples = trained.num_examples
        losses = None
        if (before := _batch_before(trained, settings, repetition, batch)) is not None:
            global_model = trained.model(trained.global_state)
            clients = 1 + max(*examples, *before.sources.tolist())
            every = quality_losses(global_model, before, clients, device=device_of(global_model))
            losses = [every[client] for client in examples]
        trained.store[step] = order_images(
            trained,
            settings,
            kind,
            derived_seed(settings.seed, GENERATION, kind == "hard", repetition, batch),
            repetition=repetition,
            batch=batch,
            losses=losses,
        )

    carry_out(trained, step, generate, seconds="competition" if repetition else "generation")


def _distil(trained: Trained, settings: Settings, repetition: int) -> None:
    """Distil all pseudo images there are so far into the global model."""
    stage = "competed" if repetition else "distilled"

    def distil_all() -> None:
        data = PseudoData.concatenate(
            trained.store[step] for step in _images_steps(settings, repetition)
        )
        student = trained.model(trained.global_state)
        layers = chosen_layers(student, settings.distillation.layers, trained.inputs.shape[1:])
        clock = time.perf_counter()

        def after_epoch(epoch: int, model: nn.Module, loss: float) -> None:
            nonlocal clock
            accuracy = trained.evaluate(cpu_state(model), stage)
            now = time.perf_counter()
            trained.record(EpochDone(epoch, loss, accuracy, repetition, seconds=now - clock))
            clock = now

        result = distil(
            student,
            data.images,
            soft_labels(trained, data, settings.distillation.teacher, settings.prior_left),
            replace(settings.distillation, layers=layers),
            seed=derived_seed(settings.seed, DISTILLATION, repetition),
            device=device_of(student),
            progress=trained.progress("distillation", "images"),
            after_epoch=after_epoch,
        )
        log.info("%s model: made from %d pseudo images", stage, len(data))
        trained.offer(stage, cpu_state(result.model))

    carry_out(
        trained,
        f"{_prefix(repetition)}distil",
        distil_all,
        seconds="competition" if repetition else "distillation",
    )


def _prefix(repetition: int) -> str:
    return f"compete-{repetition:02d}-" if repetition else ""


def _images_step(repetition: int, batch: int) -> str:
    return f"{_prefix(repetition)}generate-{batch:02d}"


def _images_steps(settings: Settings, repetition: int) -> list[str]:
    """Return the steps whose images there are when a repetition distils, in their order."""
    steps = [_images_step(0, batch) for batch in range(settings.generation.batches)]
    for earlier in range(1, repetition + 1):
        steps += [_images_step(earlier, batch) for batch in range(settings.competition.batches)]
    return steps


def _batch_before(
    trained: Trained, settings: Settings, repetition: int, batch: int
) -> PseudoData | None:
    """Return the images made last, which the quality term of the budgets is measured on."""
    if repetition == batch == 0:
        return None
    steps = _images_steps(settings, repetition)
    return trained.store[steps[steps.index(_images_step(repetition, batch)) - 1]]


def soft_labels(
    trained: Trained, data: PseudoData, teacher: Teacher, prior_left: float = 1.0
) -> Tensor:
    """Return the teacher's logits for every image, (n, classes), on the CPU.

    Teachers are those of :mod:`distillation.teachers`; all but own and uniform need every client's
    label counts (ConfigurationError). The prior-corrected ensemble takes as much of the priors out
    as the images' labels show to be there, bounded by ``prior_left`` (see
    :class:`.method.Settings`). auto: prior-corrected where these counts are known and the images
    have 16 pixels a side or more, own elsewhere.
    """
    # The ensemble knows less of a tiny image than the model it came from (86.1 against 93.0 % on
    # one seed of the digits); on photographs of 32x32 it is the other way round (docs/lab).
    tiny = min(data.images.shape[2:]) < SMALLEST_PHOTOGRAPH
    if len(data) == 0 or teacher == "own" or (teacher == "auto" and tiny):
        return data.logits
    clients = list(trained.local_models)
    counts = None if teacher == "uniform" else _counts(trained, clients)
    if counts is None and teacher == "auto":
        log.info("teacher: each image's own model, as not all label counts are known")
        return data.logits
    if counts is None and teacher != "uniform":
        raise ConfigurationError(
            f"distillation.teacher = {teacher!r} needs every client's label counts, which the "
            "server does not know (label-counts, generation.place): choose own or uniform"
        )
    answers = _answers(trained, clients, data.images)
    if counts is None:
        return teachers.uniform(answers)
    if teacher == "class-weighted":
        return teachers.class_weighted(answers, counts, data.labels)
    if teacher == "masked":
        known = predicted_logits(trained.model(trained.global_state), data.images)
        return teachers.masked(data.logits, counts, _rows(clients, data.sources), known)
    mean, prior = teachers.uniform(answers), teachers.mean_log_prior(counts)
    strength = teachers.fitted_strength(
        mean, prior, data.labels, prior_left * teachers.LARGEST_STRENGTH
    )
    trained.record(TeacherTaken(len(clients), strength))
    return mean - strength * prior.to(mean)


def _counts(trained: Trained, clients: Sequence[int]) -> Tensor | None:
    known = trained.label_counts()
    rows = [(known or {}).get(client) for client in clients]
    if not rows or any(row is None or sum(row) == 0 for row in rows):
        return None
    return torch.tensor(rows)


def _rows(clients: Sequence[int], sources: Tensor) -> Tensor:
    """Return the place among ``clients`` of every image's source."""
    place = {client: row for row, client in enumerate(clients)}
    return torch.tensor([place[source] for source in sources.tolist()])


def _answers(trained: Trained, clients: Sequence[int], images: Tensor) -> Iterator[Tensor]:
    """Yield every local model's logits for all images, one model in memory at a time."""
    shell = trained.model(trained.global_state)
    for client in clients:
        load_state(shell, trained.local_models[client])
        yield predicted_logits(shell, images)
