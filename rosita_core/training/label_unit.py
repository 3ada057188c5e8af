"""The unit in which a regression is trained: the labels' own mean and deviation.

A new classifier answers about 0 with a deviation below 1, and an optimizer's step is as large for
ratings from 0 to 5 as for prices in millions. In standard scores, (label - mean) / deviation, all
tasks are alike, and so are the parts of a loss that adds hidden states to predictions. A
classification has no unit, None, and stays as it is. `answers.py` has the models' side.

Letters: N rows.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rosita_core.data.encoding import Encoded

LABEL_UNIT = "label_unit.json"
"""The file of prepared data that holds the unit of its training labels."""
LEAST_CORRELATION = 0.2
"""Of answers with labels, below which their line of least squares is one of chance."""


@dataclass(frozen=True)
class LabelUnit:
    """Where standard scores are 0, the mean, and how much is 1 of them, the deviation, above 0."""

    mean: float
    deviation: float


def label_unit(labels_N: np.ndarray) -> LabelUnit | None:
    """The unit of a regression's labels; None for the indices of classes.

    Equal ones have the deviation 1: there is nothing to learn but their mean.
    """
    if labels_N.dtype.kind != "f":
        return None
    numbers = labels_N.astype(np.float64)
    return LabelUnit(float(numbers.mean()), _deviation(numbers) or 1.0)


def save_unit(unit: LabelUnit | None, path: Path) -> None:
    """Keep a unit in a file, so that nobody has to read the rows for it; None is no file."""
    if unit is not None:
        path.write_text(json.dumps(asdict(unit)) + "\n", encoding="utf-8")


def load_unit(path: Path) -> LabelUnit | None:
    """What `save_unit` kept, or a stage as a document; None where there is no file."""
    return LabelUnit(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _deviation(numbers_N: np.ndarray) -> float:
    # Of equal numbers the formula's is not always 0.
    return float(numbers_N.std()) if np.ptp(numbers_N) else 0.0


def unit_of_answers(answers_N: np.ndarray, scores_N: np.ndarray) -> LabelUnit:
    """The unit of a model that answers in one of its own, such as 0 to 1 for labels from 0 to 5.

    In it the answers' line of least squares to the standard scores of the same rows is the line of
    equal numbers: it is the labels' own unit where the model says what is to be expected of them.
    Answers that hardly rise with the labels have their own mean and deviation.
    """
    answers, scores = answers_N.astype(np.float64), scores_N.astype(np.float64)
    mean, deviation = float(answers.mean()), _deviation(answers) or 1.0
    together = float((((answers - mean) / deviation) * (scores - scores.mean())).mean())
    if together < LEAST_CORRELATION * _deviation(scores):
        return LabelUnit(mean, deviation)
    slope = together / deviation
    return LabelUnit(mean - float(scores.mean()) / slope, 1 / slope)


def rows_in_standard_scores(rows: Encoded, unit: LabelUnit | None) -> Encoded:
    """The same rows with (label - mean) / deviation for labels."""
    if unit is None:
        return rows
    scored = copy.copy(rows)
    scored.labels = (rows.labels - unit.mean) / unit.deviation
    return scored
