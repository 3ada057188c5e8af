"""A regression's model that answers in labels, or in the standard scores that it is trained in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rosita_core.model.checkpoint import build
from rosita_core.training.label_unit import LabelUnit

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

ANSWER_UNIT = "answer_unit"
"""The document beside the weights of a model that does not answer in labels: its `LabelUnit`."""
WEIGHT, BIAS = "classifier.weight", "classifier.bias"


def in_standard_scores(
    model: RositaForSequenceClassification, unit: LabelUnit | None
) -> RositaForSequenceClassification:
    """`model`, which answers in `unit`, with a classifier that answers (number - mean) / deviation.

    It is in the mode of `model`; all other weights are shared, not copied. None is no unit: a
    classification's model stays as it is.
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
