"""The family: every question is found, both halves belong together, and no method needs Flower."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import questions
from questions import Request

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_FLOWER = """
import sys

class NotInstalled:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("flwr", "ray"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
import post_training
from fedf2dg import post_train
post_training.methods()
post_training.StatisticsRequest({}, predictions=True)
"""


def test_what_a_method_asks_needs_no_flower(tmp_path):
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", WITHOUT_FLOWER]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr


@pytest.mark.parametrize("name", questions.questions())
def test_the_halves_of_a_question_stand_in_one_file(name):
    declared = questions.questions()[name]
    module = importlib.import_module(declared.tell.__module__)
    requests = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Request)
        and kind.__module__ == module.__name__
    ]
    assert [kind.asks for kind in requests] == [declared]
    assert name.isidentifier()
