"""A student beside its teacher, row by row, and beside no model at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.engine.agreement import agreement, dev_rows, differing_rows, majority_score
from flows.engine.gate import weak_student
from rosita_core.data.preparation import Splits
from rosita_core.data.storage import save_splits
from rosita_core.data.table import normalized_frame
from rosita_core.measuring.assessment import STUDENT, TEACHER, Assessment, ModelAssessment
from rosita_core.measuring.metrics import compute_metrics
from rosita_core.model.shape import ParameterCount

LABELS: list[float] = [0, 1, 1, 0, 1]
TEXTS = ["a", "b", "=c", "d", "e"]


def assessed(
    teacher: list[float],
    student: list[float],
    score: str = "accuracy",
    labels: list[float] = LABELS,
) -> Assessment:
    """Both models on some rows; what a model says of a row is its class, or its number."""
    classes = score in ("accuracy", "mcc")
    true = np.array(labels, dtype=np.int64 if classes else np.float64)

    def model(said: list[float]) -> ModelAssessment:
        said_N = np.array(said)
        logits = np.eye(2)[said_N.astype(int)] if classes else said_N[:, None]
        predicted = said_N.astype(int) if classes else said_N
        metrics = compute_metrics((score,), predicted, true)
        return ModelAssessment(
            "a1_l1", ParameterCount(1, 1, 1), 1, metrics[score], metrics, (), {"dev": logits}
        )

    models = {TEACHER: model(teacher), STUDENT: model(student)}
    return Assessment(models, {"dev": true}, score, 128, "cpu", "fp32", 1)


def test_what_no_model_reaches() -> None:
    assert majority_score(assessed(LABELS, LABELS)) == pytest.approx(0.6)
    assert majority_score(assessed(LABELS, LABELS, "mcc")) == 0
    assert majority_score(assessed([1.0, 2.0], [1.0, 2.0], "pearson", [1.0, 2.0])) == 0


def test_a_student_that_says_one_thing_is_weak() -> None:
    assert weak_student(assessed(LABELS, LABELS)) is None
    assert weak_student(assessed(LABELS, [1, 1, 1, 1, 1])) == (
        "the student is not better than the most frequent class alone: its accuracy is 0.6000, and "
        "that has 0.6000"
    )


def test_a_student_whose_numbers_hardly_vary_is_weak() -> None:
    labels = [1.0, 2.0, 3.0, 4.0]
    alike = [2.5 + 1e-3 * number for number in labels]
    assert weak_student(assessed(labels, labels, "pearson", labels)) is None
    assert weak_student(assessed(labels, alike, "pearson", labels)) == (
        "the student's answers hardly vary: on 4 dev rows their standard deviation is 0.1 % of the "
        "labels', and at least 5 % is needed"
    )
    assert weak_student(assessed(labels, [2.5] * 4, "pearson", labels)) == (
        "the student is not better than a constant answer: its pearson is 0.0000, and that has "
        "0.0000"
    )


def test_rows_on_which_they_differ(tmp_path: Path) -> None:
    found = assessed([0, 1, 1, 1, 1], [0, 1, 0, 0, 1])
    assert agreement(found) == pytest.approx(0.6)
    frame = normalized_frame(TEXTS, None, LABELS, "classification")
    save_splits(
        Splits(
            *(frame, frame, frame),
            dev_extra={},
            labels=("bad", "good"),
            kind="classification",
            pair=False,
            dropped={},
        ),
        tmp_path / "splits",
    )
    rows = differing_rows(found, dev_rows(tmp_path))
    assert rows is not None
    expected = {
        "row": [2, 3],
        # As a text that a spreadsheet would run is written.
        "text_a": ["'=c", "d"],
        "label": ["good", "bad"],
        TEACHER: ["good", "good"],
        STUDENT: ["bad", "bad"],
    }
    pd.testing.assert_frame_equal(rows, pd.DataFrame(expected), check_dtype=False)


def test_numbers_agree_by_no_share() -> None:
    found = assessed([1.0, 2.0], [1.0, 2.5], "pearson", [1.0, 2.0])
    assert agreement(found) is None
