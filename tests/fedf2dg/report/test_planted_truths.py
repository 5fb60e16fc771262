"""Five runs whose truth is planted: the first words tell it, of the whole and of each site.

Real runs on the handwritten digits 0 to 4, in the folders of four sites, of which each has 34
images of a class and holds half of them out. The server has no image, and every site holds the
model against one of its own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from fedf2dg.report.document import Cell
from fedf2dg.report.verdict import Evidence, on_the_whole, sites_table
from fedf2dg.simulation.local_run import run_locally
from fedf2dg.starters import write_folders
from foundation.data import DataSet, ImageData
from server_app import preflight

pytestmark = pytest.mark.slow

NAMES = ("0", "1", "2", "3", "4")
SITES = ("east", "north", "south", "west")
IMAGES = 34
#: Images of each class where one is frequent.
UNEQUAL = (90, 20, 20, 20, 20)
KEYS = {
    "dataset": "folder",
    "partition": "folders",
    "evaluation": "clients",
    "evaluation-every": 0,
    "validation-share": 0.5,
    "baseline": "local",
    "post-training": "none",
    "strategy": "fedavg",
    "model": "cnn",
    "augmentation": "none",
    "num-server-rounds": 6,
    "local-epochs": 2,
    "learning-rate": 0.05,
    "processes": 1,
}

Plant = Callable[[ImageData, str, np.random.Generator], ImageData]


def good(data: ImageData, site: str, draw: np.random.Generator) -> ImageData:
    return data


def wrong_labels(data: ImageData, site: str, draw: np.random.Generator) -> ImageData:
    """West names its images at random."""
    labels = draw.integers(0, len(NAMES), len(data)) if site == "west" else data.labels
    return ImageData(data.images, labels, NAMES)


def unlearnable_class(data: ImageData, site: str, draw: np.random.Generator) -> ImageData:
    """The images of class 4 are those of other classes."""
    images, others = data.images.copy(), np.flatnonzero(data.labels != 4)
    rows = np.flatnonzero(data.labels == 4)
    images[rows] = data.images[draw.choice(others, len(rows))]
    return ImageData(images, data.labels, NAMES)


def better_alone(data: ImageData, site: str, draw: np.random.Generator) -> ImageData:
    """What is a 1 everywhere else is a 2 in the west, and so on."""
    labels = (data.labels + 1) % len(NAMES) if site == "west" else data.labels
    return ImageData(data.images, labels, NAMES)


def nothing_to_learn(data: ImageData, site: str, draw: np.random.Generator) -> ImageData:
    """Labels have nothing to do with the images, and one of them is frequent."""
    return ImageData(data.images, draw.permutation(np.repeat(np.arange(5), UNEQUAL)), NAMES)


def carry_out(plant: Plant, folder: Path) -> Evidence:
    """Write the sites' files, carry out a run on them, and return what its summary tells."""
    data, draw = DataSet("digits").load("train"), np.random.default_rng(0)
    order = draw.permutation(len(data))
    rows = [order[data.labels[order] == label][: len(SITES) * IMAGES] for label in range(5)]
    for place, site in enumerate(SITES):
        own = np.concatenate([found[place :: len(SITES)] for found in rows])
        part = ImageData(data.images[own], data.labels[own], NAMES)
        write_folders(folder / "sites" / site, plant(part, site, draw), "L")
    places = {"data-dir": str(folder / "sites"), "output-dir": str(folder / "run")}
    configuration = preflight.parse({**KEYS, **places})
    preflight.check(configuration, simulated=True)
    return Evidence.of(run_locally(configuration))


OWN, OWNS = "the site's own model", "the sites' own models"
FINE = ("Better than guessing; ", ("good", "unsure"))


@pytest.mark.parametrize(
    ("plant", "whole", "west", "others"),
    [
        (
            good,
            (f"Better than guessing; better than {OWNS} by ", ("good",)),
            FINE,
            FINE,
        ),
        (
            wrong_labels,
            (
                f"Better than guessing, but not at west; not shown to be better than {OWNS}",
                ("unsure",),
            ),
            # Nobody can learn them: its own model is no better.
            (f"Worse than guessing; not shown to be better than {OWN}", ("bad",)),
            FINE,
        ),
        (
            unlearnable_class,
            ("Better than guessing, but blind at some classes; ", ("unsure",)),
            ("Better than guessing, but blind at some classes; ", ("unsure",)),
            ("Better than guessing, but blind at some classes; ", ("unsure",)),
        ),
        (
            better_alone,
            (f"Better than guessing, but not at west; worse than {OWNS} by ", ("bad",)),
            (f"Worse than guessing; worse than {OWN} by ", ("bad",)),
            FINE,
        ),
        (
            nothing_to_learn,
            (f"Guessing; not shown to be better than {OWNS}", ("bad",)),
            (f"Guessing; not shown to be better than {OWN}", ("bad",)),
            (f"Guessing; not shown to be better than {OWN}", ("bad",)),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_is_told(
    plant: Plant,
    whole: tuple[str, tuple[str, ...]],
    west: tuple[str, tuple[str, ...]],
    others: tuple[str, tuple[str, ...]],
    tmp_path: Path,
) -> None:
    evidence = carry_out(plant, tmp_path)
    found, _ = on_the_whole(evidence, NAMES)
    assert found.word.startswith(whole[0]) and found.kind in whole[1], found.sentence
    if plant is unlearnable_class:
        assert found.blind == ("4",) and found.good == ("0", "1", "2", "3")
    if plant is nothing_to_learn:
        assert found.blind == NAMES
    if plant is good:
        assert found.good == NAMES
    told = words(evidence)
    assert set(told) == set(SITES)
    for site, (word, kind) in told.items():
        expected, kinds = west if site == "west" else others
        assert word.startswith(expected) and kind in kinds, (site, word)


def words(evidence: Evidence) -> Mapping[str, tuple[str, str]]:
    """Return the verdict on each site and its kind, as the page shows them."""
    rows = {str(row[0]): row[1] for row in sites_table(evidence, NAMES).rows}
    cells = {site: cell for site, cell in rows.items() if isinstance(cell, Cell)}
    return {site: (cell.content, cell.kind.split()[-1]) for site, cell in cells.items()}
