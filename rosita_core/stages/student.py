"""Stage `student`: BERT(student), the full-size model taught by the fine-tuned teacher."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.data.encoding import Encoded, SpecialTokens
from rosita_core.distillation.objective import DistillationSettings, distillation_objective
from rosita_core.measuring.score import Scoring, scorer
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.model.pretrained import Pretrained
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained, train
from rosita_core.training.numerics import Numerics
from rosita_core.training.progress import Report
from rosita_core.training.settings import TrainingSettings


@dataclass(frozen=True)
class StudentSettings:
    """How BERT(student) is distilled.

    Attributes:
        start: "pretrained" (the paper) or "teacher".
        pretrained: the start, where it is the pretrained model.
        training: the loop.
        distillation: predictions only in the paper.
        scoring: on the selection rows.
    """

    start: str
    pretrained: Pretrained
    training: TrainingSettings
    distillation: DistillationSettings
    scoring: Scoring


def distill(
    teacher: RositaForSequenceClassification,
    start: RositaForSequenceClassification,
    train_rows: Encoded,
    selection_rows: Encoded,
    special: SpecialTokens,
    settings: StudentSettings,
    numerics: Numerics,
    report: Report,
    checkpoints: Checkpoints,
) -> Trained:
    """`start` (the pretrained BERT in the paper) after learning from `teacher`."""
    return train(
        start,
        train_rows,
        special,
        settings.training,
        distillation_objective(teacher, settings.distillation, numerics),
        (),
        (),
        False,
        scorer(selection_rows, settings.scoring, special, numerics),
        numerics,
        report,
        checkpoints,
    )
