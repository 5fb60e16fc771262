"""Does a part of the model that is a site's own pay, and does its judge say where? On digits.

Sites of the digits that look alike, or each in its own way: noisy, inverted, or of low contrast.
Every division is run with the model shared as a whole, with BatchNorm at the sites and with heads
of their own, each under several seeds. A row sums the sites of a look over the seeds: the accuracy
on their own held-out images of the run without a personal part, of the shared model and of the own
one, and how many sites kept theirs. ``python -m benchmarks.personal --seeds 3``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedf2dg import RunConfiguration, simulate
from fedf2dg.deployment.example_sites import write_example_sites, write_folders
from foundation.data import DataSet, ImageData

Look = Callable[[np.ndarray], np.ndarray]

LOOKS: dict[str, Look] = {
    "as it is": lambda pixels: pixels,
    "inverted": lambda pixels: 255 - pixels,
    "low contrast": lambda pixels: pixels // 4 + 96,
}
#: By division: the looks of its sites, or how the simulation makes them.
DIVISIONS: dict[str, list[str] | dict[str, Any]] = {
    "four sites alike": ["as it is"] * 4,
    "of unlike looks": ["as it is", "as it is", "inverted", "low contrast"],
    "feature noise 1.0": {"feature-noise": 1.0},
    "example-sites": {},
}
COMMON = {
    "strategy": "fedavg",
    "num-server-rounds": 10,
    "local-epochs": 2,
    "validation-share": 0.3,
    "post-training": "none",
    "evaluation": "clients",
    "processes": 1,
}


def keys_of(division: str, seed: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a division's keys, and what its sites are called in the table."""
    made = DIVISIONS[division]
    if isinstance(made, dict) and made:
        noise = [f"noise {made['feature-noise'] * client / 3:.2f}" for client in range(4)]
        return {"num-clients": 4, "partition": "iid", **made}, noise
    if isinstance(made, dict):
        write_example_sites(folder)
        return _folders(folder), ["digits 0-5", "digits 4-7", "digits 0, 7-9"]
    data = DataSet("digits").load("train")
    rows = np.random.default_rng(seed).permutation(len(data))
    for number, (look, part) in enumerate(zip(made, np.array_split(rows, len(made)), strict=True)):
        given = data.subset(part)
        seen = ImageData(LOOKS[look](given.images), given.labels, given.class_names)
        write_folders(folder / f"site-{number}", seen, "L")
    return _folders(folder), made


def _folders(folder: Path) -> dict[str, Any]:
    return {"dataset": "folder", "data-dir": str(folder), "partition": "folders"}


def accuracies(summary: dict[str, Any]) -> list[tuple[int, float]]:
    """Return the images and the accuracy of each client, by the model that was kept."""
    found = summary["on_clients"]["federated"]["clients"]
    return [(row["images"], row["accuracy"]) for row in found]


def main() -> None:
    """Run all of it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(DIVISIONS))
    chosen = parser.parse_args()
    rows: dict[tuple[str, str, str], list[list[float]]] = {}
    for division in chosen.only:
        for seed in range(chosen.seeds):
            with tempfile.TemporaryDirectory() as place:
                keys, looks = keys_of(division, seed, Path(place) / "sites")
                plain: list[tuple[int, float]] = []
                for personal in ("none", "batch-norm", "head"):
                    output = str(Path(place) / personal)
                    own = {"seed": seed, "personal": personal, "output-dir": output}
                    configuration = RunConfiguration.parse({**COMMON, **keys, **own})
                    summary = simulate(configuration, "local", None)
                    if personal == "none":
                        plain = accuracies(summary)
                        continue
                    for look, site, before in zip(
                        looks, summary["personal"]["sites"], plain, strict=True
                    ):
                        n, gain, error = site["images"], site["gain"], site["standard_error"]
                        figures = [n, n * before[1], n * site["shared"], n * site["own"]]
                        figures += [1, site["kept"], gain > 0.5 * error]
                        rows.setdefault((division, look, personal), []).append(figures)
                        told = [division, seed, personal, look, before[1], site]
                        print(json.dumps(told), flush=True)
    print("| sites | look | personal | images | none | shared | own | kept | by half an error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for key, found in rows.items():
        n, before, shared, own, sites, kept, half = np.sum(found, axis=0)
        shares = " | ".join(f"{100 * value / n:.1f}" for value in (before, shared, own))
        print(f"| {' | '.join(key)} | {n:.0f} | {shares} | {kept:.0f}/{sites:.0f} | {half:.0f} |")


if __name__ == "__main__":
    main()
