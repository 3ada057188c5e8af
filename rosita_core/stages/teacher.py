"""Stage `teacher`: fine-tune a pretrained BERT on the task's own labels."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.data.encoding import Encoded, SpecialTokens
from rosita_core.measuring.score import Scoring, scorer
from rosita_core.model.checkpoint import placed
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.model.pretrained import Pretrained
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Trained, train
from rosita_core.training.numerics import Numerics
from rosita_core.training.progress import Report
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
    pretrained: RositaForSequenceClassification,
    train_rows: Encoded,
    selection_rows: Encoded,
    special: SpecialTokens,
    settings: TeacherSettings,
    numerics: Numerics,
    report: Report,
    checkpoints: Checkpoints,
) -> Trained:
    """The fine-tuned teacher; `pretrained` stays as it is."""
    if settings.training.epochs == 0:
        score = scorer(selection_rows, settings.scoring, special, numerics)
        on_device = placed(pretrained, numerics.device).eval()
        return Trained(placed(pretrained, "cpu").eval(), 0, 0, score(on_device)["score"], ())
    return train(
        pretrained,
        train_rows,
        special,
        settings.training,
        hard_label_objective,
        (),
        (),
        False,
        scorer(selection_rows, settings.scoring, special, numerics),
        numerics,
        report,
        checkpoints,
    )
