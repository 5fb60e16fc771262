"""Figures hold the numbers they are given."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedf2dg.report import figures
from fedf2dg.report.run_record import Measurement


def words(figure: Figure) -> list[str]:
    """Return the texts of a figure's SVG."""
    root = ElementTree.fromstring(figures.to_svg(figure, "f", "described"))
    return ["".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("}text")]


def test_rounds_are_ticked_at_whole_numbers() -> None:
    for last in (1, 2, 3, 7, 10, 25, 80, 500):
        rounds = [Measurement("federated", n, 0.5) for n in range(1, last + 1)]
        axes = figures.accuracy_curve(rounds).axes[0]
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels[-1] == str(last) and labels[0] in ("1", str(last))
        assert len(labels) <= 18
        numbers = [int(label) for label in labels]
        assert numbers == sorted(set(numbers))


def test_each_stage_has_its_band() -> None:
    measured = [
        Measurement("federated", 1, 0.2),
        Measurement("federated", 2, 0.4),
        Measurement("distillation", 1, 0.6),
        Measurement("competition", 0.5, 0.55, retrained=True),
        Measurement("competition", 1.0, 0.7),
    ]
    shown = "\n".join(words(figures.accuracy_curve(measured)))
    for text in ("Federated", "40.0 %", "Distillation", "60.0 %", "Competition", "70.0 %"):
        assert text in shown
    assert "federated round of the competition" in shown
    only = "\n".join(words(figures.accuracy_curve(measured[:2])))
    assert "Distillation" not in only and "Competition" not in only


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        figures.accuracy_curve([])
    with pytest.raises(ValueError, match="no confusion"):
        figures.confusion_matrices({})


def test_counts_stand_in_their_cells_where_they_fit() -> None:
    counts = np.arange(1000, 1100).reshape(10, 10)
    counts[3, 4] = 0
    texts = words(figures.label_counts(counts))
    assert {str(n) for n in range(1000, 1100) if n != 1034} <= set(texts)
    assert "1034" not in texts
    assert f"{counts[3].sum():,}" in texts
    assert "1007" not in words(figures.label_counts(np.arange(1000, 2300).reshape(100, 13)))


def test_a_class_without_test_images_has_an_empty_row() -> None:
    with np.errstate(all="raise"):
        figure = figures.confusion_matrices({"before": [[3, 1], [0, 0]], "after": [[4, 0], [0, 0]]})
    texts = words(figure)
    assert {"before", "after", "3", "4"} <= set(texts)
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    np.testing.assert_allclose(
        np.ma.filled(np.ma.asarray(image), 0), np.array([[0.75, 0.25], [0.0, 0.0]])
    )


@pytest.mark.parametrize("rounds", [1, 5, 200])
def test_bytes_are_in_a_readable_unit(rounds: int) -> None:
    names = [str(n) for n in range(1, rounds + 1)]
    shown = words(figures.bytes_per_round(names, [2e6] * rounds, [5e6] * rounds))
    assert "MB per round" in shown
    assert "bytes per round" in words(figures.bytes_per_round(["1"], [0], [0]))


def test_svg_ids_differ_between_figures() -> None:
    counts = figures.label_counts([[1, 2]])
    first, second = (figures.to_svg(counts, name, "described") for name in ("a", "b"))
    assert 'id="a-figure_1"' in first and 'id="b-figure_1"' in second
    assert first == figures.to_svg(figures.label_counts([[1, 2]]), "a", "described")


def test_png_is_a_png() -> None:
    assert figures.to_png(figures.label_counts([[1, 2]])).startswith(b"\x89PNG")
