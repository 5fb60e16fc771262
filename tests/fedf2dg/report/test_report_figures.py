"""Figures hold the numbers they are given."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedf2dg.report import figures
from fedf2dg.report.run_record import Measurement


def words(figure: Figure) -> list[str]:
    """Return the texts of a figure's SVG."""
    root = ElementTree.fromstring(figures.to_svg(figure, "f", "described"))
    return ["".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("}text")]


@pytest.mark.parametrize("last", [1, 2, 3, 10, 80, 500])
def test_rounds_are_ticked_at_whole_numbers(last: int) -> None:
    rounds = [Measurement("federated", n, 0.5) for n in range(1, last + 1)]
    figure = figures.curves({"": [rounds]})
    FigureCanvasAgg(figure).draw()
    ticks = figure.axes[0].get_xticks()
    assert 1 <= len(ticks) <= 12 and all(float(tick).is_integer() for tick in ticks)


def test_each_stage_has_its_panel_which_says_where_it_ends() -> None:
    measured = [
        Measurement("federated", 1, 0.2),
        Measurement("federated", 2, 0.4),
        Measurement("distillation", 1, 0.6),
        Measurement("competition", 0.5, 0.55),
        Measurement("competition", 1.0, 0.7),
    ]
    shown = "\n".join(words(figures.curves({"": [measured]}, 0.1)))
    for text in ("Federated", "40.0 %", "Distillation", "60.0 %", "Competition", "70.0 %"):
        assert text in shown
    assert "guessing 10.0 %" in shown
    only = "\n".join(words(figures.curves({"": [measured[:2]]})))
    assert "Distillation" not in only and "Competition" not in only


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        figures.curves({"": [[]]})
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


def test_svg_ids_differ_between_figures() -> None:
    counts = figures.label_counts([[1, 2]])
    first, second = (figures.to_svg(counts, name, "described") for name in ("a", "b"))
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in (first, second)]
    assert ids[0] and ids[1] and not ids[0] & ids[1]
    assert first == figures.to_svg(figures.label_counts([[1, 2]]), "a", "described")


def test_png_is_a_png() -> None:
    assert figures.to_png(figures.label_counts([[1, 2]])).startswith(b"\x89PNG")
