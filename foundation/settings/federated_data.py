"""Keys of the images, and of their division over clients."""

from dataclasses import dataclass
from typing import Literal

from foundation.members import DATA_SETS
from foundation.wording import names_in

from .declaration import Section, key


@dataclass(frozen=True)
class FederatedDataKeys(Section):
    """What a federation learns from; part of the run's configuration."""

    dataset: str = key(
        "digits",
        "The data set: digits is embedded, parquet and folder are your own images, all others are "
        "downloaded.",
        original="dataset",
        family=DATA_SETS,
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
    unreadable_images: Literal["refuse", "leave-out"] = key(
        "refuse",
        "What happens to image files that cannot be read: refuse (the run stops and names "
        "them) or leave-out (the run goes on without them and names them).",
    )
    train_samples: int = key(
        0,
        "Training images to use, a stratified subset drawn by seed; 0 means all.",
        unit="images",
        minimum=0,
    )
    partition: str = key(
        "dirichlet",
        "How the training data is split over simulated clients. dirichlet divides each class over "
        "the clients (NIID-Bench, DENSE); dirichlet-balanced gives clients of one size shares of "
        "the classes (FedDyn, Co-Boosting). folders: data-dir holds one folder "
        "(or parquet file) for each site, and each is one client; num-clients follows.",
        choices=("iid", "dirichlet", "dirichlet-balanced", "classes", "quantity", "folders"),
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
    normalization: Literal["auto", "data-set", "imagenet", "measured"] = key(
        "auto",
        "Mean and deviation that pixels are brought to 0 and 1 from: data-set, the data set's own; "
        "imagenet, those that torchvision's weights were trained with; measured, those of the "
        "clients' training images, whose pixels they add up when they join; auto, those that the "
        "initial-weights were trained with, else the data set's.",
    )
    augmentation: Literal["auto", "none", "crop-flip", "crop-flip-rotate"] = key(
        "auto",
        "Augmentation of the training images; auto is the data set's usual one, and for images of "
        "your own crop-flip where they are in colour and have 16 pixels or more a side, else none; "
        "none where the encoder is frozen, which is then run once over each image.",
    )
    feature_noise: float = key(
        0.0,
        "Standard deviation of Gaussian noise on a client's images (of the noisiest client), those "
        "that it holds out too.",
        unit="pixel range",
        minimum=0.0,
        maximum=1.0,
        original="noise",
    )
    feature_noise_kind: Literal["level", "space"] = key(
        "level",
        "level: grows with the client's index; space: lands in a part of the image that depends "
        "on the client.",
        original="noise_type",
    )
    label_noise: Literal["none", "symmetric", "pairflip"] = key(
        "none",
        "Wrong training labels.",
        original="label_noise_type",
    )
    label_noise_rate: float = key(
        0.0,
        "Fraction of wrong training labels.",
        minimum=0.0,
        maximum=1.0,
        original="label_noise_rate",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in ``class-names``."""
        return names_in(self.class_names)

    @property
    def measures_pixels(self) -> bool:
        """Whether the clients add up their pixels, to be normalised by what all of them have."""
        return self.normalization == "measured"
