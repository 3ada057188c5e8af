"""Whether a model is better than chance, its classes are mixed up, or its numbers hardly vary.

Letters: N rows, C classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rosita_core.measuring.metrics import LEAST_VARIATION, compute_metrics, variation

CONFIDENCE = 0.95
MUCH_BETTER = 0.1
"""Of the rows: what another order of the classes must gain at least."""
CORRELATIONS = ("mcc", "pearson", "spearman", "pearson_spearman")


@dataclass(frozen=True)
class Weakness:
    """What speaks for and against a model on some rows.

    Attributes:
        rows: N.
        metric: that is held against chance.
        value: what the model reaches.
        bound: what it reaches at least, with one-sided 95 % confidence.
        chance: what takes no model: the share of the most frequent class, or 0.
        order: for every class of the data, the model's class that means it, where the model is
            much better so; None where it is not, and for regression.
        reordered: its accuracy then.
        variation: of a regression, see `metrics.variation`; else None.
    """

    rows: int
    metric: str
    value: float
    bound: float
    chance: float
    order: tuple[int, ...] | None
    reordered: float | None
    variation: float | None

    @property
    def weak(self) -> bool:
        """Whether it is not better than chance, or its numbers hardly vary."""
        return not self.better or self.alike

    @property
    def better(self) -> bool:
        """Whether it is better than chance."""
        return self.bound > self.chance

    @property
    def alike(self) -> bool:
        """Whether the numbers of a regression hardly vary."""
        return self.variation is not None and self.variation < LEAST_VARIATION

    def document(self) -> dict[str, Any]:
        """As JSON-able values; `from_document` reads them."""
        return asdict(self)


def from_document(document: dict[str, Any]) -> Weakness:
    """What `Weakness.document` wrote."""
    order = document["order"]
    return Weakness(**document | {"order": None if order is None else tuple(order)})


def weakness(
    metric: str, predictions_N: np.ndarray, labels_N: np.ndarray, classes: int
) -> Weakness:
    """Hold a model's predictions against chance.

    Accuracy is held against the share of the most frequent class (exact binomial bound); MCC and
    correlations against 0 (Fisher's z). F1 of constant answers says little, so MCC stands for it.

    Args:
        metric: the one that compares models on the task.
        predictions_N, labels_N: class indices, or numbers in one unit.
        classes: C, or 1 for regression.
    """
    if metric not in ("accuracy", *CORRELATIONS):
        metric = "mcc"
    value = compute_metrics([metric], predictions_N, labels_N)[metric]
    rows = len(labels_N)
    if metric == "accuracy":
        bound, chance = _bound_of_share(round(value * rows), rows), _majority(labels_N)
    else:
        bound, chance = _bound_of_correlation(value, rows), 0.0
    if classes == 1:
        varied = variation(predictions_N, labels_N)
        return Weakness(rows, metric, value, bound, chance, None, None, varied)
    order, reordered = _reordered(predictions_N, labels_N, classes)
    return Weakness(rows, metric, value, bound, chance, order, reordered, None)


def _majority(labels_N: np.ndarray) -> float:
    return float(np.bincount(labels_N).max() / len(labels_N))


def _bound_of_share(right: int, rows: int) -> float:
    """The exact binomial bound (Clopper and Pearson)."""
    from scipy.stats import binomtest

    test = binomtest(right, rows, alternative="greater")
    return float(test.proportion_ci(CONFIDENCE, method="exact").low)


def _bound_of_correlation(value: float, rows: int) -> float:
    """Fisher's z, whose standard error is 1 / sqrt(N - 3)."""
    from scipy.stats import norm

    if rows <= 3:
        return -1.0
    inside = min(max(value, -1.0), 1.0)
    if abs(inside) == 1.0:
        return inside
    return math.tanh(math.atanh(inside) - norm.ppf(CONFIDENCE) / math.sqrt(rows - 3))


def _reordered(
    predictions_N: np.ndarray, labels_N: np.ndarray, classes: int
) -> tuple[tuple[int, ...] | None, float | None]:
    """The best order of the model's classes and its accuracy, where that is much better.

    A random half of the rows says which order that is, and the rest whether it is better than the
    model's own and than chance: of guesses, some order is always better on the rows that chose it.
    """
    from scipy.optimize import linear_sum_assignment

    confusion_CC = np.zeros((classes, classes), np.int64)
    choosing, rest = np.array_split(np.random.default_rng(0).permutation(len(labels_N)), 2)
    np.add.at(confusion_CC, (labels_N[choosing], predictions_N[choosing]), 2)
    # Classes that the rows say nothing of stay where they are.
    _, order_C = linear_sum_assignment(confusion_CC + np.eye(classes), maximize=True)
    now_N, then_N = predictions_N == labels_N, predictions_N == order_C[labels_N]
    now, then = int(now_N[rest].sum()), int(then_N[rest].sum())
    if len(rest) == 0 or then - now < MUCH_BETTER * len(rest):
        return None, None
    if _bound_of_share(then, len(rest)) <= _majority(labels_N):
        return None, None
    return tuple(map(int, order_C)), float(then_N.mean())
