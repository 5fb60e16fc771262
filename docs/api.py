"""Write docs/api/: a page for every room that is named, from its docstrings (``make docs``)."""

import sys
import warnings
from pathlib import Path

import pdoc

import fedf2dg


def write_pages(rooms: list[str], directory: Path) -> None:
    """Write a page for each package or module.

    Parameters
    ----------
    rooms : list of str
        Names to import.
    directory : Path
        Receives ``index.html`` and a page, or a folder of pages, for each.
    """
    for name in fedf2dg.__all__:
        getattr(fedf2dg, name)  # imported when first used; pdoc shows what is there
    # An inherited field's annotation is looked up in the heir's module; the page shows its name.
    warnings.filterwarnings("ignore", message="Error parsing type annotation")
    pdoc.render.configure(docformat="numpy")
    pdoc.pdoc(*rooms, output_directory=directory)


if __name__ == "__main__":
    write_pages(sys.argv[1:], Path(__file__).with_name("api"))
