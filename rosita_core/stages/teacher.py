"""Stage `teacher`: fine-tune a pretrained BERT on the task's own labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rosita_core.measuring.score import (
    Scoring,
    predict_logits,
    predictions_of,
    selection_scorer,
)
from rosita_core.measuring.weakness import Weakness, weakness
from rosita_core.model.checkpoint import placed
from rosita_core.model.pretrained import Pretrained
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Trained, train
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

SELECTION = "selection"
"""The document beside the teacher's weights: a `Weakness` on the selection rows."""


@dataclass(frozen=True)
class TeacherSettings:
    """How the teacher is fine-tuned.

    Attributes:
        pretrained: what is fine-tuned.
        training: the loop; 0 epochs take the checkpoint's own classifier as it is.
        scoring: on the selection rows.
    """

    pretrained: Pretrained
    training: TrainingSettings
    scoring: Scoring


def finetune(
    pretrained: RositaForSequenceClassification, settings: TeacherSettings, run: TrainingRun
) -> Trained:
    """The fine-tuned teacher, and beside it how it does on the selection rows.

    Args:
        pretrained: the start; it is not changed.
        settings: how to train.
        run: rows of the task, with their labels.
    """
    score = selection_scorer(run, settings.scoring)
    if settings.training.epochs == 0:
        on_device = placed(pretrained, run.placement.device).eval()
        trained = Trained(placed(pretrained, "cpu").eval(), 0, 0, score(on_device)["score"])
    else:
        trained = train(pretrained, settings.training, hard_label_objective, run, score)
    found = _weakness(trained.model, settings.scoring, run)
    return replace(trained, documents={**trained.documents, SELECTION: found.document()})


def _weakness(
    model: RositaForSequenceClassification, scoring: Scoring, run: TrainingRun
) -> Weakness:
    on_device = placed(model, run.placement.device).eval()
    logits_NC = predict_logits(
        *(on_device, run.selection, scoring.batch_size, scoring.max_length),
        *(run.framing, run.placement),
    )
    predictions_N = predictions_of(logits_NC, scoring.regression)
    return weakness(scoring.score, predictions_N, run.selection.labels, model.config.outputs)
