"""Does a part of the model that is a site's own pay, and does its judge say where? On digits.

Sites of the digits that look alike, or each in its own way: noisy, inverted, or of low contrast.
Every division is run with heads of the sites' own and with BatchNorm at the sites, under several
seeds. A row sums the sites of a look over the seeds: the accuracy on their own held-out images of a
run without a personal part, of the shared model and of the own one, how many sites kept theirs, and
how many would have by the rule for stages, half a standard error.
``python -m benchmarks.personal --seeds 3``.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedf2dg import RunConfiguration, simulate
from fedf2dg.starters import write_example_sites, write_folders
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
    "num-server-rounds": 6,
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
        return _folders(folder, 3), ["digits 0-5", "digits 4-7", "digits 0, 7-9"]
    data = DataSet("digits").load("train")
    rows = np.random.default_rng(seed).permutation(len(data))
    for number, (look, part) in enumerate(zip(made, np.array_split(rows, len(made)), strict=True)):
        given = data.subset(part)
        seen = ImageData(LOOKS[look](given.images), given.labels, given.class_names)
        write_folders(folder / f"site-{number}", seen, "L")
    return _folders(folder, len(made)), made


def _folders(folder: Path, sites: int) -> dict[str, Any]:
    data = {"dataset": "folder", "data-dir": str(folder), "partition": "folders"}
    return {**data, "num-clients": sites}


def main() -> None:
    """Run all of it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(DIVISIONS), choices=DIVISIONS)
    chosen = parser.parse_args()
    rows: dict[tuple[str, str, str], list[list[float]]] = {}
    for division in chosen.only:
        for seed in range(chosen.seeds):
            with tempfile.TemporaryDirectory() as place:
                keys, looks = keys_of(division, seed, Path(place) / "sites")
                plain: list[float] = []
                # A head of its own comes behind the rounds: what is shared is that of a plain run.
                for personal in ("head", "batch-norm"):
                    own = {"seed": seed, "personal": personal}
                    own["output-dir"] = str(Path(place) / personal)
                    configuration = RunConfiguration.parse({**COMMON, **keys, **own})
                    sites = simulate(configuration, "local", None)["personal"]["sites"]
                    plain = plain or [site["shared"] for site in sites]
                    for look, site, before in zip(looks, sites, plain, strict=True):
                        n, half = site["images"], site["gain"] > 0.5 * site["standard_error"]
                        figures = [n, n * before, n * site["shared"], n * site["own"]]
                        figures += [1, site["kept"], half]
                        rows.setdefault((division, look, personal), []).append(figures)
                        told = [division, seed, personal, look, before, site]
                        print(json.dumps(told), flush=True)
    print(
        "| sites | look | personal | images | plain run | shared | own | kept | by half an error |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for key, found in rows.items():
        n, before, shared, own, sites, kept, half = np.sum(found, axis=0)
        shares = " | ".join(f"{100 * value / n:.1f}" for value in (before, shared, own))
        print(f"| {' | '.join(key)} | {n:.0f} | {shares} | {kept:.0f}/{sites:.0f} | {half:.0f} |")


if __name__ == "__main__":
    main()
