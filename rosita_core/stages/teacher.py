"""Stage `teacher`: fine-tune a pretrained BERT on the task's own labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rosita_core.measuring.score import Scoring, selection_scorer
from rosita_core.measuring.weakness import Weakness, weakness
from rosita_core.model.checkpoint import placed
from rosita_core.model.pretrained import Pretrained
from rosita_core.stages.start import selection_predictions
from rosita_core.training.answers import ANSWER_UNIT
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.label_unit import unit_of_answers
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

    One of numbers that is taken as it is may answer in any unit: that is found there and written
    beside it, so that a student learns its answers in standard scores and answers in labels.

    Args:
        pretrained: the start; it is not changed.
        settings: how to train.
        run: rows of the task, with their labels.
    """
    as_it_is = settings.training.epochs == 0
    score = selection_scorer(run, settings.scoring)
    if as_it_is:
        on_device = placed(pretrained, run.placement.device).eval()
        trained = Trained(placed(pretrained, "cpu").eval(), 0, 0, score(on_device)["score"])
    else:
        trained = train(pretrained, settings.training, hard_label_objective, run, score)
    predictions_N = selection_predictions(trained.model, settings.scoring, run)
    documents = dict(trained.documents)
    if as_it_is and settings.scoring.regression:
        unit = unit_of_answers(predictions_N, run.selection.labels)
        documents[ANSWER_UNIT] = asdict(unit)
        predictions_N = (predictions_N - unit.mean) / unit.deviation
    documents[SELECTION] = _weakness(predictions_N, settings, run).document()
    return replace(trained, documents=documents)


def _weakness(predictions_N: np.ndarray, settings: TeacherSettings, run: TrainingRun) -> Weakness:
    outputs = settings.pretrained.outputs
    return weakness(settings.scoring.score, predictions_N, run.selection.labels, outputs)
