"""The pages that are made of the docstrings."""

import os
import subprocess
import sys
from pathlib import Path

import fedf2dg

ROOT = Path(__file__).resolve().parents[2]


def test_the_librarys_face_has_a_page_with_all_its_names(tmp_path):
    script = (
        "import runpy, sys, pathlib\n"
        "write = runpy.run_path(sys.argv[1])['write_pages']\n"
        "write(['fedf2dg', 'foundation.settings'], pathlib.Path(sys.argv[2]))"
    )
    subprocess.run(
        [
            *(sys.executable, "-W", "error::UserWarning", "-c", script),
            *(str(ROOT / "docs" / "api.py"), str(tmp_path)),
        ],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    page = (tmp_path / "fedf2dg.html").read_text("utf-8")
    for name in fedf2dg.__all__:
        assert f'id="{name}"' in page
