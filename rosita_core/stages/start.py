"""The pretrained model that the stages `teacher` and `student` start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rosita_core.measuring.score import Scoring, predict_logits, predictions_of
from rosita_core.model.checkpoint import placed
from rosita_core.model.pretrained import Pretrained, has_classifier, load
from rosita_core.training.answers import in_standard_scores
from rosita_core.training.label_unit import unit_of_answers
from rosita_core.training.run import TrainingRun

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


def start(
    pretrained: Pretrained, scoring: Scoring, run: TrainingRun
) -> RositaForSequenceClassification:
    """The pretrained model, for a training.

    A classifier of the checkpoint's own may answer a regression in any unit: that is found on the
    selection rows. A new one answers in standard scores as it is. Raises what `load` raises.
    """
    model = load(pretrained)
    if not scoring.regression or not has_classifier(pretrained):
        return model
    unit = unit_of_answers(selection_predictions(model, scoring, run), run.selection.labels)
    return in_standard_scores(model, unit)


def selection_predictions(
    model: RositaForSequenceClassification, scoring: Scoring, run: TrainingRun
) -> np.ndarray:
    """What a model answers on the selection rows: class indices (N,) or numbers (N,)."""
    on_device = placed(model, run.placement.device).eval()
    logits_NC = predict_logits(
        *(on_device, run.selection, scoring.batch_size, scoring.max_length),
        *(run.framing, run.placement),
    )
    return predictions_of(logits_NC, scoring.regression)
