"""FedFTG (Zhang et al. 2022): a conditional generator, and a teacher weighted by class.

Generator and student play against each other, turn by turn, on fresh noise and classes y drawn from
the clients' labels. With α_k,y the share of client k among the real images of class y, the
generator takes one step on

    Σ_k α_k,y·CE(z_k(x), y) − λ_md·Σ_k α_k,y·JS(s(x), z_k(x)) + λ_dis·exp(−mean d(e)·d(x))

and the student several on KL(Σ_k α_k,y·softmax(z_k) || s).

Where this departs from the paper: it runs once after the last round, instead of after every round,
so that the generator is trained alone before the student begins; it takes one step on the sum over
clients, where the program takes one for each client; the discrepancy is the bounded Jensen-Shannon
divergence JS in place of KL(s || z_k); the student's step size falls along a cosine, because the
last model counts and not the best on a test set; the images lie within the pixels' range. It has no
term for BatchNorm's statistics, so models without BatchNorm will do.
"""

import torch
from torch import nn

from distillation.teachers import class_weighted, client_shares
from distillation.training import finite
from foundation.models import cpu_state, device_of
from foundation.seeds import INVERSION, LABELS, derived_seed
from foundation.settings import ConfigurationError
from foundation.settings.peers import FedFTGSettings
from foundation.wording import listed
from generation import draw_labels
from generation.generator import NOISE, Generator, class_weighted_losses, similarity

from .local_ensemble import local_ensemble, note_progress, refuse, student_of
from .method import Method, Settings, carry_out
from .trained import Trained

NAME = "fedftg"
# How often the student's progress is measured and written down.
_NOTES = 20


def run(trained: Trained, settings: Settings) -> None:
    """Have generator and student play, and offer the student; all label counts must be known."""
    carry_out(trained, "distil", lambda: _play(trained, settings), seconds=NAME)


def _suits(model: nn.Module, settings: Settings) -> None:
    refuse(model, settings, NAME, 0.0, "")
    if not settings.label_counts_told:
        raise ValueError(
            f"post-training={NAME} weighs local models by their clients' label counts, which "
            "label-counts=uniform keeps from the server: set label-counts to uploaded or noised"
        )


method = Method("fedftg", run, suits=_suits)


def _play(trained: Trained, settings: Settings) -> None:
    wanted, inputs = settings.section(FedFTGSettings), trained.inputs
    clients, ensemble = local_ensemble(trained)
    known = trained.label_counts() or {}
    if missing := [trained.names[c] for c in clients if not any(known.get(c, ()))]:
        raise ConfigurationError(
            f"post-training={NAME} needs every client's label counts; not known are those of "
            f"{listed(missing)}"
        )
    counts = torch.tensor([known[client] for client in clients])
    student = student_of(trained, wanted, steps=wanted.iterations, temperature=1.0)
    device = device_of(student.model)
    generator = Generator(
        inputs.shape,
        wanted.width,
        inputs.pixel_range,
        classes=inputs.classes,
        seed=derived_seed(settings.seed, INVERSION),
    ).to(device)
    optimizer = torch.optim.Adam(generator.parameters(), wanted.generator_learning_rate)
    draw = torch.Generator().manual_seed(derived_seed(settings.seed, INVERSION, 1))
    progress = trained.progress(NAME, "turns")
    for turn in range(1 - wanted.warm_up, wanted.iterations + 1):
        labels = draw_labels(
            wanted.batch_size,
            counts.sum(dim=0).tolist(),
            derived_seed(settings.seed, LABELS, turn + wanted.warm_up),
        )
        shares, labels = client_shares(counts, labels).T.to(device), labels.to(device)
        noise = torch.randn((len(labels), NOISE), generator=draw).to(device)
        images = generator(noise, labels)
        with student.consulted() as model:
            entropy, discrepancy = class_weighted_losses(
                ensemble.answers(images), model(images), labels, shares
            )
        loss = (
            entropy
            - wanted.discrepancy_weight * discrepancy
            + wanted.diversity_weight * similarity(noise, images)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if turn < 1:
            continue
        with torch.no_grad():
            images = generator(noise, labels)
            answers = ensemble.answers(images).unbind(dim=1)
            teacher = class_weighted(answers, counts, labels.cpu())
        for _ in range(wanted.student_steps):
            learned = student.learn(images, teacher)
        student.follow_schedule()
        progress(turn, wanted.iterations)
        if turn % max(1, wanted.iterations // _NOTES) == 0:
            note_progress(trained, NAME, student, turn, finite(learned.item()), loss.item())
    finite(learned.item())
    trained.offer(NAME, cpu_state(student.model))
