"""One is not several."""

import pytest

from foundation import counted
from foundation.wording import listed


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("method",), "1 method"),
        (2, ("method",), "2 methods"),
        (0, ("client",), "no clients"),
        (1000, ("class", "classes"), "1,000 classes"),
    ],
)
def test_a_number_and_its_noun_agree(number, words, said):
    assert counted(number, *words) == said


def test_long_lists_are_cut() -> None:
    names = [str(number) for number in range(1, 1013)]
    assert listed(names) == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 1,002 more"
    assert listed(["a", "b"]) == "a, b"
