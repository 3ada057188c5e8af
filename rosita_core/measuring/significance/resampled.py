"""Metrics of many resamples of the same rows at once.

A resample is a weight per row: how often it was drawn. Rows that are equal in label and all
predictions are interchangeable, so they are drawn as one group; with classes there are few of them
however many rows there are. Letters: N rows, U groups, M models, R resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDING = 1e-10
"""Deviation of a column, a share of its largest number, that says nothing."""


@dataclass(frozen=True)
class GroupedRows:
    """Rows, equal ones together.

    Attributes:
        labels: (U,).
        predictions: (M, U).
        sizes: (U,) rows of each group; they add up to N.
    """

    labels: NDArray[np.generic]
    predictions: NDArray[np.generic]
    sizes: NDArray[np.int64]

    @property
    def groups(self) -> int:
        return len(self.sizes)

    @property
    def classes(self) -> int:
        return int(max(self.labels.max(), self.predictions.max())) + 1

    def elements(self, metric: str) -> int:
        """Numbers that one resample needs at a time."""
        return max(self.groups, self.classes**2) if metric in OF_CONFUSIONS else self.groups

    def draw(self, rng: np.random.Generator, resamples: int) -> Floats:
        """(R, U) how often each group was drawn among N rows, with replacement."""
        rows = int(self.sizes.sum())
        if self.groups * 4 < rows:
            return rng.multinomial(rows, self.sizes / rows, size=resamples).astype(np.float64)
        # Counting drawn rows is the quicker way where the groups are many.
        group_of_row = np.repeat(np.arange(self.groups), self.sizes)
        drawn = group_of_row[rng.integers(0, rows, size=(resamples, rows))]
        drawn += self.groups * np.arange(resamples)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=resamples * self.groups)
        return counts.reshape(resamples, self.groups).astype(np.float64)


def grouped_rows(labels: NDArray[np.generic], predictions: NDArray[np.generic]) -> GroupedRows:
    """Group the rows of `labels` (N,) and `predictions` (M, N).

    Groups come in the order of their first rows, so that swapping models draws the same rows.
    """
    table = np.column_stack([labels, predictions.T])
    _, first, sizes = np.unique(table, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    rows = first[order]
    return GroupedRows(labels[rows], predictions[:, rows], sizes[order].astype(np.int64))


def resampled_scores(metric: str, rows: GroupedRows, weights_RU: Floats) -> Floats:
    """(R, M): the metric of every model in every resample, as `compute_metrics` defines it.

    Raises ValueError for an unknown metric.
    """
    if metric == "accuracy":
        right_MU = rows.predictions == rows.labels
        return weights_RU @ right_MU.T / weights_RU.sum(1, keepdims=True)
    if metric in OF_CONFUSIONS:
        score = OF_CONFUSIONS[metric]
        columns = [score(_confusions(rows, model, weights_RU)) for model in rows.predictions]
    elif metric in ("pearson", "spearman", "pearson_spearman"):
        columns = _correlations(metric, rows, weights_RU)
    else:
        raise ValueError(f"metric must be one that rows can be resampled for, got {metric!r}")
    return np.stack(columns, axis=1)


def _confusions(rows: GroupedRows, model: NDArray[np.generic], weights_RU: Floats) -> Floats:
    """(R, C, C) rows by true and predicted class."""
    true, predicted = rows.labels.astype(np.int64), model.astype(np.int64)
    cell_U = true * rows.classes + predicted
    counted_RK = np.empty((len(weights_RU), rows.classes**2))
    for counted_K, weights_U in zip(counted_RK, weights_RU, strict=True):
        counted_K[:] = np.bincount(cell_U, weights_U, minlength=len(counted_K))
    return counted_RK.reshape(-1, rows.classes, rows.classes)


def _f1(confusions: Floats) -> Floats:
    if confusions.shape[1] < 2:
        return np.zeros(len(confusions))
    return _f1_of_classes(confusions)[0][:, 1]


def _macro_f1(confusions: Floats) -> Floats:
    f1_RC, named_RC = _f1_of_classes(confusions)
    return _ratio(f1_RC.sum(1), (named_RC > 0).sum(1).astype(np.float64))


def _f1_of_classes(confusions: Floats) -> tuple[Floats, Floats]:
    """(R, C) f1 of each class, and how often it was predicted and true."""
    named_RC = confusions.sum(2) + confusions.sum(1)
    return _ratio(2 * np.diagonal(confusions, axis1=1, axis2=2), named_RC), named_RC


def _mcc(confusions: Floats) -> Floats:
    true, predicted = confusions.sum(2), confusions.sum(1)
    total = true.sum(1)
    right = np.trace(confusions, axis1=1, axis2=2)
    covariance = right * total - (true * predicted).sum(1)
    variances = (total**2 - (true**2).sum(1)) * (total**2 - (predicted**2).sum(1))
    return _ratio(covariance, np.sqrt(variances))


def _correlations(metric: str, rows: GroupedRows, weights_RU: Floats) -> list[Floats]:
    labels_U = rows.labels.astype(np.float64)[None]
    label_ranks = None if metric == "pearson" else _ranks(labels_U[0], weights_RU)
    columns = []
    for model in rows.predictions.astype(np.float64):
        found = []
        if metric != "spearman":
            found.append(_pearson(labels_U, model[None], weights_RU))
        if label_ranks is not None:
            found.append(_pearson(label_ranks, _ranks(model, weights_RU), weights_RU))
        columns.append(np.mean(found, axis=0))
    return columns


def _pearson(x: Floats, y: Floats, weights_RU: Floats) -> Floats:
    """(R,) weighted correlation of x and y, each (R, U), or (1, U) where all resamples share it."""
    total = weights_RU.sum(1, keepdims=True)
    # Below rounding a column is constant, and a correlation would be that of rounding errors.
    tiny_x, tiny_y = (ROUNDING**2 * np.abs(one).max(1) ** 2 * total[:, 0] for one in (x, y))
    x = x - (weights_RU * x).sum(1, keepdims=True) / total
    y = y - (weights_RU * y).sum(1, keepdims=True) / total
    covariance = (weights_RU * x * y).sum(1)
    variance_x, variance_y = (weights_RU * x * x).sum(1), (weights_RU * y * y).sum(1)
    defined = (variance_x > tiny_x) & (variance_y > tiny_y)
    return np.where(defined, _ratio(covariance, np.sqrt(variance_x * variance_y)), 0.0)


def _ranks(values_U: Floats, weights_RU: Floats) -> Floats:
    """(R, U) rank of each group among the drawn rows; ties share the mean of their ranks."""
    order = np.argsort(values_U, kind="stable")
    _, begin, tie_of_sorted = np.unique(values_U[order], return_index=True, return_inverse=True)
    tied = np.add.reduceat(weights_RU[:, order], begin, axis=1)
    middle = np.cumsum(tied, axis=1) - (tied - 1) / 2
    tie_of_group = np.empty_like(tie_of_sorted)
    tie_of_group[order] = tie_of_sorted
    return middle[:, tie_of_group]


def _ratio(above: Floats, below: Floats) -> Floats:
    """above / below, and 0 where below is 0: nothing to divide scores nothing."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


OF_CONFUSIONS: dict[str, Callable[[Floats], Floats]] = {
    "f1": _f1,
    "macro_f1": _macro_f1,
    "mcc": _mcc,
}
