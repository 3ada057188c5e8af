"""What costs next to nothing, on the same rows: what an encoder has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from rosita_core.data.table import text_columns
from rosita_core.measuring.metrics import compute_metrics

MAJORITY, LINEAR = "majority", "linear"
WORDS = (1, 2)
MOST_STEPS = 1_000


def baseline_scores(
    train: pd.DataFrame, dev: pd.DataFrame, names: Sequence[str], score: str
) -> dict[str, float]:
    """`majority_score` and `linear_score`: by the metric `score` on the dev rows.

    Args:
        train, dev: normalized frames with classes.
        names: which of the two.
        score: a metric of classes.

    Raises:
        ValueError: for an unknown baseline or metric.
    """
    predictors = {MAJORITY: _majority, LINEAR: _linear}
    found = {}
    for name in names:
        if name not in predictors:
            raise ValueError(f"baselines must be of {', '.join(predictors)}, got {name!r}")
        predicted = predictors[name](train, dev)
        found[f"{name}_score"] = compute_metrics((score,), predicted, dev["label"].to_numpy())[
            score
        ]
    return found


def _majority(train: pd.DataFrame, dev: pd.DataFrame) -> np.ndarray:
    """The most frequent class; of equally frequent ones the first."""
    counts = np.bincount(train["label"].to_numpy())
    return np.full(len(dev), counts.argmax(), np.int64)


def _linear(train: pd.DataFrame, dev: pd.DataFrame) -> np.ndarray:
    """Logistic regression on TF-IDF of words and pairs of words."""
    if train["label"].nunique() < 2:
        return _majority(train, dev)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=WORDS, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        LogisticRegression(max_iter=MOST_STEPS, C=10.0),
    )
    model.fit(_texts(train), train["label"].to_numpy())
    predicted: np.ndarray = model.predict(_texts(dev))
    return predicted


def _texts(frame: pd.DataFrame) -> list[str]:
    """One text a row; of pairs both."""
    columns = [frame[name].tolist() for name in text_columns(frame)]
    return [" ".join(texts) for texts in zip(*columns, strict=True)]
