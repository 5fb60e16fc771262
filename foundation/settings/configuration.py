"""The run configuration: every key, its meaning, unit, range and default, declared once.

The keys of a section are declared in the room ``settings``, all others here.

Keys are written in kebab case (``num-server-rounds``, ``generation.iterations``) wherever a user
meets them: ``pyproject.toml``, ``--run-config``, TOML files, ``fedf2dg simulate KEY=VALUE``. They
are parsed and checked once, into frozen dataclasses; an unknown key, a wrong type or an
impossible value stops the run before any work.
"""

from __future__ import annotations

import logging
import math
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from foundation.settings import (
    CalibrationSettings,
    CoBoostingSettings,
    CompetitionSettings,
    ConfigurationError,
    DenseSettings,
    DistillationSettings,
    FedACGSettings,
    FedADISettings,
    FedDynSettings,
    FedFTGSettings,
    FedNTDSettings,
    FedRSSettings,
    FedVLSSettings,
    GenerationSettings,
    InversionSettings,
    KeyInfo,
    LogitAdjustmentSettings,
    MoonSettings,
    RobustSettings,
    ScheduleSettings,
    Section,
    ServerOptimizerSettings,
    Value,
    inversion_of,
    key,
)
from foundation.settings.declaration import checked, meant, names_in, unknown
from foundation.settings.post_training import AUTO, methods_for

if TYPE_CHECKING:
    from foundation.data import DataSet, Division

SomeSection = TypeVar("SomeSection", bound=Section)

__all__ = [
    "STAGES",
    "ConfigurationError",
    "KeyInfo",
    "RunConfiguration",
    "Value",
    "flatten",
    "key_table",
    "read_toml",
    "typed",
    "with_present_names",
]

#: The stages of a run, in their order (the four scripts of the original project).
STAGES = ("train", "generate", "distil", "compete")


log = logging.getLogger("flwr.fedf2dg")

#: Keys of the release before, by the name they had.
_RENAMED = {"hook": "post-training"}


@dataclass(frozen=True)
class RunConfiguration(Section):
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
        "The federated algorithm: fedavg, fedprox, fednova, scaffold, moon, fedacg, feddyn; "
        "Flower's own fedadam, fedyogi, fedadagrad, fedavgm, fedmedian, fedtrimmedavg, krum, "
        "multikrum, bulyan, qfedavg; "
        "for label skew fedlc, fedrs, fedntd, fedvls; "
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
        is_path=True,
    )
    class_names: str = key(
        "",
        "Classes of a data set of your own, separated by commas, in the order of their labels; "
        "empty: those its files show.",
    )
    image_shape: str = key(
        "",
        "Channels, height and width of the federation's images, such as 3x32x32, for a server that "
        "has none (data-dir empty; class-names names the classes). Empty: those of its images.",
    )
    image_size: int = key(
        0,
        "Side of the square that every image is brought to: its shorter side is resized, and its "
        "centre is cut out. 0: the images' own size, which must be one for all.",
        unit="pixels",
        minimum=0,
        maximum=4096,
    )
    unreadable_images: str = key(
        "refuse",
        "What happens to image files that cannot be read: refuse (the run stops and names the "
        "first) or leave-out (the run goes on without them and names them).",
        choices=("refuse", "leave-out"),
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
        "How the training data is split over simulated clients. folders: data-dir holds one folder "
        "(or parquet file) for each site, and each is one client; num-clients follows.",
        choices=("iid", "dirichlet", "classes", "quantity", "folders"),
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
    acceptance: str = key(
        "clients",
        "Who judges the result of every stage of post-training: clients (on their held-out images; "
        "a result that does not help is not kept, or only in part) or none (every result is kept).",
        choices=("clients", "none"),
        binds="distil",
    )
    evaluation: str = key(
        "auto",
        "Who measures the accuracies that are reported: server (on its test images), clients (on "
        "their held-out images), both; auto: the server where it has test images, else clients.",
        choices=("auto", "server", "clients", "both"),
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
        "Longest wait for the replies to one question (a round, a judgement, images), after its "
        "last message. In the local engine's processes: the longest that one client may take; a "
        "client in this process (processes=1) is not bounded, nor is an upload that has begun.",
        unit="seconds",
        above=0.0,
        binds="run",
    )
    node_timeout: float = key(
        120.0,
        "Longest wait for num-clients nodes to be connected. Those that are have 180 seconds or "
        "more to look at their data.",
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
    batch_norm: str = key(
        "averaged",
        "BatchNorm's running statistics. averaged: the mean of the local models'; measured: "
        "what the clients' images give the averaged model, before it is judged, inverted or kept; "
        "frozen: averaged, but local training leaves them alone in late rounds.",
        choices=("averaged", "measured", "frozen"),
    )
    batch_norm_frozen_from: int = key(
        0,
        "First round with frozen statistics; 0: the first of the second half.",
        unit="round",
        minimum=0,
    )
    weight_decay: float = key(1e-5, "Local weight decay λ.", minimum=0.0, original="reg")
    proximal_mu: float = key(
        0.01, "Weight μ of FedProx's proximal term (μ/2)·‖y − x‖².", minimum=0.0, original="mu"
    )
    local_loss: str = key(
        "cross-entropy",
        "Local training loss: cross-entropy, symmetric-cross-entropy (for wrong labels), or for "
        "label skew logit-adjusted, calibrated (FedLC), restricted-softmax (FedRS), "
        "not-true-distillation (FedNTD), vacant-class-distillation (FedVLS).",
        choices=(
            "cross-entropy",
            "symmetric-cross-entropy",
            "logit-adjusted",
            "calibrated",
            "restricted-softmax",
            "not-true-distillation",
            "vacant-class-distillation",
        ),
    )
    model: str = key(
        "resnet8",
        "The classifier: resnet8, resnet18, resnet20, resnet32, resnet34, vgg11, cnn; with "
        "GroupNorm resnet8-gn, resnet18-gn; for images of 32 pixels and more efficientnet_lite0, "
        "timm/NAME (any classifier of timm, which is to be installed), torchvision/resnet18, "
        "torchvision/resnet34, torchvision/resnet50, torchvision/mobilenet_v3_small, "
        "torchvision/efficientnet_b0, torchvision/shufflenet_v2_x0_5, "
        "torchvision/shufflenet_v2_x1_0, torchvision/convnext_tiny, torchvision/vit_b_16.",
        original="model",
    )
    initial_weights: str = key(
        "",
        "Weights that training starts from: imagenet, trained ones for the model (of "
        "efficientnet_lite0 from the package of fedf2dg[pretrained]; of torchvision/NAME and "
        "timm/NAME downloaded); a file of them (safetensors, or a checkpoint of PyTorch's); the "
        "directory of an earlier run or its model/. The server alone needs them; a head for other "
        "classes is replaced. Empty: fresh weights, drawn by seed.",
        is_path=True,
        words=("imagenet",),
    )
    freeze: str = key(
        "",
        "Layers that are not trained, separated by commas: encoder (all but projection and head), "
        "or names of layers, such as encoder.0; their BatchNorm statistics stay as well. Empty: "
        "all are trained.",
    )
    normalization: str = key(
        "auto",
        "Mean and deviation that pixels are brought to 0 and 1 from: data-set, the data set's own; "
        "imagenet, those that torchvision's weights were trained with; measured, those of the "
        "clients' training images, whose pixels they add up when they join; auto, those that the "
        "initial-weights were trained with, else the data set's.",
        choices=("auto", "data-set", "imagenet", "measured"),
    )
    augmentation: str = key(
        "auto",
        "Augmentation of the training images; auto is the data set's usual one, and for images of "
        "your own crop-flip where they are in colour and have 16 pixels or more a side, else none.",
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
        "to invert. 0: one per processor, at most 8, where the work is worth it, or one per GPU; "
        "1: none but this. More than there are GPUs share them.",
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
    post_training: str = key(
        AUTO,
        "What is done to the global model after training: calibration, fedf2dg, its peers fedadi, "
        "dense, co_boosting and fedftg, none, a file of your own in post_training/, or several, "
        "one after the other, separated by commas (in fedf2dg compare, whose commas separate "
        "values, by plus signs). auto: fedf2dg, and calibration behind it for images of 16 pixels "
        "a side or more whose clients' label counts are known.",
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
    class_statistics_minimum: int = key(
        5,
        "Fewest images of a class whose features a client adds up for the server: the mean of few "
        "is close to each of them.",
        unit="images",
        minimum=1,
        binds="generate",
    )
    class_statistics_noise: float = key(
        0.0,
        "Gaussian noise that a client adds to its sums of features.",
        unit="root mean square of a feature",
        minimum=0.0,
        binds="generate",
    )
    sinks: str = key(
        "",
        "Where the run's numbers and pictures go beside its directory, several separated by "
        "commas: csv, mlflow, tensorboard, wandb (each but csv needs the library of that name).",
        binds="run",
    )
    moon: MoonSettings = field(default_factory=MoonSettings)
    server_optimizer: ServerOptimizerSettings = field(default_factory=ServerOptimizerSettings)
    fedacg: FedACGSettings = field(default_factory=FedACGSettings)
    feddyn: FedDynSettings = field(default_factory=FedDynSettings)
    robust: RobustSettings = field(default_factory=RobustSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    logit_adjustment: LogitAdjustmentSettings = field(default_factory=LogitAdjustmentSettings)
    fedrs: FedRSSettings = field(default_factory=FedRSSettings)
    fedntd: FedNTDSettings = field(default_factory=FedNTDSettings)
    fedvls: FedVLSSettings = field(default_factory=FedVLSSettings)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    competition: CompetitionSettings = field(default_factory=CompetitionSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    fedadi: FedADISettings = field(default_factory=FedADISettings)
    dense: DenseSettings = field(default_factory=DenseSettings)
    co_boosting: CoBoostingSettings = field(default_factory=CoBoostingSettings)
    fedftg: FedFTGSettings = field(default_factory=FedFTGSettings)

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
        if isinstance(methods := flat.get("post-training"), str):
            # A plus sign is a comma that fedf2dg compare does not take for its own.
            flat["post-training"] = methods.replace("+", ",")
        known = {name for name, _ in _declared()}
        for name in flat:
            if name not in known:
                raise ConfigurationError(
                    f"unknown key {name!r}.{meant(name, known)} All keys: fedf2dg keys"
                )
        configuration = _build(cls, "", flat, choices or {})
        configuration._check_together()
        return configuration

    def _check_together(self) -> None:
        names = self.stage_names
        if not self.label_counts_told and self.distillation.teacher in (
            "prior-corrected",
            "class-weighted",
            "masked",
        ):
            raise ConfigurationError(
                f"distillation.teacher = {self.distillation.teacher!r} needs every client's label "
                "counts, which label-counts=uniform and generation.place=client keep from the "
                "server: choose auto, own or uniform"
            )
        if self.generation.labels == "balanced" and self.generation.place == "client":
            raise ConfigurationError(
                "generation.labels = 'balanced' weighs clients' label counts against each other, "
                "which generation.place=client keeps from the server: choose principle, or "
                "generation.place=server"
            )
        if self.label_noise != "none" and self.label_noise_rate == 0.0:
            raise ConfigurationError(
                f"label-noise = {self.label_noise!r} needs a label-noise-rate above 0"
            )
        if self.schedule.warm_up_rounds >= self.num_server_rounds and self.schedule.warm_up_rounds:
            raise ConfigurationError(
                f"schedule.warm-up-rounds = {self.schedule.warm_up_rounds} must be below "
                f"num-server-rounds = {self.num_server_rounds}"
            )
        if self.evaluation in ("clients", "both") and self.validation_share == 0:
            raise ConfigurationError(
                f"evaluation = {self.evaluation!r} needs a validation-share above 0: the clients "
                "measure on the images that they hold out"
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
    def label_counts_told(self) -> bool:
        """Whether the server may know how many images of each class the clients have."""
        return self.label_counts != "uniform" and self.generation.place == "server"

    @property
    def exact_counts_told(self) -> bool:
        """Whether clients answer by class, with exact numbers; otherwise in totals alone."""
        return self.label_counts == "uploaded" and self.label_counts_told

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in ``class-names``."""
        return names_in(self.class_names)

    @property
    def sink_names(self) -> tuple[str, ...]:
        """The names in ``sinks``; a plus sign separates them in a comparison."""
        return tuple(dict.fromkeys(names_in(self.sinks.replace("+", ","))))

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """The names in ``freeze``."""
        return names_in(self.freeze)

    @property
    def data_set(self) -> DataSet:
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
    def division(self) -> Division:
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

    @property
    def measures_pixels(self) -> bool:
        """Whether the clients add up their pixels, to be normalised by what all of them have."""
        return self.normalization == "measured"

    def augmentation_for(self, usual: str) -> str:
        """Return the augmentation of the training images, where ``usual`` is what suits them."""
        return usual if self.augmentation == "auto" else self.augmentation

    def post_training_for(self, image_size: tuple[int, int]) -> str:
        """Return the names of the methods for images of (height, width) pixels."""
        return methods_for(self.post_training, image_size, self.label_counts_told)

    def freezes_statistics_at(self, server_round: int) -> bool:
        """Tell whether local training of a round leaves BatchNorm's running statistics alone."""
        first = self.batch_norm_frozen_from or self.num_server_rounds // 2 + 1
        return self.batch_norm == "frozen" and server_round >= first

    def learning_rate_at(self, server_round: int) -> float:
        """Return the local step size η of a round, counted from 1, for the server and clients."""
        return self.learning_rate * self._factor("learning-rate", server_round)

    def with_mu_at(self, server_round: int) -> RunConfiguration:
        """Return the configuration with the weights μ that FedProx and MOON have in a round."""
        factor = self._factor("mu", server_round)
        if factor == 1.0:
            return self
        return replace(
            self,
            proximal_mu=self.proximal_mu * factor,
            moon=replace(self.moon, mu=self.moon.mu * factor),
        )

    def _factor(self, of: str, server_round: int) -> float:
        if self.schedule.of not in (of, "both"):
            return 1.0
        return self.schedule.factor(server_round, self.num_server_rounds)

    @property
    def clients_per_round(self) -> int:
        """Number of clients sampled for a round, at least 1."""
        return max(1, round(self.num_clients * self.fraction_train))

    @property
    def required_replies(self) -> int:
        """Fewest valid replies a round needs."""
        return self.min_successful_clients or math.ceil(self.clients_per_round / 2)

    def inversion(self, kind: str) -> InversionSettings:
        """Return the settings of an inversion; see :func:`foundation.settings.inversion_of`."""
        return inversion_of(kind, self.generation, self.competition)

    def flat(self) -> dict[str, Value]:
        """Return all keys in kebab case with their values, the form Flower's run-config has."""
        return dict(_walk(self))


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


def typed(name: str, text: str) -> Value:
    """Read a text as a value of a key's type.

    What is not of that type stays a text: the parser's message names the key, the value and the
    type.
    """
    kind = _kinds().get(name, str)
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


@cache
def _kinds() -> dict[str, type]:
    return {name: info.kind for name, info in _declared()}


def key_table() -> list[tuple[str, Value, KeyInfo]]:
    """Return (key, default, what it means) for every key, in the order of declaration."""
    defaults = RunConfiguration().flat()
    return [(name, defaults[name], info) for name, info in _declared()]


def _section(entry: Field[Any]) -> type[Section] | None:
    """Return the class of a field that is a section of its own, else None."""
    make = entry.default_factory
    return make if isinstance(make, type) and issubclass(make, Section) else None


def _keys(cls: type[Section]) -> Iterator[tuple[str, Field[Any]]]:
    """Name the fields that are keys of a run, or sections, as a user writes them."""
    for entry in fields(cls):  # type: ignore[arg-type]
        if _section(entry) or not entry.metadata["info"].in_library_only:
            # An underscore at the end is only there because Python has a word of that name.
            yield entry.name.rstrip("_").replace("_", "-"), entry


def _declared(
    cls: type[Section] = RunConfiguration, prefix: str = ""
) -> Iterator[tuple[str, KeyInfo]]:
    for name, entry in _keys(cls):
        if inner := _section(entry):
            yield from _declared(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, entry.metadata["info"]


def _walk(section: Section, prefix: str = "") -> Iterator[tuple[str, Value]]:
    for name, entry in _keys(type(section)):
        value = getattr(section, entry.name)
        if isinstance(value, Section):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _build(
    cls: type[SomeSection],
    prefix: str,
    flat: Mapping[str, Any],
    choices: Mapping[str, Collection[str]],
) -> SomeSection:
    arguments: dict[str, Any] = {}
    for short, entry in _keys(cls):
        name = prefix + short
        if inner := _section(entry):
            arguments[entry.name] = _build(inner, f"{name}.", flat, choices)
        elif name in flat:
            arguments[entry.name] = checked(
                name, flat[name], entry.metadata["info"], choices.get(name, ())
            )
    return cls(**arguments)
