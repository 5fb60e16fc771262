"""Inverting one model on its own."""

import torch
from torch import Tensor, nn

from foundation.settings import InversionSettings

from .engine import Inversion, InversionEngine, PixelRange, Progress


def invert(
    local_model: nn.Module,
    labels: Tensor,
    image_shape: tuple[int, int, int],
    settings: InversionSettings | None = None,
    *,
    global_model: nn.Module | None = None,
    pixel_range: PixelRange | None = None,
    seed: int,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Inversion:
    """Turn a trained classifier into images it takes for its training data.

    DeepInversion (Yin et al. 2020) of one model.

    Parameters
    ----------
    local_model : nn.Module
        Maps normalised images (n, C, H, W) to logits (n, classes); read, never changed.
    labels : Tensor
        (n,) integers, the wanted class of each image; n may be 0.
    image_shape : tuple of int
        (C, H, W).
    settings : InversionSettings or None (default: None)
        None: the defaults.
    global_model : nn.Module or None (default: None)
        Needed where ``settings.competition_weight`` is above 0.
    pixel_range : pair of sequences of float, or None (default: None)
        Lowest and highest value a pixel can have, for each channel, in the normalised space; images
        are kept within after every step. None: no bounds.
    seed : int
        Start and jitter depend on this alone: not on the device, nor on what ran before.
    device : str or torch.device (default: "cpu")
        Where to compute.
    progress : callable or None (default: None)
        Called with (iterations done, iterations in all) now and then and at the end.

    Returns
    -------
    Inversion
        Images, logits and what became of the objective.

    Raises
    ------
    UninvertibleModel
        If the objective stops being a finite number, or what comes out is absurd.
    InversionError
        If the device's memory is too small.
    """
    settings = settings or InversionSettings()
    engine = InversionEngine(
        local_model,
        image_shape,
        settings,
        global_model=global_model,
        pixel_range=pixel_range,
        device=device,
        expected_images=len(labels),
    )
    try:
        return engine.invert(local_model, labels, seed=seed, progress=progress)
    finally:
        engine.close()
