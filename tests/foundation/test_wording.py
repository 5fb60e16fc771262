"""One is not several."""

import pytest

from foundation import counted


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
