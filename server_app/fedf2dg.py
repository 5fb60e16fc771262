"""FedF²DG after training (Zhao et al. 2024): generate, distil, and compete.

Common samples are inverted from every local model and distilled into the global one. Then, a number
of times: a federated round from the distilled model, hard samples on which local and global model
disagree, and distillation again.
"""

from __future__ import annotations

import logging
import time

from torch import nn

from distillation import DistillationSettings, distil
from generation import InversionSettings, PseudoData, budgets, generate, quality_losses
from models import Classifier, cpu_state, load_state
from reporting import pseudo_grid
from strategies.seeds import DISTILLATION, GENERATION, derived_seed

from .federation import Federation
from .progress import ProgressLog
from .pseudo_files import PseudoFiles

log = logging.getLogger("flwr.fedf2dg")


class FedF2DG:
    """The method's post-training hook."""

    def __call__(self, federation: Federation) -> None:
        """Run those of the stages generate, distil and compete that the configuration names."""
        _Transfer(federation).run()


class _Transfer:
    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.configuration = federation.configuration
        self.files = PseudoFiles(
            federation.directory / "pseudo_data", federation.description.normalization
        )

    def run(self) -> None:
        stages = self.configuration.stage_names
        if "generate" in stages:
            for batch in range(self.configuration.generation.batches):
                self._step(
                    f"generate-{batch:02d}", "generation", self._generate, "common", 0, batch
                )
        if "distil" in stages:
            self._step("distil", "distillation", self._distil, 0)
        if "compete" in stages:
            for repetition in range(1, self.configuration.competition.rounds + 1):
                self._compete(repetition)

    def _compete(self, repetition: int) -> None:
        settings = self.configuration.competition
        prefix = f"compete-{repetition:02d}"
        if repetition == 1 or settings.retrain == "every":
            self._step(f"{prefix}-train", "competition", self._retrain)
        for batch in range(settings.batches):
            self._step(
                f"{prefix}-generate-{batch:02d}",
                "competition",
                self._generate,
                "hard",
                repetition,
                batch,
            )
        self._step(f"{prefix}-distil", "competition", self._distil, repetition)

    def _step(self, step, seconds, work, *arguments) -> None:  # type: ignore[no-untyped-def]
        if self.federation.done(step):
            return
        with self.federation.timed(seconds):
            work(*arguments)
        self.federation.commit(step)

    # ------------------------------------------------------------------------------------- steps

    def _retrain(self) -> None:
        """Run one more federated round, from the distilled model."""
        last = max(self.federation.strategy.local_models.versions.values())
        self.federation.train_round(last + 1, "competition")

    def _generate(self, kind: str, repetition: int, batch: int) -> None:
        """Invert the local models of the last round into one batch of images."""
        federation, settings = self.federation, self.configuration.generation
        started = time.perf_counter()
        teachers = federation.strategy.last_local_models()
        participants = federation.participants
        examples = [participants[client].num_examples for client in teachers]
        global_model = federation.global_model()
        before = self._batch_before(kind, repetition, batch)
        losses = None
        if before is not None:
            every = quality_losses(
                global_model,
                before,
                max(participants.clients) + 1,
                device=federation.device,
            )
            losses = [every[client] for client in teachers]
        # The principle speaks of the clients whose models there are; the others get nothing.
        budget = [0] * (max(participants.clients) + 1)
        shared_out = budgets(settings.images_per_client * len(teachers), examples, losses)
        for client, images in zip(teachers, shared_out, strict=True):
            budget[client] = images
        counts = federation.label_counts()
        progress = ProgressLog(f"inversion of {kind} samples", "image-iterations")
        shell = federation.global_model()
        generated = generate(
            lambda client: _load(shell, federation, client),
            budgets=budget,
            label_counts=None if counts is None else _by_index(participants.clients, counts),
            image_shape=(
                federation.description.channels,
                *federation.description.image_size,
            ),
            settings=self._inversion(kind),
            classes=federation.description.classes,
            global_model=global_model if self._competition_weight(kind) > 0 else None,
            seed=derived_seed(
                self.configuration.seed, GENERATION, kind == "hard", repetition, batch
            ),
            device=federation.device,
            progress=progress,
        )
        seconds = time.perf_counter() - started
        self.files.write(kind, repetition, batch, generated.data)
        pseudo_grid(federation.directory, class_names=federation.description.class_names)
        federation.metrics.append(
            "generation",
            kind=kind,
            competition_round=repetition,
            batch=batch,
            budgets=budget,
            images=len(generated.data),
            iterations=settings.iterations,
            objective=generated.objective,
            seconds=seconds,
        )
        self._note_generation(len(generated.data), seconds)

    def _distil(self, repetition: int) -> None:
        """Distil all pseudo data there is so far into the global model."""
        federation, settings = self.federation, self.configuration.distillation
        data = PseudoData.concatenate(self._all_data(repetition))
        stage = "distilled" if repetition == 0 else "competed"
        progress = ProgressLog("distillation", "epochs")
        clock = time.perf_counter()

        def after_epoch(epoch: int, model: nn.Module, loss: float) -> None:
            nonlocal clock
            evaluation = federation.evaluator(model)
            federation.metrics.append(
                "distillation",
                competition_round=repetition,
                epoch=epoch,
                loss=loss,
                accuracy=evaluation.accuracy,
                seconds=time.perf_counter() - clock,
            )
            clock = time.perf_counter()
            federation.note_result(stage, evaluation.accuracy)

        result = distil(
            federation.global_model(),
            data.images,
            data.logits,
            DistillationSettings(
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                temperature=settings.temperature,
                weight=settings.weight,
            ),
            seed=derived_seed(self.configuration.seed, DISTILLATION, repetition),
            device=federation.device,
            progress=progress,
            after_epoch=after_epoch,
        )
        federation.set_global(cpu_state(result.model))
        evaluation = federation.close_stage(stage)
        log.info(
            "%s model: accuracy %.2f %% from %d pseudo images",
            stage,
            100 * evaluation.accuracy,
            len(data),
        )

    # ----------------------------------------------------------------------------------- details

    def _competition_weight(self, kind: str) -> float:
        if kind == "hard":
            return self.configuration.competition.weight
        return self.configuration.generation.competition_weight

    def _inversion(self, kind: str) -> InversionSettings:
        settings = self.configuration.generation
        return InversionSettings(
            iterations=settings.iterations,
            learning_rate=settings.learning_rate,
            tv_weight=settings.tv_weight,
            l2_weight=settings.l2_weight,
            bn_weight=settings.bn_weight,
            competition_weight=self._competition_weight(kind),
            form=settings.form,  # type: ignore[arg-type]
        )

    def _batch_before(self, kind: str, repetition: int, batch: int) -> PseudoData | None:
        if batch > 0:
            return self.files.read(kind, repetition, batch - 1)
        if repetition == 0:
            return None
        if repetition == 1:
            return self.files.read("common", 0, self.configuration.generation.batches - 1)
        return self.files.read("hard", repetition - 1, self.configuration.competition.batches - 1)

    def _all_data(self, repetition: int) -> list[PseudoData]:
        data = [
            self.files.read("common", 0, batch)
            for batch in range(self.configuration.generation.batches)
        ]
        for earlier in range(1, repetition + 1):
            for batch in range(self.configuration.competition.batches):
                data.append(self.files.read("hard", earlier, batch))
        return data

    def _note_generation(self, images: int, seconds: float) -> None:
        facts = self.federation.facts.setdefault("generation", {"images": 0, "seconds": 0.0})
        facts["images"] += images
        facts["seconds"] += seconds
        iterations = self.configuration.generation.iterations
        facts["iterations"] = iterations
        facts["image_iterations_per_second"] = facts["images"] * iterations / facts["seconds"]


def _load(shell: Classifier, federation: Federation, client: int) -> Classifier:
    load_state(shell, federation.strategy.local_models.read(client))
    return shell.eval()


def _by_index(clients: list[int], counts: list[list[int]]) -> list[list[int]]:
    """Spread the counts of the known clients over all indices; gaps are empty."""
    table = [[0] * len(counts[0]) for _ in range(max(clients) + 1)]
    for client, row in zip(clients, counts, strict=True):
        table[client] = row
    return table
