"""How much of an exhaustive sweep is carried out: a fixed sample, or with ``--all`` the whole.

``make test`` takes the samples, which are the same every time; ``make test-all`` everything.
"""

from zlib import crc32

#: Set by tests/conftest.py from the command line, before any test module is imported.
everything = False


def share(whole: int, sampled: int) -> int:
    """Return how many of a sweep's inputs to try."""
    return whole if everything else sampled


def chosen(item: str, one_in: int) -> bool:
    """Tell whether an item of a sweep is tried: all, or one in so many by its name's checksum."""
    return everything or crc32(item.encode()) % one_in == 0
