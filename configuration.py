"""The run configuration: every key, its meaning, unit, range and default, in one place.

Keys are written in kebab case (``num-server-rounds``, ``generation.iterations``) wherever a user
meets them: ``pyproject.toml``, ``--run-config``, TOML files, ``fedf2dg simulate KEY=VALUE``. They
are parsed and checked once, into frozen dataclasses; an unknown key, a wrong type or an
impossible value stops the run before any work.
"""

from __future__ import annotations

import difflib
import logging
import math
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast, get_type_hints

from foundation import UsageError

Value = str | int | float | bool

#: The stages of a run, in their order (the four scripts of the original project).
STAGES = ("train", "generate", "distil", "compete")


log = logging.getLogger("flwr.fedf2dg")

#: Keys of the release before, by the name they had.
_RENAMED = {"hook": "post-training"}


class ConfigurationError(UsageError, ValueError):
    """A setting that cannot work; the message names the key, the value and the choices."""


@dataclass(frozen=True)
class KeyInfo:
    """What a user needs to know about one key.

    Parameters
    ----------
    meaning : str
        One sentence.
    unit : str (default: "")
        Unit of the value, where it has one.
    minimum, maximum : float, optional
        Range of a number, ends included unless ``above``.
    above : float, optional
        Exclusive lower end.
    choices : tuple[str, ...] (default: ())
        Permitted values; empty if the choices are open (data set, model, strategy: they are
        registries, and are passed to :meth:`RunConfiguration.parse`).
    original : str (default: "")
        The flag of the original research script.
    binds : str (default: "train")
        First stage whose result depends on the key. A run that is resumed behind that stage must
        keep the value; ``"run"`` keys may always change.
    """

    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    original: str = ""
    binds: str = "train"

    @property
    def range(self) -> str:
        """The permitted values in words; empty if any will do."""
        if self.choices:
            return ", ".join(self.choices)
        parts = []
        if self.above is not None:
            parts.append(f"above {self.above:g}")
        if self.minimum is not None:
            parts.append(f"at least {self.minimum:g}")
        if self.maximum is not None:
            parts.append(f"at most {self.maximum:g}")
        return ", ".join(parts)


def key(default: Any, meaning: str, **info: Any) -> Any:
    """Declare one configuration key: its default, and what :class:`KeyInfo` holds about it."""
    return field(default=default, metadata={"info": KeyInfo(meaning, **info)})


@dataclass(frozen=True)
class MoonConfiguration:
    """MOON's settings (Li et al. 2021)."""

    mu: float = key(1.0, "Weight μ of the model-contrastive loss.", minimum=0.0, original="mu")
    temperature: float = key(0.5, "Temperature of the contrastive loss.", above=0.0)
    projection_dim: int = key(
        256,
        "Output size of the projection head; used by the strategy moon only.",
        minimum=1,
        original="out_dim",
    )


@dataclass(frozen=True)
class ServerOptimizerConfiguration:
    """The server's step of FedAdam, FedYogi, FedAdagrad, FedAvgM and q-FedAvg."""

    learning_rate: float = key(
        0.0,
        "Step η of the server's optimizer; 0: the strategy's own (fedadam, fedyogi 0.03, "
        "fedadagrad 0.1, fedavgm 1).",
        minimum=0.0,
    )
    beta1: float = key(
        0.9, "Decay β₁ of the first moment (fedadam, fedyogi).", minimum=0.0, maximum=0.999
    )
    beta2: float = key(
        0.99, "Decay β₂ of the second moment (fedadam, fedyogi).", minimum=0.0, maximum=0.9999
    )
    tau: float = key(
        1e-3, "Adaptivity τ, added to the root of the second moment (fedadam, …).", above=0.0
    )
    momentum: float = key(
        0.9, "Momentum β of the server's velocity (fedavgm).", minimum=0.0, maximum=0.999
    )
    fairness: float = key(
        0.1, "Exponent q of the clients' losses (qfedavg); 0 weighs all alike.", minimum=0.0
    )

    def step(self, default: float) -> float:
        """Return η, or a strategy's own where the key is 0."""
        return self.learning_rate or default


@dataclass(frozen=True)
class RobustConfiguration:
    """Aggregation that bears malicious clients: Krum, Multi-Krum, Bulyan, the trimmed mean."""

    malicious_clients: int = key(
        1,
        "Malicious clients f of a round that krum, multikrum and bulyan must bear.",
        unit="clients",
        minimum=0,
    )
    clients_to_keep: int = key(
        0,
        "Clients that multikrum averages; 0: all of a round but f + 2.",
        unit="clients",
        minimum=0,
    )
    trimmed_fraction: float = key(
        0.2,
        "Fraction β of the clients that fedtrimmedavg leaves out at either end, coordinate by "
        "coordinate; below 0.5.",
        minimum=0.0,
        maximum=0.499,
    )


@dataclass(frozen=True)
class GenerationConfiguration:
    """Model inversion (DeepInversion, Yin et al. 2020) and the data generation principle."""

    images_per_client: int = key(
        64,
        "Mean number of pseudo images per client and batch (B of the data generation principle).",
        unit="images",
        minimum=1,
        original="bs",
        binds="generate",
    )
    batches: int = key(
        1,
        "Batches of common samples; from the second on budgets follow the quality term.",
        minimum=1,
        original="num_batch",
        binds="generate",
    )
    iterations: int = key(
        100,
        "Optimisation steps per batch of images.",
        unit="steps",
        minimum=1,
        original="iters_mi",
        binds="generate",
    )
    learning_rate: float = key(
        1.6, "Adam's step size on the pixels.", above=0.0, original="di_lr", binds="generate"
    )
    schedule: str = key(
        "cosine",
        "The step size over the iterations: constant (the original), or falling to 0 along half a "
        "cosine, which allows large first steps and needs a fraction of the iterations.",
        choices=("constant", "cosine"),
        binds="generate",
    )
    tv_weight: float = key(
        1e-3,
        "Weight of the total variation.",
        minimum=0.0,
        original="di_var_scale",
        binds="generate",
    )
    l2_weight: float = key(
        0.0, "Weight of the images' norm.", minimum=0.0, original="di_l2_scale", binds="generate"
    )
    bn_weight: float = key(
        1.0,
        "Weight of the distance to the BatchNorm statistics.",
        minimum=0.0,
        original="r_feature_weight",
        binds="generate",
    )
    competition_weight: float = key(
        0.0,
        "Weight of the competition term for the common samples (hard ones: competition.weight).",
        minimum=0.0,
        original="cig_scale",
        binds="generate",
    )
    place: str = key(
        "server",
        "Where local models are inverted.",
        choices=("server", "client"),
        binds="generate",
    )
    form: str = key(
        "corrected",
        "The objective: corrected, or as the reference implementation writes it.",
        choices=("corrected", "reference"),
        binds="generate",
    )


@dataclass(frozen=True)
class DistillationConfiguration:
    """Distillation of the pseudo images into the global model."""

    epochs: int = key(
        30,
        "Passes over all pseudo images.",
        unit="epochs",
        minimum=1,
        original="kd_epochs",
        binds="distil",
    )
    batch_size: int = key(64, "Pseudo images per step.", unit="images", minimum=1, binds="distil")
    learning_rate: float = key(
        0.01, "SGD's step size.", above=0.0, original="kd_lr", binds="distil"
    )
    momentum: float = key(
        0.9,
        "Nesterov momentum.",
        minimum=0.0,
        maximum=0.999,
        original="momentum",
        binds="distil",
    )
    weight_decay: float = key(
        1e-4, "Weight decay.", minimum=0.0, original="weight_decay", binds="distil"
    )
    temperature: float = key(3.0, "Temperature T of the soft labels.", above=0.0, binds="distil")
    weight: float = key(
        0.1,
        "Weight w of w·T²·KL (the reference uses 0.001).",
        above=0.0,
        binds="distil",
    )
    statistics: str = key(
        "frozen",
        "What BatchNorm layers normalise with while distilling: the federated statistics, which "
        "stay (frozen), or the pseudo batch, which moves their running statistics (update).",
        choices=("frozen", "update"),
        binds="distil",
    )


@dataclass(frozen=True)
class CompetitionConfiguration:
    """The competition loop: hard samples, on which local and global model disagree."""

    rounds: int = key(
        1,
        "Repetitions of (local training,) hard samples, distillation.",
        minimum=1,
        original="comm_round",
        binds="compete",
    )
    batches: int = key(
        1,
        "Batches of hard samples per repetition.",
        minimum=1,
        original="num_batch",
        binds="compete",
    )
    weight: float = key(
        10.0,
        "Weight of the competition term, 1 - JS(local, global).",
        minimum=0.0,
        original="cig_scale",
        binds="compete",
    )
    retrain: str = key(
        "every",
        "Train a federated round from the distilled model before every repetition (the paper's "
        "figure), or only before the first (what the reference implementation does).",
        choices=("once", "every"),
        binds="compete",
    )


@dataclass(frozen=True)
class RunConfiguration:
    """Everything a run depends on. Fields are the keys, in kebab case, of the run configuration.

    Raises
    ------
    ConfigurationError
        On construction through :meth:`parse`, naming the key, the value and the choices.
    """

    seed: int = key(
        0,
        "Seed of partition, initial weights, sampling, training, generation and distillation.",
        minimum=0,
        maximum=2**31 - 1,
        original="init_seed",
    )
    strategy: str = key(
        "scaffold",
        "The federated algorithm: fedavg, fednova, fedprox, moon, scaffold; Flower's own fedadam, "
        "fedyogi, fedadagrad, fedavgm, fedmedian, fedtrimmedavg, krum, multikrum, bulyan, qfedavg; "
        "the baselines centralized (all data pooled) and local (every client alone); or a file of "
        "your own in strategies/.",
        original="alg",
    )
    dataset: str = key(
        "digits",
        "The data set: digits (embedded), cifar10, cifar100, fmnist, mnist, svhn, tiny-imagenet, "
        "or your own images as parquet or folder.",
        original="dataset",
    )
    data_dir: str = key(
        "",
        "Folder with the data set's files, where it is not embedded or downloaded.",
        original="datadir",
        binds="run",
    )
    class_names: str = key(
        "",
        "Classes of a data set of your own, separated by commas, in the order of their labels; "
        "empty: those its files show.",
    )
    train_samples: int = key(
        0,
        "Training images to use, a stratified subset drawn by seed; 0 means all.",
        unit="images",
        minimum=0,
    )
    num_clients: int = key(
        10,
        "Number of clients; must equal the number of SuperNodes.",
        unit="clients",
        minimum=1,
        original="n_parties",
    )
    partition: str = key(
        "dirichlet",
        "How the training data is split over simulated clients.",
        choices=("iid", "dirichlet", "classes", "quantity"),
        original="partition",
    )
    dirichlet_alpha: float = key(
        0.05,
        "Concentration β of the Dirichlet label skew; smaller is more skewed.",
        above=0.0,
        original="beta",
    )
    quantity_alpha: float = key(0.5, "Concentration of the Dirichlet quantity skew.", above=0.0)
    classes_per_client: int = key(
        2, "Classes each client holds under the partition classes.", minimum=1
    )
    min_partition_size: int = key(
        10, "Fewest training images of a simulated client.", unit="images", minimum=1
    )
    validation_share: float = key(
        0.1,
        "Share of every class that each client holds out: such images judge models, and nothing "
        "learns from them. A site with test files of its own uses those instead. 0: none.",
        minimum=0.0,
        maximum=0.5,
    )
    num_server_rounds: int = key(
        5, "Federated rounds.", unit="rounds", minimum=1, original="comm_round", binds="generate"
    )
    fraction_train: float = key(
        1.0,
        "Fraction of the clients sampled for a round.",
        above=0.0,
        maximum=1.0,
        original="sample",
    )
    min_successful_clients: int = key(
        0,
        "Fewest valid replies in a round before the run fails; 0 means half of those asked.",
        unit="clients",
        minimum=0,
        binds="run",
    )
    round_timeout: float = key(
        3600.0,
        "Longest wait for the replies of one round. In the local engine's processes: the longest "
        "that one client may take; a client in this process (processes=1) is not bounded.",
        unit="seconds",
        above=0.0,
        binds="run",
    )
    node_timeout: float = key(
        120.0,
        "Longest wait for num-clients nodes to be connected.",
        unit="seconds",
        above=0.0,
        binds="run",
    )
    client_identity: str = key(
        "node-id",
        "What a client that comes back must have in common with the one that left: its Flower "
        "node id, which SuperNodes with keys keep, or only the partition-id it names, which "
        "proves nothing.",
        choices=("node-id", "partition-id"),
        binds="run",
    )
    clip_update_norm: float = key(
        0.0,
        "Scale local updates down to so many times the median norm of the round's updates; "
        "0: never. A poisoned update then weighs no more than an honest one of that norm.",
        unit="median norms",
        minimum=0.0,
        binds="run",
    )
    server_learning_rate: float = key(
        1.0,
        "Step η_g of the server along the aggregated update; 1 is plain averaging.",
        above=0.0,
    )
    local_epochs: int = key(
        5, "Passes over a client's data per round.", unit="epochs", minimum=1, original="epochs"
    )
    batch_size: int = key(
        16, "Images per local step.", unit="images", minimum=1, original="batch-size"
    )
    learning_rate: float = key(0.01, "Local step size η.", above=0.0, original="lr")
    momentum: float = key(0.9, "Local momentum ρ.", minimum=0.0, maximum=0.999, original="rho")
    weight_decay: float = key(1e-5, "Local weight decay λ.", minimum=0.0, original="reg")
    proximal_mu: float = key(
        0.01, "Weight μ of FedProx's proximal term (μ/2)·‖y − x‖².", minimum=0.0, original="mu"
    )
    local_loss: str = key(
        "cross-entropy",
        "Local training loss.",
        choices=("cross-entropy", "symmetric-cross-entropy"),
    )
    model: str = key(
        "resnet8",
        "The classifier: resnet8, resnet18, resnet20, resnet32, resnet34, vgg11, cnn, or, with "
        "GroupNorm, resnet8-gn, resnet18-gn.",
        original="model",
    )
    augmentation: str = key(
        "auto",
        "Augmentation of the training images; auto is the data set's usual one.",
        choices=("auto", "none", "crop-flip", "crop-flip-rotate"),
    )
    feature_noise: float = key(
        0.0,
        "Standard deviation of Gaussian noise on training images (of the noisiest client).",
        unit="pixel range",
        minimum=0.0,
        maximum=1.0,
        original="noise",
    )
    feature_noise_kind: str = key(
        "level",
        "level: grows with the client's index; space: lands in a part of the image that depends "
        "on the client.",
        choices=("level", "space"),
        original="noise_type",
    )
    label_noise: str = key(
        "none",
        "Wrong training labels.",
        choices=("none", "symmetric", "pairflip"),
        original="label_noise_type",
    )
    label_noise_rate: float = key(
        0.0,
        "Fraction of wrong training labels.",
        minimum=0.0,
        maximum=1.0,
        original="label_noise_rate",
    )
    device: str = key(
        "auto",
        "Where tensors live.",
        choices=("auto", "cpu", "cuda"),
        original="device",
        binds="run",
    )
    processes: int = key(
        0,
        "Processes to share work over on this machine: clients of the local engine, and the models "
        "to invert. 0: one per processor, at most 8, where the work is worth it; 1: none but this. "
        "On CUDA always 1.",
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
    precision: str = key(
        "auto",
        "Type of convolutions and matrix products in local training; weights, BatchNorm and losses "
        "stay in float32. auto: bfloat16 on hardware that is faster in it, on processors unless "
        "the model is tiny.",
        choices=("auto", "float32", "bfloat16"),
    )
    output_dir: str = key(
        "",
        "The run's directory; empty: outputs/<UTC time>-<strategy>-<dataset>-s<seed>.",
        original="logdir",
        binds="run",
    )
    stages: str = key(
        ",".join(STAGES),
        "Stages to run, separated by commas: " + ", ".join(STAGES) + ".",
        binds="run",
    )
    resume_from: str = key(
        "", "Directory of a run to continue, from its last completed step.", binds="run"
    )
    post_training: str = key(
        "fedf2dg",
        "What is done to the global model after training: fedf2dg, none, a file of your own in "
        "post_training/, or several, separated by commas, one after the other.",
        binds="generate",
    )
    label_counts: str = key(
        "uploaded",
        "What may be known of the clients' labels outside of them: their counts, counts with "
        "noise, or nothing (uniform).",
        choices=("uploaded", "noised", "uniform"),
        binds="generate",
    )
    label_counts_noise: float = key(
        2.0,
        "Scale b of the Laplace noise on each label count (noised): ε = 1/b for one image.",
        unit="images",
        above=0.0,
        binds="generate",
    )
    moon: MoonConfiguration = field(default_factory=MoonConfiguration)
    server_optimizer: ServerOptimizerConfiguration = field(
        default_factory=ServerOptimizerConfiguration
    )
    robust: RobustConfiguration = field(default_factory=RobustConfiguration)
    generation: GenerationConfiguration = field(default_factory=GenerationConfiguration)
    distillation: DistillationConfiguration = field(default_factory=DistillationConfiguration)
    competition: CompetitionConfiguration = field(default_factory=CompetitionConfiguration)

    @classmethod
    def parse(
        cls,
        values: Mapping[str, Any],
        choices: Mapping[str, Collection[str]] | None = None,
    ) -> RunConfiguration:
        """Build a configuration from flat or nested keys in kebab case.

        Parameters
        ----------
        values : Mapping[str, Any]
            ``{"num-server-rounds": 10, "generation.iterations": 200}`` or nested tables as a
            TOML file gives them. Keys that are absent keep their defaults.
        choices : Mapping[str, Collection[str]], optional
            Permitted values of keys whose choices are registries, e.g. ``{"model": MODELS}``.

        Raises
        ------
        ConfigurationError
            Unknown key, wrong type, value out of range or not among the choices.
        """
        flat = with_present_names(flatten(values))
        known = {name for name, _ in _declared()}
        for name in flat:
            if name not in known:
                raise ConfigurationError(
                    f"unknown key {name!r}.{_meant(name, known)} All keys: fedf2dg keys"
                )
        configuration = _build(cls, "", flat, choices or {})
        configuration._check_together()
        return configuration

    def _check_together(self) -> None:
        names = self.stage_names
        if self.label_noise != "none" and self.label_noise_rate == 0.0:
            raise ConfigurationError(
                f"label-noise = {self.label_noise!r} needs a label-noise-rate above 0"
            )
        if self.min_successful_clients > self.clients_per_round:
            raise ConfigurationError(
                f"min-successful-clients = {self.min_successful_clients} can never be reached: "
                f"only {self.clients_per_round} clients take part in a round "
                "(num-clients x fraction-train)"
            )
        first, last = STAGES.index(names[0]), STAGES.index(names[-1])
        left_out = [name for name in STAGES[first:last] if name not in names]
        if left_out:
            raise ConfigurationError(
                f"stages = {self.stages!r} leaves out {', '.join(left_out)}, whose result "
                f"{names[-1]} needs"
            )
        if names[0] != "train" and not self.resume_from:
            raise ConfigurationError(
                f"stages = {self.stages!r} starts behind train and needs resume-from, the "
                "directory of a run that has the earlier stages' results"
            )

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The chosen stages, in the order they run."""
        given = [part.strip() for part in self.stages.split(",") if part.strip()]
        if not given:
            raise ConfigurationError(
                f"stages is empty; choose some of {', '.join(STAGES)}, separated by commas"
            )
        for name in given:
            if name not in STAGES:
                raise ConfigurationError(_unknown("stage in stages", name, STAGES))
        return tuple(name for name in STAGES if name in given)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in ``class-names``."""
        return tuple(name.strip() for name in self.class_names.split(",") if name.strip())

    @property
    def partitioning(self) -> dict[str, Any]:
        """What the division of the training data over simulated clients depends on.

        The keyword arguments of ``federated_data.client_indices`` and ``client_data``.
        """
        return {
            "clients": self.num_clients,
            "seed": self.seed,
            "kind": self.partition,
            "dirichlet_alpha": self.dirichlet_alpha,
            "classes_per_client": self.classes_per_client,
            "quantity_alpha": self.quantity_alpha,
            "min_samples": self.min_partition_size,
            "train_samples": self.train_samples,
            "class_names": self.classes,
        }

    @property
    def clients_per_round(self) -> int:
        """Number of clients sampled for a round, at least 1."""
        return max(1, round(self.num_clients * self.fraction_train))

    @property
    def required_replies(self) -> int:
        """Fewest valid replies a round needs."""
        return self.min_successful_clients or math.ceil(self.clients_per_round / 2)

    def inversion(self, kind: str) -> dict[str, Any]:
        """Return the arguments of ``generation.InversionSettings``.

        Parameters
        ----------
        kind : str
            ``"common"`` or ``"hard"``: hard samples have a competition weight of their own.
        """
        settings = self.generation
        return {
            "iterations": settings.iterations,
            "learning_rate": settings.learning_rate,
            "schedule": settings.schedule,
            "tv_weight": settings.tv_weight,
            "l2_weight": settings.l2_weight,
            "bn_weight": settings.bn_weight,
            "competition_weight": (
                self.competition.weight if kind == "hard" else settings.competition_weight
            ),
            "form": settings.form,
        }

    def flat(self) -> dict[str, Value]:
        """Return all keys in kebab case with their values, the form Flower's run-config has."""
        return {name: value for name, _, value in _walk(self)}


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
    """Read a TOML file of run-configuration keys, flattened.

    Raises
    ------
    ConfigurationError
        If the file is missing or is not TOML.
    """
    try:
        return flatten(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def key_table() -> list[tuple[str, Value, KeyInfo]]:
    """Return (key, default, what it means) for every key, in the order of declaration."""
    defaults = RunConfiguration().flat()
    return [(name, defaults[name], info) for name, info in _declared()]


# Evaluating every annotation anew would be too slow for every message.
_hints: Callable[[Any], dict[str, Any]] = cache(get_type_hints)


def _declared(cls: type[Any] = RunConfiguration, prefix: str = "") -> Iterator[tuple[str, KeyInfo]]:
    hints = _hints(cls)
    for entry in fields(cls):
        name = prefix + entry.name.replace("_", "-")
        if is_dataclass(hints[entry.name]):
            yield from _declared(hints[entry.name], f"{name}.")
        else:
            yield name, entry.metadata["info"]


def _walk(section: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Value]]:
    for entry in fields(section):
        name = prefix + entry.name.replace("_", "-")
        value = getattr(section, entry.name)
        if is_dataclass(value):
            yield from _walk(value, f"{name}.")
        else:
            yield name, entry, value


def _build(
    cls: type[Any],
    prefix: str,
    flat: Mapping[str, Any],
    choices: Mapping[str, Collection[str]],
) -> Any:
    hints = _hints(cls)
    arguments: dict[str, Any] = {}
    for entry in fields(cls):
        name = prefix + entry.name.replace("_", "-")
        kind = hints[entry.name]
        if is_dataclass(kind):
            assert isinstance(kind, type)
            arguments[entry.name] = _build(kind, f"{name}.", flat, choices)
        elif name in flat:
            info: KeyInfo = entry.metadata["info"]
            arguments[entry.name] = _checked(
                name, flat[name], kind, info, choices.get(name, info.choices)
            )
        else:
            assert entry.default is not MISSING
    return cls(**arguments)


def _checked(name: str, value: Any, kind: type, info: KeyInfo, choices: Collection[str]) -> Value:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        expected = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise ConfigurationError(
            f"{name} = {value!r} must be {expected[kind]}, not {type(value).__name__}"
        )
    if choices and value not in choices:
        raise ConfigurationError(_unknown(name, str(value), choices))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name} = {value} must be finite")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if info.above is not None and value <= info.above:
            raise ConfigurationError(f"{name} = {value} must be above {info.above:g}")
        if info.minimum is not None and value < info.minimum:
            raise ConfigurationError(f"{name} = {value} must be at least {info.minimum:g}")
        if info.maximum is not None and value > info.maximum:
            raise ConfigurationError(f"{name} = {value} must be at most {info.maximum:g}")
    return cast(Value, value)


def _unknown(what: str, value: str, choices: Collection[str]) -> str:
    listed = ", ".join(sorted(choices))
    return f"unknown {what} {value!r}.{_meant(value, choices)} Choose one of: {listed}"


def _meant(value: str, choices: Collection[str]) -> str:
    close = difflib.get_close_matches(value, choices, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
