"""What a class mean of few images shows: invert one, and compare it with the images behind it.

``python -m benchmarks.class_mean RUN_DIR --output PICTURE`` takes a finished run. Of a client's
training images of one class it averages the features of the first k, as the client would send them
(``post_training`` methods that ask for class means), and looks for an image whose features under
the run's model are that mean: Adam on the pixels from grey, with total variation as prior. Nobody
needs the client for that. The picture shows, for each k, the images (the first four), their mean,
and what was found.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from foundation.models import Classifier, read_model
from foundation.settings.configuration import RunConfiguration
from generation.objective import total_variation
from server_app.run_directory import settings_to_resume

COUNTS = (1, 2, 5, 20)
#: Images of a class that the found one is compared with; a client's class with fewer is left out.
CROWD = 40
_SHOWN = 4


def image_of(
    model: Classifier,
    features: Tensor,
    shape: tuple[int, int, int],
    limits: tuple[Tensor, Tensor],
    *,
    steps: int = 1500,
    learning_rate: float = 0.05,
    prior: float = 1e-5,
) -> Tensor:
    """Return an image whose features are as near as can be to given ones.

    Minimises ‖f(x) - f*‖²/‖f*‖² + prior·TV(x) with Adam, x clipped to the range of pixels.

    Parameters
    ----------
    model : Classifier
        In evaluation mode.
    features : Tensor
        f*, (d,).
    shape : tuple of int
        (C, H, W).
    limits : tuple of Tensor
        Least and largest value of each channel, (C, 1, 1).
    steps, learning_rate, prior
        Of the search.

    Returns
    -------
    Tensor
        (C, H, W), normalised pixels.
    """
    image = torch.zeros(1, *shape, requires_grad=True)
    search = torch.optim.Adam([image], learning_rate)
    scale = features.square().sum()
    for _ in range(steps):
        search.zero_grad()
        distance = (model.embed(image)[0] - features).square().sum() / scale
        (distance + prior * total_variation(image)).backward()
        search.step()
        with torch.no_grad():
            image.clamp_(*limits)
    return image.detach()[0]


def likeness(first: Tensor, second: Tensor) -> float:
    """Return the correlation of two images' pixels, -1 to 1."""
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


def crowds(configuration: RunConfiguration) -> Iterator[tuple[int, int, Tensor]]:
    """Yield client, class and normalised training images of it, where there are enough."""
    normalization = configuration.data_set.describe().normalization
    for client in range(configuration.num_clients):
        data = configuration.division.data(client)
        for label in range(len(data.class_names)):
            rows = (data.labels == label).nonzero()[0][:CROWD]
            if len(rows) == CROWD:
                yield client, label, normalization.apply(torch.tensor(data.images[rows]))


def main() -> None:
    """Invert class means of a run's clients, say how like they are to what, and draw the first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="a PNG")
    parser.add_argument("--classes", type=int, default=6, help="clients' classes to try")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    configuration = RunConfiguration.parse(settings_to_resume(arguments.run))
    _, model = read_model(arguments.run / "model")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    low, high = configuration.data_set.describe().normalization.bounds()
    limits = (torch.tensor(low).view(-1, 1, 1), torch.tensor(high).view(-1, 1, 1))
    # By k: how like to the mean of the k, how like to the first of them, and its place.
    found: dict[int, list[tuple[float, float, int]]] = {count: [] for count in COUNTS}
    missed: list[float] = []
    rows: list[list[Tensor]] = []
    for index, (client, label, images) in enumerate(crowds(configuration)):
        if index == arguments.classes:
            break
        features, shape = model.embed(images), (images.shape[1], images.shape[2], images.shape[3])
        for count in COUNTS:
            picture = image_of(model, features[:count].mean(0), shape, limits)
            likes = [likeness(picture, image) for image in images]
            place = 1 + sum(other > likes[0] for other in likes[1:])
            miss = model.embed(picture[None])[0] - features[:count].mean(0)
            missed.append(float(miss.square().sum() / features[:count].mean(0).square().sum()))
            like_mean = likeness(picture, images[:count].mean(0))
            found[count].append((like_mean, likes[0], place))
            if index == 0:
                rows.append([*images[:count][:_SHOWN], images[:count].mean(0), picture])
        print(f"client {client}, class {label}: done", flush=True)
    for count, values in found.items():
        means = torch.tensor([value[:2] for value in values]).mean(0)
        places = sorted(value[2] for value in values)
        print(
            f"mean of {count}: correlation with the mean image {means[0]:.2f}, with the first of "
            f"the images {means[1]:.2f}, whose place among {CROWD} of its class is {places}"
        )
    print(f"squared distance to the means, relative: up to {max(missed):.1e}")
    _draw(rows, limits).savefig(arguments.output, dpi=120)


def _draw(rows: list[list[Tensor]], limits: tuple[Tensor, Tensor]) -> Figure:
    figure = Figure(figsize=(1.3 * (_SHOWN + 2), 1.4 * len(rows)))
    axes = figure.subplots(len(rows), _SHOWN + 2, squeeze=False)
    for line, count, images in zip(axes, COUNTS, rows, strict=True):
        places = [*range(len(images) - 2), _SHOWN, _SHOWN + 1]
        for place in line:
            place.set_axis_off()
        for place, image in zip(places, images, strict=True):
            pixels = ((image - limits[0]) / (limits[1] - limits[0])).clamp(0, 1)
            line[place].imshow(pixels.permute(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        line[0].set_title(f"{count} images", fontsize=8)
        line[_SHOWN].set_title("mean", fontsize=8)
        line[_SHOWN + 1].set_title("found", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
