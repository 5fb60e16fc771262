"""The key ``post-training``: names of methods, one after the other, or auto."""

from __future__ import annotations

from collections.abc import Collection

from .declaration import ConfigurationError, names_in, unknown
from .photographs import SMALLEST_PHOTOGRAPH

#: The methods are chosen by the images.
AUTO = "auto"


def methods_for(text: str, image_size: tuple[int, int], label_counts_told: bool) -> str:
    """Return the names of the methods that a run's key means.

    Parameters
    ----------
    text : str
        The key's value.
    image_size : tuple of int
        Height and width in pixels.
    label_counts_told : bool
        Whether the server may know the clients' label counts, without which a bias could only be
        fitted on pseudo images.

    Returns
    -------
    str
        ``text``; for auto the methods that did best by measurement (docs/lab): distillation alone
        for tiny images, and for photographs the bias corrected behind it.
    """
    if text.strip() != AUTO:
        return text
    photographs = min(image_size) >= SMALLEST_PHOTOGRAPH
    return "fedf2dg,calibration" if photographs and label_counts_told else "fedf2dg"


def method_names(text: str, known: Collection[str]) -> list[str]:
    """Return the names of methods that the key names, in its order.

    Parameters
    ----------
    text : str
        One name, or several, separated by commas.
    known : collection of str
        The names that there are.

    Raises
    ------
    ConfigurationError
        If there is none of a name, the same method is named twice, or ``none`` is named beside
        others; the message lists the choices.
    """
    given = list(names_in(text))
    if not given or len(set(given)) < len(given) or ("none" in given and len(given) > 1):
        raise ConfigurationError(
            f"post-training = {text!r}: name none, or one or several different ones of "
            f"{', '.join(name for name in sorted(known) if name != 'none')}, separated by commas"
        )
    for name in given:
        if name not in known:
            raise ConfigurationError(unknown("post-training method", name, known))
    return given
