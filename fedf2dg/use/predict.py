"""``fedf2dg predict``: classify image files, and say which could not be read."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from foundation.data import DataError
from foundation.data.sources.walk import LeftOut, images_below

from .trained_model import Prediction, TrainedModel

#: A file, and what is said of it: a prediction, or why there is none.
Answer = tuple[Path, Prediction | str]


def predict_files(
    model: TrainedModel,
    paths: Sequence[Path],
    *,
    top: int,
    form: str,
    output: TextIO,
    warn: Callable[[str], None],
) -> int:
    """Classify files and all images in folders, a line for each; return how many were not read.

    ``form`` is ``text``, ``json`` (a list of objects) or ``csv``; ``top`` classes are named for
    each. ``warn`` gets a line for every file without an answer, and for what else a folder holds.
    """
    failed = 0

    def answers() -> Iterator[Answer]:
        nonlocal failed
        for path, answer in model.answers(_files(paths, warn)):
            if isinstance(answer, DataError):
                failed += 1
                warn(str(answer))
                yield path, str(answer)
            else:
                yield path, model.ranked(answer.logits)

    write = {"text": _as_text, "json": _as_json, "csv": _as_csv}[form]
    write(answers(), min(top, len(model.classes)), output)
    return failed


def _files(paths: Sequence[Path], warn: Callable[[str], None]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        left_out, images = LeftOut(), 0
        for image, _ in images_below(path, left_out):
            images += 1
            yield image
        if sentence := left_out.sentence(path):
            warn(sentence)
        if not images:
            yield path  # which is not readable as an image, and so is named


def _as_text(answers: Iterator[Answer], shown: int, output: TextIO) -> None:
    for path, answer in answers:
        if isinstance(answer, Prediction):
            said = (f"{label} {100 * share:.1f} %" for label, share in answer.ranking[:shown])
            print(f"{path}: {', '.join(said)}", file=output)


def _as_json(answers: Iterator[Answer], shown: int, output: TextIO) -> None:
    separator = "["
    for path, answer in answers:
        entry: dict[str, Any] = {"image": str(path)}
        if isinstance(answer, Prediction):
            ranking = answer.ranking[:shown]
            entry["predictions"] = [{"label": label, "probability": p} for label, p in ranking]
        else:
            entry["error"] = answer
        print(f"{separator}{json.dumps(entry)}", file=output, end="")
        separator = ",\n "
    print("]" if separator != "[" else "[]", file=output)


def _as_csv(answers: Iterator[Answer], shown: int, output: TextIO) -> None:
    writer = csv.writer(output, lineterminator="\n")
    columns = (f"{what}_{rank + 1}" for rank in range(shown) for what in ("label", "probability"))
    writer.writerow(["image", *columns])
    for path, answer in answers:
        if isinstance(answer, Prediction):
            ranking = answer.ranking[:shown]
            writer.writerow([path, *(value for pair in ranking for value in pair)])
