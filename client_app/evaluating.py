"""Evaluation on the client: candidates for the global model, on the client's held-out images."""

from __future__ import annotations

import numpy as np

from foundation.models import load_state
from questions.evaluation import Candidates, Scores

from .site import Site


def held_out_counts(site: Site) -> list[int]:
    """Return how many images judge here, by class where that may be told, else in total."""
    counts = [int(count) for count in site.held_out().label_counts()]
    return counts if site.configuration.exact_counts_told else [sum(counts)]


def evaluated(site: Site, candidates: Candidates) -> Scores:
    """Run every candidate over the client's held-out images.

    Parameters
    ----------
    site : Site
        The client; its resident model is overwritten.
    candidates : Candidates
        The models.
    """
    images = site.judging_images()
    model = site.model()
    found = [images.predictions(load_state(model, state)) for state in candidates]
    return Scores.counted(
        images.labels.cpu().numpy(),
        np.stack([predictions.correct.cpu().numpy() for predictions in found]),
        [float(predictions.loss) for predictions in found],
        len(held_out_counts(site)),
    )
