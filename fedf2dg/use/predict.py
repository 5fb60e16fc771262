"""``fedf2dg predict``: classify image files, and say which could not be read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from foundation.data import DataError
from foundation.data.sources.walk import LeftOut, images_below

from .trained_model import BATCH, Prediction, TrainedModel

_COLUMNS = ("label", "probability")


@dataclass(frozen=True)
class Answer:
    """What is said of one file: a prediction, or why there is none."""

    path: Path
    prediction: Prediction | None = None
    error: str = ""


def predict_files(
    model: TrainedModel,
    paths: Sequence[Path],
    *,
    top: int,
    form: str,
    output: TextIO,
    warn: Callable[[str], None],
) -> int:
    """Classify files and all images in folders, and write a line for each.

    Parameters
    ----------
    model : TrainedModel
        Who answers.
    paths : sequence of Path
        Files and folders.
    top : int
        How many classes to name for each image, 1 or more.
    form : str
        ``"text"``, ``"json"`` (a list of objects) or ``"csv"``.
    output : TextIO
        Receives the predictions.
    warn : callable
        Receives a line for each file that has none, and for what a folder holds beside images.

    Returns
    -------
    int
        How many could not be read.
    """
    shown = min(top, len(model.classes))
    write = {"text": _as_text, "json": _as_json, "csv": _as_csv}[form]
    return write(_answers(model, paths, warn), shown, output)


def _answers(
    model: TrainedModel, paths: Sequence[Path], warn: Callable[[str], None]
) -> Iterator[Answer]:
    """Yield an answer for every file, in their order."""
    files = _files(paths, warn)
    while batch := list(islice(files, BATCH)):
        read: list[Tensor] = []
        errors: list[str] = []
        for path in batch:
            try:
                read.append(model.preprocess(path))
                errors.append("")
            except DataError as error:
                errors.append(str(error))
        rows = iter(model.logits(torch.stack(read)) if read else ())
        for path, reason in zip(batch, errors, strict=True):
            if reason:
                warn(reason)
                yield Answer(path, error=reason)
            else:
                yield Answer(path, model.ranked(next(rows)))


def _files(paths: Sequence[Path], warn: Callable[[str], None]) -> Iterator[Path]:
    """Yield the files that are named, and the images in the folders that are."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        left_out, images = LeftOut(), 0
        for image, _ in images_below(path, left_out):
            images += 1
            yield image
        if left_out.counts:
            warn(left_out.sentence(path))
        if not images:
            yield path  # which is not readable as an image, and so is named


def _as_text(answers: Iterable[Answer], shown: int, output: TextIO) -> int:
    failed = 0
    for answer in answers:
        if answer.prediction is None:
            failed += 1
            continue
        said = (
            f"{label} {100 * share:.1f} %" for label, share in answer.prediction.ranking[:shown]
        )
        print(f"{answer.path}: {', '.join(said)}", file=output)
    return failed


def _as_json(answers: Iterable[Answer], shown: int, output: TextIO) -> int:
    failed, separator = 0, "["
    for answer in answers:
        entry: dict[str, Any] = {"image": str(answer.path)}
        if answer.prediction is None:
            failed += 1
            entry["error"] = answer.error
        else:
            ranking = answer.prediction.ranking[:shown]
            entry["predictions"] = [{"label": label, "probability": p} for label, p in ranking]
        print(f"{separator}{json.dumps(entry)}", file=output, end="")
        separator = ",\n "
    print("]" if separator != "[" else "[]", file=output)
    return failed


def _as_csv(answers: Iterable[Answer], shown: int, output: TextIO) -> int:
    failed, writer = 0, csv.writer(output, lineterminator="\n")
    ranks = range(1, shown + 1)
    writer.writerow(["image", *(f"{what}_{rank}" for rank in ranks for what in _COLUMNS)])
    for answer in answers:
        if answer.prediction is None:
            failed += 1
            continue
        ranking = answer.prediction.ranking[:shown]
        writer.writerow([answer.path, *(value for pair in ranking for value in pair)])
    return failed
