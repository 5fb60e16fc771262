"""The sections of FedF²DG's peers: all have a student, and most a generator."""

from dataclasses import dataclass

from .declaration import Section, key
from .distillation import Statistics


@dataclass(frozen=True)
class StudentSettings(Section, binds="generate"):
    """How the global model learns from pseudo images."""

    batch_size: int = key(
        64,
        "Images made at once, and images per step of the student (the papers: 128 to 256).",
        unit="images",
        minimum=2,
    )
    learning_rate: float = key(
        0.01,
        "SGD's first step size on the global model; it falls to 0 along half a cosine.",
        above=0.0,
    )
    statistics: Statistics = key(
        "update",
        "What BatchNorm layers of the student normalise with: the batch, which moves their running "
        "statistics (update: the papers), or the federated statistics, which stay (frozen).",
    )


@dataclass(frozen=True)
class GeneratorSettings(StudentSettings):
    """A generator of images, and a student that learns from them; the section of each method."""

    width: int = key(
        32,
        "Channels of the generator's last hidden layer (the papers' programs: 64).",
        unit="channels",
        minimum=1,
    )
    generator_learning_rate: float = key(
        1e-2,
        "Adam's step size on generator and noise (the papers' programs: 0.001, for many more "
        "steps).",
        above=0.0,
    )


@dataclass(frozen=True)
class GrowingPoolSettings(GeneratorSettings):
    """A batch of images for each epoch, and a pass over all that there are so far."""

    epochs: int = key(
        20,
        "Batches of images, after each of which the student passes over all there are (the "
        "papers: 200).",
        unit="epochs",
        minimum=1,
    )
    steps: int = key(30, "Steps of the generator for each batch.", unit="steps", minimum=1)


@dataclass(frozen=True)
class DenseSettings(GrowingPoolSettings, name="dense"):
    """DENSE (Zhang et al. 2022)."""

    bn_weight: float = key(
        0.1,
        "Weight of the distance to the members' BatchNorm statistics (the paper: 1).",
        symbol="λ1",
        minimum=0.0,
    )
    disagreement_weight: float = key(
        0.5,
        "Weight of the disagreement of ensemble and global model, where their classes differ.",
        symbol="λ2",
        minimum=0.0,
    )
    temperature: float = key(20.0, "Temperature T of the soft labels.", symbol="T", above=0.0)


@dataclass(frozen=True)
class CoBoostingSettings(GrowingPoolSettings, name="co-boosting"):
    """Co-Boosting (Dai et al. 2024)."""

    gamma: float = key(
        1.0,
        "Exponent of the weight (1 − p_y)^γ of an image's cross-entropy; 0: all weigh the same.",
        symbol="γ",
        minimum=0.0,
    )
    disagreement_weight: float = key(
        1.0, "Weight of the disagreement of ensemble and global model.", symbol="β", minimum=0.0
    )
    bn_weight: float = key(
        0.0,
        "Weight of the distance to the members' BatchNorm statistics, which the paper leaves out.",
        minimum=0.0,
    )
    epsilon: float = key(
        8.0,
        "Size of the sign step that makes images more diverse before the student sees them.",
        symbol="255·ε",
        unit="of 255 levels of brightness",
        minimum=0.0,
        maximum=255.0,
    )
    mu: float = key(
        0.1,
        "Size, times the number of local models, of a sign step on the ensemble's weights; 0: the "
        "weights stay equal.",
        symbol="μ",
        minimum=0.0,
    )
    temperature: float = key(4.0, "Temperature T of the soft labels.", symbol="T", above=0.0)


@dataclass(frozen=True)
class FedFTGSettings(GeneratorSettings, name="fedftg"):
    """FedFTG (Zhang et al. 2022)."""

    iterations: int = key(
        200,
        "Turns of one step of the generator and several of the student (the paper: 10 after every "
        "federated round).",
        unit="steps",
        minimum=1,
    )
    warm_up: int = key(
        100,
        "Steps of the generator before the student begins to learn: the first images are noise.",
        unit="steps",
        minimum=0,
    )
    # Smaller than elsewhere: here the images change while the student learns, and none is kept.
    learning_rate: float = key(
        0.002,
        "SGD's first step size on the global model; it falls to 0 along half a cosine.",
        above=0.0,
    )
    generator_learning_rate: float = key(1e-3, "Adam's step size on the generator.", above=0.0)
    student_steps: int = key(5, "Steps of the student in each turn.", unit="steps", minimum=1)
    discrepancy_weight: float = key(
        1.0,
        "Weight of the discrepancy of global and local models, which the generator seeks.",
        symbol="λ_md",
        minimum=0.0,
    )
    diversity_weight: float = key(
        1.0, "Weight of the images' diversity.", symbol="λ_dis", minimum=0.0
    )


@dataclass(frozen=True)
class FedADISettings(StudentSettings, name="fedadi"):
    """Inversion of the ensemble of local models; ``generation.*`` says how."""

    images: int = key(
        256,
        "Pseudo images in all, as many of every class. Each step runs each of them through all "
        "local models.",
        unit="images",
        minimum=2,
    )
    epochs: int = key(100, "Passes over the pseudo images.", unit="epochs", minimum=1)
    temperature: float = key(20.0, "Temperature T of the soft labels.", symbol="T", above=0.0)
