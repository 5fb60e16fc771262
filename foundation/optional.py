"""What is made to be looked at must not end what was made to be kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("flwr.fedf2dg")


@contextmanager
def only_warned(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a warning that names what is missing now.

    Reports and pictures depend on fonts, on plotting libraries, and on what a model made; a run
    whose results are on disk has succeeded without them.

    Parameters
    ----------
    what : str
        Begins the sentence: "the report".
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s could not be made (%s): all else goes on without it", what, reason[:300])
