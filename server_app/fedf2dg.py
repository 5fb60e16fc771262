"""FedF²DG after training (Zhao et al. 2024): generate, distil, and compete.

Common samples are inverted from every local model and distilled into the global one. Then, a number
of times: a federated round from the distilled model, hard samples on which local and global model
disagree, and distillation again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from torch import nn

from distillation import DistillationSettings, Statistics, distil
from generation import InversionSettings, PseudoData, budgets, generate, quality_losses
from models import Classifier, cpu_state, load_state, size_in_bytes
from protocol.exchange import exchange
from protocol.participants import short_reason
from protocol.pixel_range import pixel_range
from protocol.records import InvalidContent, packed
from protocol.seeds import DISTILLATION, GENERATION, derived_seed
from reporting import pseudo_grid
from strategies import TooFewReplies
from strategies.server import grouped, refuse_dead_process

from .federation import Federation
from .progress import ProgressLog
from .pseudo_files import PseudoFiles
from .replies import PseudoReply, check_soft_labels, checked_pseudo_data

log = logging.getLogger("flwr.fedf2dg")


class FedF2DG:
    """The method's post-training hook."""

    def __call__(self, federation: Federation) -> None:
        """Run those of the stages generate, distil and compete that the configuration names."""
        _Transfer(federation).run()


@dataclass(frozen=True)
class _Batch:
    """One batch of images to make: how many from each client's model."""

    kind: str
    budget: list[int]
    seed: int
    global_model: Classifier


@dataclass(frozen=True)
class _Made:
    """A batch of images, and what it took."""

    data: PseudoData
    objective: float
    failures: dict[int, str] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0


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
        """Make one batch of images from the local models of the last round, here or there."""
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
        request = _Batch(
            kind,
            budget,
            derived_seed(self.configuration.seed, GENERATION, kind == "hard", repetition, batch),
            global_model,
        )
        here = settings.place == "server"
        made = self._invert(request) if here else self._ask_for_images(request)
        seconds = time.perf_counter() - started
        self.files.write(kind, repetition, batch, made.data)
        pseudo_grid(federation.directory, class_names=federation.description.class_names)
        federation.metrics.append(
            "generation",
            kind=kind,
            competition_round=repetition,
            batch=batch,
            place=settings.place,
            budgets=budget,
            images=len(made.data),
            iterations=settings.iterations,
            objective=made.objective,
            seconds=seconds,
            failures=[{"client": c, "reason": r} for c, r in sorted(made.failures.items())],
            bytes_down=made.bytes_down,
            bytes_up=made.bytes_up,
        )
        federation.facts["dropped"] = federation.facts.get("dropped", 0) + len(made.failures)
        self._note_generation(len(made.data), seconds)

    def _invert(self, batch: _Batch) -> _Made:
        """Invert the local models on the server."""
        federation = self.federation
        shell = federation.global_model()
        models = 2 if self._competes(batch.kind) else 1
        operations = 2.0 * models * federation.operations * sum(batch.budget)
        generated = generate(
            lambda client: _load(shell, federation, client),
            budgets=batch.budget,
            label_counts=self._label_counts(batch.budget),
            image_shape=(
                federation.description.channels,
                *federation.description.image_size,
            ),
            settings=InversionSettings(**self.configuration.inversion(batch.kind)),
            pixel_range=pixel_range(self.configuration, federation.description),
            classes=federation.description.classes,
            global_model=batch.global_model if self._competes(batch.kind) else None,
            seed=batch.seed,
            device=federation.device,
            progress=ProgressLog(f"inversion of {batch.kind} samples", "image-iterations"),
            workers=federation.workers(
                sum(images > 0 for images in batch.budget),
                operations * self.configuration.generation.iterations,
            ),
        )
        return _Made(generated.data, generated.objective)

    def _label_counts(self, budget: list[int]) -> list[list[int]] | None:
        """Return label counts by client index; those who have no images to make get none."""
        asked = [client for client, images in enumerate(budget) if images]
        counts = self.federation.label_counts(asked)
        if counts is None:
            return None
        table: list[list[int]] = [[]] * len(budget)
        for client, row in counts.items():
            if row is None:
                log.warning(
                    "client %d gave no label counts: its pseudo images are of all classes", client
                )
            table[client] = row or [1] * self.federation.description.classes
        return table

    def _ask_for_images(self, batch: _Batch) -> _Made:
        """Have the clients invert their models; one that fails has no images in this batch.

        Raises
        ------
        TooFewReplies
            If no client sent valid images; the message lists why.
        """
        federation = self.federation
        participants = federation.participants
        participants.refresh(federation.grid)
        competes = self._competes(batch.kind)
        global_record = packed(cpu_state(batch.global_model)) if competes else None
        model_bytes = size_in_bytes(federation.state.global_state.values())
        asked = [client for client, images in enumerate(batch.budget) if images]
        connected = [client for client in asked if client in set(participants.available)]
        messages = (_request(federation, client, batch, global_record) for client in connected)
        log.info("asking %d clients for %s samples", len(connected), batch.kind)
        parts: dict[int, PseudoReply] = {}
        failures: dict[int, str] = {}
        unnamed: list[str] = []
        progress = ProgressLog(f"inversion of {batch.kind} samples on the clients", "clients")
        timeout = self.configuration.round_timeout
        for reply in exchange(federation.grid, messages, timeout):
            client = participants.client_of(reply.metadata.src_node_id)
            if client is None or client not in connected or client in parts:
                if reply.has_error():
                    unnamed.append(short_reason(reply.error.reason))
                continue
            if reply.has_error():
                failures[client] = short_reason(reply.error.reason)
                continue
            try:
                parts[client] = self._checked_images(client, batch, reply)
            except InvalidContent as error:
                failures[client] = str(error)
            progress(len(parts) + len(failures), len(connected))
        for client in asked:
            if client not in connected:
                failures[client] = "its node is not connected"
            elif client not in parts and client not in failures:
                failures[client] = unnamed.pop() if unnamed else "no reply in time"
        for client, reason in sorted(failures.items()):
            log.warning("%s samples: client %d dropped: %s", batch.kind, client, reason)
        refuse_dead_process(failures.values())
        if not parts:
            raise TooFewReplies(
                f"no client generated valid {batch.kind} samples. {grouped(failures)}"
            )
        ordered = [parts[client] for client in sorted(parts)]
        data = PseudoData.concatenate(part.data for part in ordered)
        down = len(connected) * model_bytes * (2 if competes else 1)
        up = sum(part.bytes_up for part in ordered)
        federation.note_traffic("model", down=down)
        federation.note_traffic("pseudo data", up=up)
        objective = sum(part.objective * len(part.data) for part in ordered) / len(data)
        return _Made(data, objective, failures, down, up)

    def _checked_images(self, client: int, batch: _Batch, reply: Message) -> PseudoReply:
        """Check a client's images, and that its soft labels are what its model says of them."""
        description = self.federation.description
        part = checked_pseudo_data(
            reply.content,
            client=client,
            images=batch.budget[client],
            image_shape=(description.channels, *description.image_size),
            classes=description.classes,
        )
        teacher = self.federation.with_state(self.federation.strategy.local_models.read(client))
        check_soft_labels(part.data, teacher, self.federation.device)
        return part

    def _distil(self, repetition: int) -> None:
        """Distil all pseudo data there is so far into the global model."""
        federation, settings = self.federation, self.configuration.distillation
        data = PseudoData.concatenate(self._all_data(repetition))
        stage = "distilled" if repetition == 0 else "competed"
        progress = ProgressLog("distillation", "images")
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
                statistics=cast(Statistics, settings.statistics),
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

    def _competes(self, kind: str) -> bool:
        return bool(self.configuration.inversion(kind)["competition_weight"] > 0)

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


def _request(
    federation: Federation, client: int, batch: _Batch, global_record: ArrayRecord | None
) -> Message:
    content = RecordDict(
        {
            "arrays": packed(federation.strategy.local_models.read(client)),
            "config": ConfigRecord(
                {
                    **federation.agreement(),
                    "client": client,
                    "images": batch.budget[client],
                    "kind": batch.kind,
                    "seed": batch.seed,
                }
            ),
        }
    )
    if global_record is not None:
        content["global"] = global_record
    return Message(
        content=content,
        message_type="train.generate",
        dst_node_id=federation.participants[client].node_id,
    )
