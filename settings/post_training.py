"""The key ``post-training``: names of methods, one after the other."""

from __future__ import annotations

from collections.abc import Collection

from .declaration import ConfigurationError, unknown


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
    given = [name.strip() for name in text.split(",") if name.strip()]
    if not given or len(set(given)) < len(given) or ("none" in given and len(given) > 1):
        raise ConfigurationError(
            f"post-training = {text!r}: name none, or one or several different ones of "
            f"{', '.join(name for name in sorted(known) if name != 'none')}, separated by commas"
        )
    for name in given:
        if name not in known:
            raise ConfigurationError(unknown("post-training method", name, known))
    return given
