"""The search for an image with given features finds it where features determine it."""

import torch

from benchmarks.class_mean import image_of, likeness


class Rotated(torch.nn.Module):
    """Features that hold all of an image: an orthogonal map of its pixels."""

    def __init__(self, size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.map = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.map


def test_an_image_is_found_from_features_that_determine_it() -> None:
    generator = torch.Generator().manual_seed(1)
    image, other = torch.rand(2, 1, 6, 6, generator=generator) * 2 - 1
    model, limits = Rotated(36), (torch.full((1, 1, 1), -1.0), torch.ones(1, 1, 1))
    found = image_of(model, model.embed(image[None])[0], (1, 6, 6), limits, steps=300)  # type: ignore[arg-type]
    assert likeness(found, image) > 0.99
    assert likeness(found, other) < 0.6
    assert bool((found >= -1).all() and (found <= 1).all())
