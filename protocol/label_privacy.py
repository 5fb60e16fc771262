"""Whether the server may know of what classes a client's images are."""

from __future__ import annotations

from configuration import RunConfiguration


def classes_are_told(configuration: RunConfiguration) -> bool:
    """Tell whether clients answer by class, with exact numbers; otherwise in totals alone."""
    return configuration.label_counts == "uploaded" and configuration.generation.place == "server"
