"""The run configuration: every key, its meaning, unit, range and default, declared once.

Keys are written in kebab case (``num-server-rounds``, ``generation.iterations``) wherever a user
meets them: ``pyproject.toml``, ``--run-config``, TOML files, ``fedf2dg simulate KEY=VALUE``. They
are parsed and checked once, into frozen dataclasses; an unknown key, a wrong type or an
impossible value stops the run before any work.
"""

import importlib
import json
import pkgutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from foundation.errors import log
from foundation.members import Family
from foundation.wording import counted, meant, names_in, unknown

from .algorithms import MoonSettings
from .declaration import ConfigurationError as ConfigurationError
from .declaration import KeyInfo as KeyInfo
from .declaration import Section, checked, key
from .declaration import Value as Value
from .federated_data import FederatedDataKeys
from .federated_training import FederatedTrainingKeys
from .post_training import AUTO, PostTrainingKeys, method_names
from .privacy import PrivacySettings

if TYPE_CHECKING:
    from foundation.data import DataSet, Division

SomeSection = TypeVar("SomeSection", bound=Section)

#: The stages of a run, in their order (the four scripts of the original project).
STAGES = ("train", "generate", "distil", "compete")

#: Keys of the release before, by the name they had.
_RENAMED = {"hook": "post-training"}


@dataclass(frozen=True)
class RunConfiguration(PostTrainingKeys, FederatedDataKeys, FederatedTrainingKeys):
    """Everything a run depends on. Fields are the keys, in kebab case, of the run configuration.

    ``sections`` are those of strategies and methods whose values are not the defaults, and those of
    members of a user's own; see :meth:`section`. A ConfigurationError names the key, the value and
    the choices on construction; what contradicts another key is refused by :meth:`parse`.
    """

    seed: int = key(
        0,
        "Seed of partition, initial weights, sampling, training, generation and distillation.",
        minimum=0,
        maximum=2**31 - 1,
        original="init_seed",
    )
    evaluation: Literal["auto", "server", "clients", "both"] = key(
        "auto",
        "Who measures the accuracies that are reported: server (on its test images), clients (on "
        "their held-out images), both; auto: the server where it has test images, else clients. "
        "With clients, no image of a folder is held out for the server.",
        binds="run",
    )
    evaluation_every: int = key(
        1,
        "Measure the model after every so many federated rounds, and after the last; 0: only at "
        "the ends of stages. Where clients measure, each time is one more message to each.",
        unit="rounds",
        minimum=0,
        binds="run",
    )
    device: str = key(
        "auto",
        "Where tensors live. cuda: every GPU of this machine, a client and a model to invert on "
        "each; cuda:N: that one, counted from 0; auto: cuda where there is one.",
        choices=("auto", "cpu", "cuda"),
        numbered="cuda",
        original="device",
        binds="run",
    )
    processes: int = key(
        0,
        "Processes to share work over on this machine: clients of the local engine, and the models "
        "to invert. 0: one per processor, at most 8, where the work is worth it; with GPUs one for "
        "each, or up to four for clients of small models that its memory holds. 1: none but this.",
        minimum=0,
        binds="run",
    )
    threads: int = key(
        0,
        "CPU threads of each process. 0: its share of the processors, or one where the model is so "
        "small that more would only wait. A real client's node may say its own: "
        "--node-config threads=N.",
        minimum=0,
        binds="run",
    )
    output_dir: str = key(
        "",
        "The run's directory; empty: outputs/<UTC time>-<strategy>-<dataset>-s<seed>.",
        original="logdir",
        binds="run",
        is_path=True,
    )
    stages: str = key(
        ",".join(STAGES),
        "Stages to run, separated by commas: " + ", ".join(STAGES) + ".",
        binds="run",
    )
    resume_from: str = key(
        "",
        "Directory of a run to continue, from its last completed step.",
        binds="run",
        is_path=True,
    )
    sinks: str = key(
        "",
        "Where the run's numbers and pictures go beside its directory, several separated by "
        "commas: csv, mlflow, tensorboard, wandb (each but csv needs the library of that name).",
        binds="run",
    )
    sections: tuple[Section, ...] = ()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build a configuration from flat or nested keys; absent ones keep their defaults.

        A ConfigurationError names an unknown key, a wrong type, and a value that is out of range,
        not among the choices or contradicts another.
        """
        flat = with_present_names(flatten(values))
        if isinstance(methods := flat.get("post-training"), str):
            # A plus sign is a comma that fedf2dg compare does not take for its own.
            flat["post-training"] = methods.replace("+", ",")
        brought = brought_sections(flat)
        prefixed = {**member_sections(), **brought}
        known = {name for name, _ in _declared()}
        for name, info in _declared_by(brought):
            known.add(name)
            if name in flat:  # a command line gives them as text
                flat[name] = _read_as(info.kind, flat[name])
        for name in flat:
            if name not in known:
                raise ConfigurationError(
                    f"unknown key {name!r}.{meant(name, known)} All keys: fedf2dg keys"
                )
        found = {name: _build(kind, f"{name}.", flat) for name, kind in prefixed.items()}
        sections = tuple(s for name, s in found.items() if name in brought or s != type(s)())
        configuration = replace(_build(cls, "", flat), sections=sections)
        if configuration.post_training != AUTO:
            method_names(configuration.post_training)
        for contradiction in configuration._contradictions():
            raise ConfigurationError(contradiction)
        return configuration

    def section(self, kind: type[SomeSection]) -> SomeSection:
        """Return the section of a strategy or method; that of a user's own by its class, too."""
        return section_in(self.sections, kind)

    def with_section(self, changed: Section) -> Self:
        """Return the configuration with another section in the place of one of its class."""
        others = (one for one in self.sections if type(one) is not type(changed))
        return replace(self, sections=(*others, changed))

    def _contradictions(self) -> Iterator[str]:
        names = self.stage_names
        if not self.label_counts_told and self.distillation.teacher in (
            "prior-corrected",
            "class-weighted",
            "masked",
        ):
            yield (
                f"distillation.teacher = {self.distillation.teacher!r} needs every client's label "
                "counts, which label-counts=uniform and generation.place=client keep from the "
                "server: choose auto, own or uniform"
            )
        if self.generation.labels == "balanced" and self.generation.place == "client":
            yield (
                "generation.labels = 'balanced' weighs clients' label counts against each other, "
                "which generation.place=client keeps from the server: choose principle, or "
                "generation.place=server"
            )
        if self.label_noise != "none" and self.label_noise_rate == 0.0:
            yield (f"label-noise = {self.label_noise!r} needs a label-noise-rate above 0")
        if self.num_server_rounds == 0 and not self.initial_weights:
            yield (
                "num-server-rounds = 0 trains nothing, so the model has to be trained already: set "
                "initial-weights, or num-server-rounds to 1 or more"
            )
        if self.schedule.warm_up_rounds >= self.num_server_rounds and self.schedule.warm_up_rounds:
            yield (
                f"schedule.warm-up-rounds = {self.schedule.warm_up_rounds} must be below "
                f"num-server-rounds = {self.num_server_rounds}"
            )
        if self.evaluation in ("clients", "both") and self.validation_share == 0:
            yield (
                f"evaluation = {self.evaluation!r} needs a validation-share above 0: the clients "
                "measure on the images that they hold out"
            )
        if self.num_server_rounds == 0 and (self.patience or self.global_average != "last"):
            yield (
                f"patience = {self.patience} and global-average = {self.global_average!r} choose "
                "between rounds, and num-server-rounds = 0 has none: leave them out"
            )
        if self.patience and self.validation_share == 0:
            yield (
                f"patience = {self.patience} needs a validation-share above 0: rounds are judged "
                "on the images that the clients hold out"
            )
        if self.acceptance_metric == "balanced-accuracy" and not self.exact_counts_told:
            yield (
                "acceptance-metric = 'balanced-accuracy' needs the clients' answers by class: set "
                "label-counts=uploaded and generation.place=server, or choose accuracy or log-loss"
            )
        if self.baseline != "none" and self.validation_share == 0:
            yield (
                f"baseline = {self.baseline!r} needs a validation-share above 0: the sites compare "
                "on the images that they hold out"
            )
        if self.min_successful_clients > self.clients_per_round:
            yield (
                f"min-successful-clients = {self.min_successful_clients} can never be reached: "
                f"only {self.clients_per_round} clients take part in a round "
                "(num-clients x fraction-train)"
            )
        yield from self._impersonal()
        if self.min_clients > self.num_clients:
            yield f"min-clients = {self.min_clients} exceeds num-clients = {self.num_clients}"
        if 0 < self.min_clients < self.required_replies:
            yield (
                f"min-clients = {self.min_clients} suffice to start and not for a round, which "
                f"needs {counted(self.required_replies, 'reply', 'replies')}: set "
                "min-successful-clients as low, or min-clients higher"
            )
        first, last = STAGES.index(names[0]), STAGES.index(names[-1])
        left_out = [name for name in STAGES[first:last] if name not in names]
        if left_out:
            yield (
                f"stages = {self.stages!r} leaves out {', '.join(left_out)}, whose result "
                f"{names[-1]} needs"
            )
        if names[0] != "train" and not self.resume_from:
            yield (
                f"stages = {self.stages!r} starts behind train and needs resume-from, the "
                "directory of a run that has the earlier stages' results"
            )

    def _impersonal(self) -> Iterator[str]:
        """Say what does not go with a personal part of the model."""
        said = f"personal = {self.personal!r}"
        if self.personal == "none":
            return
        if self.strategy in ("local", "centralized"):
            yield f"{said} needs sites and a global model, which {self.strategy!r} has not both"
        if self.validation_share == 0:
            yield (
                f"{said} needs a validation-share above 0: a site has its own part only where that "
                "is better on images that it holds out"
            )
        if self.personal != "batch-norm":
            return
        whole = "the global model has no BatchNorm of its own before the rounds are over"
        if self.num_server_rounds == 0:
            yield f"{said} needs rounds, and num-server-rounds = 0 has none: take personal=head"
        if self.batch_norm != "averaged":
            yield (
                f"{said} leaves BatchNorm at the sites, and batch-norm = {self.batch_norm!r} says "
                "what the server makes of it: leave one of them out"
            )
        if self.patience or self.global_average != "last":
            yield (
                f"{said}: {whole}, so that rounds cannot be told apart: leave out patience = "
                f"{self.patience} and global-average = {self.global_average!r}"
            )
        if self.initial_head != "fresh":
            yield f"{said}: {whole}, which initial-head = {self.initial_head!r} is fitted behind"
        if self.post_training not in (AUTO, "none"):
            yield (
                f"{said}: the clients' models come without their BatchNorm, and what changes the "
                f"global model does not fit the sites' own. post-training = {self.post_training!r} "
                "must be none, or take personal=head"
            )

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The chosen stages, in the order they run."""
        given = names_in(self.stages)
        if not given:
            raise ConfigurationError(
                f"stages is empty; choose some of {', '.join(STAGES)}, separated by commas"
            )
        for name in given:
            if name not in STAGES:
                raise ConfigurationError(unknown("stage in stages", name, STAGES))
        return tuple(name for name in STAGES if name in given)

    @property
    def sink_names(self) -> tuple[str, ...]:
        """The names in ``sinks``; a plus sign separates them in a comparison."""
        return tuple(dict.fromkeys(names_in(self.sinks.replace("+", ","))))

    @property
    def data_set(self) -> "DataSet":
        """The images of the run."""
        from foundation.data import DataSet  # with torch, which a refused key need not wait for

        return DataSet(
            self.dataset,
            self.data_dir,
            self.classes,
            self.image_size,
            self.unreadable_images == "leave-out",
            own_test=self.evaluation != "clients",
        )

    @property
    def division(self) -> "Division":
        """The training images, divided over simulated clients."""
        from foundation.data import Division

        return Division(
            self.data_set,
            clients=self.num_clients,
            seed=self.seed,
            kind=self.partition,
            dirichlet_alpha=self.dirichlet_alpha,
            classes_per_client=self.classes_per_client,
            quantity_alpha=self.quantity_alpha,
            min_samples=self.min_partition_size,
            train_samples=self.train_samples,
            validation_share=self.validation_share,
            feature_noise=self.feature_noise,
            feature_noise_kind=self.feature_noise_kind,
            label_noise=self.label_noise,
            label_noise_rate=self.label_noise_rate,
        )

    def augmentation_for(self, usual: str) -> str:
        """Return the augmentation of the training images, where ``usual`` is what suits them.

        A frozen encoder sees the images as they are, and so each of them once.
        """
        usual = "none" if "encoder" in self.frozen_layers else usual
        return usual if self.augmentation == "auto" else self.augmentation

    def post_training_for(self, image_size: tuple[int, int]) -> str:
        """Return the names of the methods for images of (height, width) pixels."""
        alone = self.personal == "batch-norm" or self.section(PrivacySettings).on
        if alone and self.post_training == AUTO:
            return "none"
        return super().post_training_for(image_size)

    def with_mu_at(self, server_round: int) -> Self:
        """Return the configuration with the weights μ that FedProx and MOON have in a round."""
        factor = self._factor("mu", server_round)
        if factor == 1.0:
            return self
        moon = self.section(MoonSettings)
        scaled = replace(self, proximal_mu=self.proximal_mu * factor)
        return scaled.with_section(replace(moon, mu=moon.mu * factor))

    def flat(self) -> dict[str, Value]:
        """Return all keys in kebab case with their values, the form Flower's run-config has."""
        flat = dict(_walk(self))
        for name, kind in member_sections().items():
            flat |= _walk(self.section(kind), f"{name}.")
        for one in self.sections:
            flat |= _walk(one, f"{one.section_name}.")
        return flat


def section_in(sections: tuple[Section, ...], kind: type[SomeSection]) -> SomeSection:
    """Return the section of a class among some; its defaults if there is none."""
    found = next((one for one in sections if type(one) is kind), None)
    return found if found is not None else kind()


@cache
def member_sections() -> dict[str, type[Section]]:
    """Return the sections of our own strategies and methods, by name: a file here each."""
    here = __name__.rpartition(".")[0]
    modules = [
        importlib.import_module(f"{here}.{found.name}")
        for found in pkgutil.iter_modules(importlib.import_module(here).__path__)
    ]
    kinds = [kind for module in modules for kind in vars(module).values()]
    named = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
    found = {kind.section_name: kind for kind in named if kind.section_name}
    return dict(sorted(found.items()))


def _foreign_members(values: Mapping[str, Any]) -> Iterator[tuple[str, Family, str]]:
    """Yield (key, family, name) of the members of a user's own that flat keys name."""
    for name, info in _declared():
        if info.family is None or not isinstance(value := values.get(name), str):
            continue
        # A plus sign is a comma that fedf2dg compare does not take for its own.
        for member in names_in(checked(name, value.replace("+", ","), info)):
            if member not in info.words and info.family.is_foreign(member):
                yield name, info.family, member


def member_files(values: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Return the sources of a user's own members that flat keys name; see :class:`.Family`."""
    found = {
        name: file
        for _, family, member in _foreign_members(values)
        for name, file in family.source_files(member)
    }
    return sorted(found.items())


def brought_sections(values: Mapping[str, Any]) -> dict[str, type[Section]]:
    """Return the sections of the members of a user's own that a run names, by name."""
    brought: dict[str, type[Section]] = {}
    taken = {name.partition(".")[0] for name, _ in _declared()}
    for key_name, family, member in _foreign_members(values):
        kind = getattr(family.load(member, object), "settings", None)
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            continue
        if not kind.section_name or kind.section_name in taken:
            raise ConfigurationError(
                f"{key_name} = {member!r}: its settings need a name that no key has: "
                f"class {kind.__name__}(Section, name=...), now {kind.section_name!r}"
            )
        brought[kind.section_name] = kind
    return brought


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to dotted keys: ``{"moon": {"mu": 1}}`` to ``{"moon.mu": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def with_present_names(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Give keys that have been renamed their present names; an old one is read with a warning."""
    present = dict(flat)
    for old, new in _RENAMED.items():
        if old in present:
            value = present.pop(old)
            present.setdefault(new, value)
            log.warning("the key %r is now called %r; the old name will be dropped", old, new)
    return present


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of run-configuration keys, flattened; of an app, those that it sets."""
    return flatten(toml_tables(path))


def toml_tables(path: Path) -> dict[str, Any]:
    """Read a TOML file as it is nested; of an app's pyproject.toml, the table of its keys."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    if path.name == "pyproject.toml":
        content = content.get("tool", {}).get("flwr", {}).get("app", {}).get("config", {})
    return content


def over_files(files: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of files with those given over them, whose values may be lists.

    A file whose images are divided otherwise does not know how many folders of sites there are.
    """
    values = {**files, **given}
    folders = ("folders", ["folders"])
    asked = given.get("partition") in folders and "num-clients" not in given
    if asked and files.get("partition") not in folders:
        values.pop("num-clients", None)
    return values


def as_toml(values: Mapping[str, Value]) -> str:
    """Return keys with their values as lines of TOML, which :func:`read_toml` reads."""
    # JSON's scalars are TOML's, finite floats too.
    lines = (f"{json.dumps(k)} = {json.dumps(v, ensure_ascii=False)}" for k, v in values.items())
    return "".join(f"{line}\n" for line in lines)


def typed(name: str, text: str) -> Value:
    """Read a text as a value of a key's type; what is not of that type stays a text."""
    kind = next((info.kind for key_name, info in _declared() if key_name == name), str)
    value: Value = _read_as(kind, text)
    return value


def _read_as(kind: type, value: Any) -> Any:
    try:
        return kind(value) if kind in (int, float) and isinstance(value, str) else value
    except ValueError:
        return value


def key_table(values: Mapping[str, Any] | None = None) -> list[tuple[str, Value, KeyInfo]]:
    """Return (key, default, what it means) for every key, in the order of declaration.

    ``values`` are a run's flat keys, whose members of a user's own may bring keys of theirs.
    """
    brought = brought_sections(values or {})
    defaults = RunConfiguration(sections=tuple(kind() for kind in brought.values())).flat()
    return [(name, defaults[name], info) for name, info in (*_declared(), *_declared_by(brought))]


def _section(entry: Field[Any]) -> type[Section] | None:
    """Return the class of a field that is a section of its own, else None."""
    make = entry.default_factory
    return make if isinstance(make, type) and issubclass(make, Section) else None


def _keys(cls: type[Section]) -> Iterator[tuple[str, Field[Any]]]:
    """Name the fields that are keys of a run, or sections, as a user writes them."""
    for entry in fields(cls):  # type: ignore[arg-type]
        info = entry.metadata.get("info")
        if _section(entry) or (info and not info.in_library_only):
            # An underscore at the end is only there because Python has a word of that name.
            yield entry.name.rstrip("_").replace("_", "-"), entry


@cache
def _declared() -> tuple[tuple[str, KeyInfo], ...]:
    return (*_declared_in(RunConfiguration, ""), *_declared_by(member_sections()))


def _declared_by(sections: Mapping[str, type[Section]]) -> Iterator[tuple[str, KeyInfo]]:
    for name, kind in sections.items():
        yield from _declared_in(kind, f"{name}.")


def _declared_in(cls: type[Section], prefix: str) -> Iterator[tuple[str, KeyInfo]]:
    for name, entry in _keys(cls):
        if inner := _section(entry):
            yield from _declared_in(inner, f"{prefix}{name}.")
        else:
            info: KeyInfo = entry.metadata["info"]
            yield prefix + name, info if info.binds else replace(info, binds=cls.section_binds)


def _walk(section: Section, prefix: str = "") -> Iterator[tuple[str, Value]]:
    for name, entry in _keys(type(section)):
        value = getattr(section, entry.name)
        if isinstance(value, Section):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _build(cls: type[SomeSection], prefix: str, flat: Mapping[str, Any]) -> SomeSection:
    arguments: dict[str, Any] = {}
    for short, entry in _keys(cls):
        name = prefix + short
        if inner := _section(entry):
            arguments[entry.name] = _build(inner, f"{name}.", flat)
        elif name in flat:
            arguments[entry.name] = checked(name, flat[name], entry.metadata["info"])
    return cls(**arguments)
