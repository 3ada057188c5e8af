"""Student and teacher row by row: how often they agree, where not, and what no model reaches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rosita_core.data.spreadsheet import spreadsheet_safe
from rosita_core.data.table import text_columns
from rosita_core.measuring.assessment import STUDENT, TEACHER, Assessment
from rosita_core.measuring.metrics import compute_metrics

DEV = "dev"


@dataclass(frozen=True)
class DevRows:
    """The rows that scores are reported on.

    Attributes:
        frame: texts and labels, in their order.
        labels: names of the classes.
        fingerprint: of these rows.
    """

    frame: pd.DataFrame
    labels: tuple[str, ...]
    fingerprint: str


def dev_rows(data: Path) -> DevRows:
    """The dev rows alone of an artifact of the stage `data`; train may be large."""
    meta = json.loads((data / "splits" / "meta.json").read_text(encoding="utf-8"))
    frame = pd.read_parquet(data / "splits" / f"{DEV}.parquet")
    return DevRows(frame, tuple(meta["labels"]), meta["fingerprints"][DEV])


def majority_score(assessment: Assessment) -> float:
    """The score of the most frequent class for every dev row; of a constant for a regression."""
    labels_N = assessment.labels[DEV]
    constant: float | int = 0.0
    if _classes(assessment):
        values, counts = np.unique(labels_N, return_counts=True)
        constant = values[counts.argmax()]
    guess_N = np.full_like(labels_N, constant)
    return compute_metrics((assessment.score_name,), guess_N, labels_N)[assessment.score_name]


def agreement(assessment: Assessment) -> float | None:
    """The share of dev rows on which student and teacher say the same; None for a regression."""
    if not _classes(assessment):
        return None
    return float((_said(assessment, STUDENT) == _said(assessment, TEACHER)).mean())


def differing_rows(assessment: Assessment, rows: DevRows) -> pd.DataFrame | None:
    """The dev rows on which they differ, with text, label and both answers; None for a regression.

    Args:
        assessment: of both.
        rows: that both were scored on.
    """
    if not _classes(assessment):
        return None
    student_N, teacher_N = _said(assessment, STUDENT), _said(assessment, TEACHER)
    rows_K = np.flatnonzero(student_N != teacher_N)
    frame = rows.frame.iloc[rows_K]
    named = {
        "row": rows_K,
        **{column: frame[column].to_numpy() for column in text_columns(frame)},
        "label": [rows.labels[index] for index in assessment.labels[DEV][rows_K]],
        TEACHER: [rows.labels[index] for index in teacher_N[rows_K]],
        STUDENT: [rows.labels[index] for index in student_N[rows_K]],
    }
    return spreadsheet_safe(pd.DataFrame(named))


def _classes(assessment: Assessment) -> bool:
    return assessment.models[STUDENT].logits[DEV].shape[1] > 1


def _said(assessment: Assessment, model: str) -> np.ndarray:
    answers_N: np.ndarray = assessment.models[model].logits[DEV].argmax(axis=1)
    return answers_N
