"""Stage `teacher`: fine-tune a pretrained BERT on the task's own labels."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.measuring.score import Scoring, selection_scorer
from rosita_core.model.checkpoint import placed
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.model.pretrained import Pretrained
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Trained, train
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings


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
    """The fine-tuned teacher.

    Args:
        pretrained: the start; it is not changed.
        settings: how to train.
        run: rows of the task, with their labels.
    """
    score = selection_scorer(run, settings.scoring)
    if settings.training.epochs == 0:
        on_device = placed(pretrained, run.placement.device).eval()
        return Trained(placed(pretrained, "cpu").eval(), 0, 0, score(on_device)["score"])
    return train(pretrained, settings.training, hard_label_objective, run, score)
