"""What a run's model says of the server's test images, one by one and by site, for its report."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedf2dg.report.document import Section, Table
from fedf2dg.report.run_record import mapping
from fedf2dg.report.verdict import Evidence, sites_table
from fedf2dg.report.wrong_images import MOST, WrongImages
from foundation import write_whole
from foundation.scores import Outcomes
from foundation.settings.configuration import RunConfiguration

#: What is kept of it in the run's directory.
TESTED = "test_images.json"


def ask_about_test_images(directory: Path) -> None:
    """Have the model that a run kept classify the server's test images, where it has some."""
    from fedf2dg.use.trained_model import BATCH, load_model  # who reads a report needs no PyTorch

    config = json.loads((directory / "config.json").read_text("utf-8"))
    configuration = RunConfiguration.parse(mapping(config.get("configuration")))
    data_set = configuration.data_set
    if not (directory / "model").is_dir() or not data_set.has("test"):
        return
    model, data = load_model(directory, configuration.device), data_set.load("test")
    place, found, wrong = data_set.places("test"), [], WrongImages()
    for start in range(0, len(data), BATCH):
        images = data.images[start : start + BATCH]
        labels = data.labels[start : start + BATCH]
        logits = model.logits(model.normalized(images))
        found.append(logits.numpy())
        shares, answers = logits.softmax(dim=1).max(dim=1)
        for row in np.flatnonzero(answers.numpy() != labels):
            said = f"{model.classes[labels[row]]}, answered {model.classes[int(answers[row])]}"
            where = place(start + int(row)).removeprefix(f"{configuration.data_dir}/")
            wrong.add(said, where, float(shares[row]), images[row] / 255)
    every, labels = np.concatenate(found), np.asarray(data.labels)
    sites = {
        name: Outcomes.counted(every[rows], labels[rows]).as_json(brief=True)
        for name, rows in data_set.test_sites().items()
    }
    content = {"wrong": wrong.as_json(), "sites": sites}
    write_whole(directory / TESTED, json.dumps(content, indent=1) + "\n")


def read_test_images(directory: Path, names: Sequence[str]) -> tuple[Table | None, list[Section]]:
    """Return a table of the sites' test images, and the section of wrong ones; often neither."""
    try:
        content = mapping(json.loads((directory / TESTED).read_text("utf-8")))
        wrong = WrongImages.read(content["wrong"])
        told = {name: Outcomes.read(of) for name, of in mapping(content["sites"]).items()}
    except (OSError, KeyError, TypeError, ValueError):
        return None, []
    sites = {name: outcomes for name, outcomes in told.items() if outcomes is not None}
    table = sites_table(Evidence(sites=sites, on_sites="test images"), names)
    return table if sites else None, wrong.section(MOST // 2)
