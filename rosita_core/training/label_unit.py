"""The unit in which a regression is trained: the labels' own mean and deviation.

A new classifier answers about 0 with a deviation below 1, and an optimizer's step is as large for
ratings from 0 to 5 as for prices in millions. In standard scores, (label - mean) / deviation, all
tasks are alike, and so are the parts of a loss that adds hidden states to predictions. A
classification has no unit, None, and stays as it is.

Letters: N rows.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rosita_core.data.encoding import Encoded
from rosita_core.model.checkpoint import build

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

WEIGHT, BIAS = "classifier.weight", "classifier.bias"


@dataclass(frozen=True)
class LabelUnit:
    """Mean and deviation of the labels that a task is trained on; the deviation is above 0."""

    mean: float
    deviation: float


def label_unit(labels_N: np.ndarray) -> LabelUnit | None:
    """The unit of a regression's training labels; None for the indices of classes.

    Equal labels have the deviation 1: there is nothing to learn but their mean.
    """
    if labels_N.dtype.kind != "f":
        return None
    return LabelUnit(float(labels_N.mean()), float(labels_N.std()) or 1.0)


def rows_in_standard_scores(rows: Encoded, unit: LabelUnit | None) -> Encoded:
    """The same rows with (label - mean) / deviation for labels."""
    if unit is None:
        return rows
    scored = copy.copy(rows)
    scored.labels = (rows.labels - unit.mean) / unit.deviation
    return scored


def in_standard_scores(
    model: RositaForSequenceClassification, unit: LabelUnit | None
) -> RositaForSequenceClassification:
    """`model`, which answers in labels, with a classifier that answers in standard scores.

    It is in the mode of `model`; all other weights are shared, not copied.
    """
    if unit is None:
        return model
    state = model.state_dict()
    weight, bias = state[WEIGHT].double(), state[BIAS].double()
    return _with(model, weight / unit.deviation, (bias - unit.mean) / unit.deviation)


def in_labels(
    model: RositaForSequenceClassification, unit: LabelUnit | None
) -> RositaForSequenceClassification:
    """The inverse of `in_standard_scores`."""
    if unit is None:
        return model
    state = model.state_dict()
    weight, bias = state[WEIGHT].double(), state[BIAS].double()
    return _with(model, weight * unit.deviation, bias * unit.deviation + unit.mean)


def _with(
    model: RositaForSequenceClassification, weight: torch.Tensor, bias: torch.Tensor
) -> RositaForSequenceClassification:
    state = {**model.state_dict(), WEIGHT: weight.float(), BIAS: bias.float()}
    return build(model.config, state).train(model.training)
