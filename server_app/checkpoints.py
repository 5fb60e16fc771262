"""What a run has done, durable after every round and every step of the post-training stages.

A checkpoint is a folder that appears at once, by renaming, when it is complete. It holds the global
model and the strategy's memory as safetensors, and a manifest: which steps are done, which
per-client files belong to it, what was measured so far. The newest one and the last of every stage
are kept, so that a run can be continued where it stopped, or repeated from any stage.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from foundation import UsageError, clear_unfinished, whole_folder
from foundation.events.family import Listener, RunOpened
from foundation.events.log import EventLog
from foundation.models import State
from foundation.models.client_store import ClientStore, write_state
from foundation.settings.configuration import (
    STAGES,
    RunConfiguration,
    key_table,
    with_present_names,
)
from server_app.ledger import Ledger
from strategies.server import Versions

#: Label counts that clients told, by noise and client.
Told = dict[str, dict[str, list[int]]]

FORMAT = 2
#: The step in which a run without rounds takes the initial weights for its federated model, and
#: another one a head in closed form to start from.
BEFORE_ROUNDS = "train-0000"
#: The step behind the last round, where training may end with another model than that round's.
ENDED = "train-ended"
#: The step in which the sites hold the model kept against models of their own.
BASELINE = "baseline"
# What of a checkpoint is tensors, and in which file.
_STATES = {
    "global_state": "global.safetensors",
    "memory": "strategy.safetensors",
    "kept": "kept.safetensors",
    "watched": "watched.safetensors",
}
_ALWAYS = ("global_state", "memory")
# What is in the manifest as it stands; of the latter, earlier releases had none.
_PLAIN = ("completed", "nodes", "data", "label_counts", "metrics_position")
_LATER = ("normalization", "best_round", "runs")
#: The file that marks a run carried out to its end.
FINISHED = "finished"


class CheckpointError(UsageError, RuntimeError):
    """A checkpoint is missing, damaged, or belongs to another run; the message says which."""


def stage_of(step: str) -> str:
    """Return the stage a step belongs to: ``"compete-01-distil"`` is of ``"compete"``."""
    return step.split("-", 1)[0]


def rounds_done(completed: Sequence[str]) -> int:
    """Return how many federated rounds are among completed steps."""
    rounds = (step for step in completed if re.fullmatch(r"train-\d+", step))
    return sum(step != BEFORE_ROUNDS for step in rounds)


@dataclass
class Checkpoint:
    """Everything a run needs to go on after a step; the last of ``completed`` gives it its name.

    ``memory`` is what the strategy remembers, ``versions`` the per-client files that belong to it,
    ``nodes`` a deployment's clients (:meth:`.participants.Participants.remember`), ``data`` what
    the images looked like (:mod:`.images`), ``metrics_position`` the bytes of ``metrics.jsonl``
    that belong to it, ``kept`` the model that judges kept last, ``watched`` and ``best_round`` what
    :mod:`.training_result` knows, ``runs`` the last round of each process that worked at the run,
    where sites keep layers of their own. ``normalization`` holds ``mean`` and ``std`` by channel
    where the clients' images gave them: sites that come or go later change them no more, as the
    model has learned with these.
    """

    global_state: State
    memory: State = field(default_factory=dict)
    versions: Versions = field(default_factory=dict)
    completed: list[str] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    label_counts: Told = field(default_factory=dict)
    metrics_position: int = 0
    kept: State | None = None
    normalization: dict[str, list[float]] = field(default_factory=dict)
    watched: State = field(default_factory=dict)
    best_round: dict[str, int] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of a run; the configuration is stored with each, and compared at loading."""

    def __init__(self, directory: Path, configuration: RunConfiguration) -> None:
        self.directory = directory
        self.configuration = configuration
        self._finished = directory / FINISHED

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and drop those no longer needed."""
        step = checkpoint.completed[-1]
        self._finished.unlink(missing_ok=True)
        target = self.directory / f"{len(checkpoint.completed):04d}-{step}"
        clear_unfinished(self.directory)
        manifest = {
            "format": FORMAT,
            **{name: getattr(checkpoint, name) for name in (*_PLAIN, *_LATER, "versions")},
            "ledger": asdict(checkpoint.ledger),
            "configuration": self.configuration.flat(),
        }
        with whole_folder(target) as folder:
            for name, file in _STATES.items():
                if (state := getattr(checkpoint, name)) or name in _ALWAYS:
                    write_state(folder / file, state)
            (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")
        self._drop_superseded()

    @staticmethod
    def _delete(folder: Path) -> None:
        """Delete a checkpoint; killed half-way, it is none any more."""
        hidden = folder.with_name(f".{folder.name}.partial")
        folder.rename(hidden)
        shutil.rmtree(hidden)

    def finish(self) -> None:
        """Note that all stages are done: naming them again then means to repeat them."""
        if self.directory.is_dir():
            self._finished.touch()

    def _folders(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if path.name[:4].isdigit())

    def _drop_superseded(self) -> None:
        folders = self._folders()
        for folder, following in pairwise(folders):
            if stage_of(folder.name[5:]) == stage_of(following.name[5:]):
                self._delete(folder)

    def retained(self) -> list[Versions]:
        """Return the per-client versions that the kept checkpoints refer to."""
        return [_versions(self._manifest(folder)) for folder in self._folders()]

    def load(self, stages: Sequence[str]) -> Checkpoint | None:
        """Load the checkpoint that a run of ``stages`` goes on from, or None.

        That is the newest one if the same stages were interrupted; otherwise the newest one from
        before the first of them. Nothing is changed: see :meth:`drop_later`. CheckpointError if
        there is none from before the first stage, one cannot be read, or it was made with settings
        that differ, which the message names.
        """
        newest = self.starting_point(stages)
        if newest is None:
            return None
        manifest = self._manifest(newest)
        try:
            held: dict[str, Any] = {name: manifest[name] for name in _PLAIN}
            held |= {name: manifest[name] for name in _LATER if name in manifest}
            for name, file in _STATES.items():
                if name in _ALWAYS or (newest / file).is_file():
                    held[name] = load_file(newest / file)
            ledger = Ledger(**manifest["ledger"])
            return Checkpoint(**held, versions=_versions(manifest), ledger=ledger)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{newest} cannot be read: {error}") from error

    def drop_later(self, checkpoint: Checkpoint) -> None:
        """Delete the checkpoints behind one that was loaded, since their steps are repeated."""
        for folder in reversed(self._folders()):
            if int(folder.name[:4]) > len(checkpoint.completed):
                self._delete(folder)
        # Last: killed before this, the same command starts from the same checkpoint again.
        self._finished.unlink(missing_ok=True)
        self._drop_superseded()

    def starting_point(self, stages: Sequence[str]) -> Path | None:
        """Return the folder :meth:`load` would read, after the same checks."""
        folders = self._folders()
        if folders and not self._comparison_stands(folders[-1]):
            folders.pop()
        first = STAGES.index(stages[0])
        if folders and first > 0:
            before = self._manifest(folders[-1])["configuration"]
            interrupted = (
                str(before["stages"]) == self.configuration.stages and not self._finished.exists()
            )
            if not interrupted:
                folders = [folder for folder in folders if _position(folder.name[5:]) < first]
                self._check_ready(folders, first)
        if not folders:
            if first == 0:
                return None
            self._check_ready(folders, first)
        manifest = self._manifest(folders[-1])
        self._compare(folders[-1], manifest)
        self._check_rounds(folders[-1], manifest, first)
        self._check_files(folders[-1], manifest)
        return folders[-1]

    def _comparison_stands(self, folder: Path) -> bool:
        """Tell whether the comparison that a checkpoint may hold is wanted, and of the last round.

        A checkpoint without one stands.
        """
        if stage_of(folder.name[5:]) != BASELINE:
            return True
        completed = self._manifest(folder)["completed"]
        rounds = self.configuration.num_server_rounds
        over = ENDED in completed or rounds_done(completed) >= rounds
        return over and self.configuration.baseline == "local"

    def steps_behind(self, start: Path) -> list[str]:
        """Return the completed steps that a run from ``start`` repeats, and so replaces."""
        kept = self._manifest(start)["completed"]
        newest = self._manifest(self._folders()[-1])["completed"]
        return [step for step in newest if step not in kept]

    def data_at(self, start: Path) -> dict[str, Any]:
        """Return what a checkpoint says of the images; see :mod:`.images`."""
        found: dict[str, Any] = self._manifest(start)["data"]
        return found

    def _check_ready(self, folders: Sequence[Path], first: int) -> None:
        """Check that the stage before ``first`` was carried out to its end."""
        needed = STAGES[first - 1]
        wants = f"stage {STAGES[first]!r} needs the result of stage {needed!r}"
        if not folders or _position(folders[-1].name[5:]) < first - 1:
            raise CheckpointError(
                f"{wants}, but {self.directory} holds no such checkpoint; run the earlier stages "
                "first"
            )
        manifest = self._manifest(folders[-1])
        last = _last_step(needed, manifest["configuration"])
        if last not in manifest["completed"]:
            raise CheckpointError(
                f"{wants}, but that was interrupted at {manifest['completed'][-1]!r}, before "
                f"{last!r}; finish it first"
            )

    def _check_rounds(self, folder: Path, manifest: dict[str, Any], first: int) -> None:
        """Check that the rounds done are those the run will say it had; training may go on."""
        completed = manifest["completed"]
        done = rounds_done(completed)
        wanted = self.configuration.num_server_rounds
        if ENDED in completed:
            if wanted != (asked := manifest["configuration"]["num-server-rounds"]):
                raise CheckpointError(
                    f"checkpoint {folder}: training has ended, after {done} rounds, and "
                    f"num-server-rounds = {wanted} asks for others. Set num-server-rounds={asked}, "
                    "or start a new run"
                )
        elif done > wanted or (first > 0 and done != wanted):
            newest = self._manifest(self._folders()[-1])["completed"]
            may_go_on = done < wanted and all(stage_of(step) == "train" for step in newest)
            otherwise = "name the stage train to go on with it" if may_go_on else "start a new run"
            raise CheckpointError(
                f"checkpoint {folder} holds a model of {done} federated rounds, and "
                f"num-server-rounds = {wanted}. Set num-server-rounds={done}, or {otherwise}"
            )

    def _check_files(self, folder: Path, manifest: dict[str, Any]) -> None:
        for name, versions in _versions(manifest).items():
            store = ClientStore(self.directory / name)
            store.declare(versions)
            for client in versions:
                if not store.path(client).is_file():
                    raise CheckpointError(
                        f"checkpoint {folder} is incomplete: {store.path(client)} is missing"
                    )

    def _manifest(self, folder: Path) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{folder} is damaged ({error}); delete it to go on from the checkpoint before"
            ) from error
        if manifest.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder} has format {manifest.get('format')!r}, this version reads {FORMAT}"
            )
        return manifest

    def _compare(self, folder: Path, manifest: dict[str, Any]) -> None:
        touched = {stage_of(step) for step in manifest["completed"]}
        if touched - {*STAGES, BASELINE}:  # another method may make pseudo images, too
            touched.add("generate")
        # A key that did not exist yet had, in effect, what is now its default.
        now = self.configuration.flat()
        keys = key_table(now)
        defaults = {name: default for name, default, _ in keys}
        then = {**defaults, **with_present_names(manifest["configuration"])}
        differences = [
            f"{name} = {now[name]!r} here, {then[name]!r} there"
            for name, _, info in keys
            if info.binds in touched and now[name] != then[name]
        ]
        if differences:
            raise CheckpointError(
                f"checkpoint {folder} was made with other settings: {'; '.join(differences)}. "
                "Use the same ones, or start a new run"
            )


def _position(step: str) -> int:
    """Return which stage a step belongs to; another method's steps come behind all."""
    stage = stage_of(step)
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _last_step(stage: str, configuration: dict[str, Any]) -> str:
    """Return the last step of a stage that another stage needs."""
    if stage == "train":
        if (
            configuration.get("patience", 0)
            or configuration.get("global-average", "last") != "last"
        ):
            return ENDED
        return f"train-{configuration['num-server-rounds']:04d}"
    if stage == "generate":
        return f"generate-{configuration['generation.batches'] - 1:02d}"
    return "distil"


def _versions(manifest: dict[str, Any]) -> Versions:
    return {
        name: {int(client): int(at) for client, at in versions.items()}
        for name, versions in manifest["versions"].items()
    }


class Journal:
    """Keeps the checkpoints and the events of one run."""

    def __init__(
        self, directory: Path, configuration: RunConfiguration, listeners: Sequence[Listener]
    ) -> None:
        self.checkpoints = Checkpoints(directory / "checkpoints", configuration)
        #: Called with an event: says what happened.
        self.record = EventLog(directory, configuration.num_server_rounds, listeners)
        self.take_up(Checkpoint({}))

    def take_up(self, state: Checkpoint) -> None:
        """Go on from a checkpoint."""
        #: What the next checkpoint will hold.
        self.state = state
        self.record.enter = state.ledger.enter

    def open(self, opened: RunOpened) -> None:
        """Drop what was done behind the checkpoint, which is done again, and tell who follows."""
        if self.state.completed:
            self.checkpoints.drop_later(self.state)
        self.record.open(opened, self.state.metrics_position)

    @property
    def ledger(self) -> Ledger:
        """Seconds, traffic and results so far."""
        return self.state.ledger

    def done(self, step: str) -> bool:
        """Tell whether a step was completed, in this process or before a resume."""
        return step in self.state.completed

    def commit(self, step: str) -> None:
        """Make a finished step durable, with what others have put into the state."""
        self.ledger.note_total_time()
        self.state.completed.append(step)
        if runs := self.state.runs:
            runs[list(runs)[-1]] = rounds_done(self.state.completed)  # the last is this process's
        self.state.metrics_position = self.record.position()
        self.checkpoints.save(self.state)

    def close(self) -> None:
        """Tell who follows that the run goes on no more."""
        self.record.close()
