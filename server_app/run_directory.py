"""The directory of a run: where it is, what is written when it starts, and what if it cannot be."""

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from foundation import ExpectedError, write_whole
from foundation.data import Description
from foundation.data.names import shown
from foundation.errors import log
from foundation.files import disk_problem, is_full
from foundation.processes import ProcessDied
from foundation.settings.configuration import ConfigurationError, RunConfiguration, key_table
from questions.description import code_fingerprint

from .checkpoints import FINISHED, CheckpointError

#: What a run came to; it is there only if the run was completed.
SUMMARY = "summary.json"
#: Where the sites of a simulation keep layers of their own.
SITES = "sites"
#: The file that a process locks while it works on a run; the lock ends with the process.
LOCK = ".lock"

# Folders that a run that was killed early may have left.
_BEFORE_THE_FIRST_STEP = {"checkpoints", "pseudo_data"}
# Several runs may start from one, and copy it one after the other.
_COPYING_SECONDS = 60.0

_VERSIONS_OF = ("flwr", "torch", "torchvision", "numpy", "ray")


def default_directory(configuration: RunConfiguration) -> Path:
    """Return a free ``outputs/<UTC time>-<strategy>-<dataset>-s<seed>`` under this directory."""
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    # Of a member of a user's own, module:name, the name is enough, and no colon is in a path.
    strategy, dataset = (
        name.rpartition(":")[2] for name in (configuration.strategy, configuration.dataset)
    )
    name = f"{started}-{strategy}-{dataset}-s{configuration.seed}"
    outputs = Path.cwd() / "outputs"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(outputs / name for name in names if not (outputs / name).exists())


def claim(configuration: RunConfiguration) -> Path:
    """Return the run's directory (see :func:`locate`); one that the user did not name is created.

    Runs that start at the same moment never share a directory: only one process can create it.
    """
    while True:
        directory = locate(configuration).absolute()
        if configuration.output_dir or configuration.resume_from:
            return directory
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue  # another run took this name since it was looked for
        except OSError as error:
            raise ConfigurationError(
                f"output-dir = {str(directory)!r}: {error.strerror}"
            ) from error
        return directory


def locate(configuration: RunConfiguration) -> Path:
    """Return the run's directory without touching it.

    ConfigurationError if it already holds a run, of one step at least, that the configuration does
    not resume; CheckpointError if the run to resume does not exist.
    """
    if configuration.resume_from:
        source = Path(configuration.resume_from)
        if not (source / "checkpoints").is_dir():
            raise CheckpointError(
                f"resume-from = {configuration.resume_from!r} is not the directory of a run: it "
                "has no checkpoints/"
            )
        directory = Path(configuration.output_dir or source)
        if directory.resolve() == source.resolve():
            return directory
    else:
        directory = (
            Path(configuration.output_dir)
            if configuration.output_dir
            else default_directory(configuration)
        )
    wrong = f"output-dir = '{shown(directory)}'"
    try:
        str(directory.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{wrong}: the name is not UTF-8, and no model could be saved there: choose another, "
            "or set PYTHONUTF8=1 if it is"
        ) from error
    try:
        existing = next(p for p in (directory, *directory.absolute().parents) if p.exists())
        content = list(directory.iterdir()) if existing == directory else []
    except OSError as error:
        raise ConfigurationError(f"{wrong}: {error.strerror}") from error
    if not existing.is_dir():
        raise ConfigurationError(f"{wrong}: {existing} is not a directory")
    if not os.access(existing, os.W_OK):
        raise ConfigurationError(f"{wrong}: {existing} is not writable")
    if _holds_a_run(directory):
        raise ConfigurationError(
            f"{wrong} already holds a run; choose another directory, or "
            f"continue that run with resume-from={directory}"
        )
    foreign = sorted(path.name for path in content if _is_foreign(path))
    if foreign:
        raise ConfigurationError(
            f"{wrong} holds no run, but {foreign[0]!r}; choose another directory"
        )
    return directory


def _holds_a_run(directory: Path) -> bool:
    """Tell whether there is something to continue: settings alone are left by a refused start."""
    steps = any((directory / "checkpoints").glob("[0-9]*-*"))
    return (directory / "config.json").exists() and (steps or (directory / SUMMARY).exists())


def _is_foreign(path: Path) -> bool:
    """Tell whether something in a directory says that it is no place for a new run."""
    if path.name in (SUMMARY, "report.html"):
        return True
    # A log, a folder of the file system's own: not in the way.
    known = path.name in _BEFORE_THE_FIRST_STEP or path.name.startswith((".", "lost+found"))
    return path.is_dir() and not known


def settings_to_resume(source: Path) -> dict[str, Any]:
    """Return a run's flat settings, for those that a resuming command does not name.

    The directories are left out, and, if the run was carried out to its end, the stages: what comes
    next is a new question. Empty if there is no such run; ConfigurationError if it was stopped
    before its settings were written.
    """
    source = source.expanduser()
    manifests = sorted((source / "checkpoints").glob("[0-9]*/manifest.json"), reverse=True)
    settings: dict[str, Any] = {}
    for record in (source / "config.json", *manifests):
        try:
            settings = dict(json.loads(record.read_text("utf-8"))["configuration"])
            break
        except (OSError, ValueError, KeyError, TypeError):
            continue
    if not settings and (source / "checkpoints").is_dir():
        # Unknown is not default: without them, another experiment would be carried out.
        raise ConfigurationError(
            f"{source} holds no settings (config.json): that run was stopped before it had begun, "
            "and there is nothing to go on from. Start it again, without resume-from"
        )
    aside = {"output-dir", "resume-from"}
    if (source / "checkpoints" / FINISHED).exists():
        aside.add("stages")
    known = {name for name, _, _ in key_table(settings)} - aside  # an older version's may be gone
    return {name: value for name, value in settings.items() if name in known}


def prepare(configuration: RunConfiguration) -> Path:
    """Create the run's directory; a run resumed into another directory is copied there first."""
    directory = claim(configuration).resolve()
    # By this folder a run is known, and can be resumed even if it is killed before its first round.
    try:
        (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"output-dir = {str(directory)!r}: {error.strerror}") from error
    if configuration.resume_from:
        source = Path(configuration.resume_from).resolve()
        if source != directory:
            # What is copied while a process still writes it does not fit together.
            with reserved(source, patience=_COPYING_SECONDS):
                _copy_run(source, directory)
    return directory


def _copy_run(source: Path, directory: Path) -> None:
    # Checkpoint files are never changed in place, so two runs can share their content.
    for name in ("checkpoints", "pseudo_data", SITES):
        copy = shutil.copy2 if name == "pseudo_data" else _link_or_copy
        if (source / name).is_dir():
            shutil.copytree(source / name, directory / name, copy_function=copy, dirs_exist_ok=True)
    if (source / "metrics.jsonl").is_file():
        shutil.copy2(source / "metrics.jsonl", directory)


@contextmanager
def reserved(directory: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes from working in the run's directory (ConfigurationError if one does).

    ``patience`` is in seconds; whoever waits for longer than a moment says so.
    """
    lock = FileLock(directory / LOCK)
    try:
        try:
            lock.acquire(timeout=min(1.0, patience))
        except Timeout:
            if not patience:
                raise
            log.info("another process works on the run in %s: waiting for it", directory)
            lock.acquire(timeout=patience)
    except Timeout as error:
        raise ConfigurationError(
            f"another process is working on the run in {directory}: wait for it, or end it"
        ) from error
    except (OSError, NotImplementedError) as error:  # a file system without locks
        log.warning("%s cannot be locked (%s): let one process at a time use it", directory, error)
    try:
        yield
    finally:
        lock.release()


def _link_or_copy(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # left by a copy that was killed
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def write_configuration(
    directory: Path, configuration: RunConfiguration, device: str, description: Description
) -> None:
    """Write ``config.json``: the resolved configuration, versions, device, seed and images."""
    content = {
        "configuration": configuration.flat(),
        "versions": {
            "python": platform.python_version(),
            **_installed(),
            "code": code_fingerprint(configuration.flat()),
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "device": device,
        "seed": configuration.seed,
        "post_training": configuration.post_training_for(description.image_size),
        "class_names": list(description.class_names),
        "images": {
            "size": list(description.image_size),
            "channels": description.channels,
            "resized": description.resized,
            "mean": list(description.normalization.mean),
            "std": list(description.normalization.std),
            "augmentation": configuration.augmentation_for(description.augmentation),
        },
    }
    write_json(directory / "config.json", content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def _installed() -> dict[str, str]:
    found = {}
    for name in _VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class DiskError(ExpectedError, OSError):
    """A run's directory cannot be written to; the message says how to go on."""


@contextmanager
def machine_errors_explained(directory: Path) -> Iterator[None]:
    """Say of errors of the machine what is saved of a run, and how to go on; all others pass.

    Of an interruption the log says it.
    """
    try:
        yield
    except KeyboardInterrupt:
        log.warning(_saved(directory))
        raise
    except ProcessDied as error:
        remedy = "Free some memory, or take fewer processes (processes=1: none but this one)"
        raise ProcessDied(f"{str(error).rstrip('.')}. {_saved(directory, remedy)}") from error
    except ExpectedError:
        raise
    except Exception as error:
        if problem := disk_problem(error):
            full = is_full(error)
            remedy = "Free some space" if full else "Make it writable"
            elsewhere = "" if full else ", or with output-dir=ANOTHER beside it"
            raise DiskError(f"{problem}. {_saved(directory, remedy)}{elsewhere}") from error
        raise


def _saved(directory: Path, remedy: str = "") -> str:
    if (directory / SUMMARY).is_file():
        first = f"{remedy}, then write" if remedy else "Write"
        return (
            f"The run is complete but for its pages. {first} them with fedf2dg report {directory}"
        )
    steps = sorted(path.name[5:] for path in directory.glob("checkpoints/[0-9]*"))
    if not (directory / "config.json").is_file():
        start = f"{remedy}, and start it again" if remedy else "Start it again"
        return f"Nothing of the run is saved. {start}"
    saved = f"The run is saved up to step {steps[-1]}" if steps else "No step of the run is saved"
    go_on = f"{remedy}, then go on" if remedy else "Go on"
    return f"{saved}. {go_on} with resume-from={directory}"
