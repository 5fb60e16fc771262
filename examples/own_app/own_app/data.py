"""Stripes in three directions under noise: images that need no download."""

import numpy as np

from foundation.data import Collection, Source, in_memory

CLASSES = ("upright", "level", "slanted")


def _open(data_dir: str, class_names: tuple[str, ...]) -> Collection:
    draw = np.random.default_rng(0)
    labels = np.arange(600) % len(CLASSES)
    row, column = np.mgrid[:12, :12]
    waves = np.stack([column, row, row + column])[labels] + draw.uniform(0, 6, (600, 1, 1))
    noise = draw.normal(0, 80, waves.shape)
    images = np.clip(128 + 60 * np.sin(waves) + noise, 0, 255).astype(np.uint8)
    return in_memory("stripes", CLASSES, train=(images, labels))


stripes = Source("stripes", _open)
