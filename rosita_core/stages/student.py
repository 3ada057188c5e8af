"""Stage `student`: BERT(student), the full-size model taught by the fine-tuned teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.distillation.kept import KeptOutputs
from rosita_core.distillation.objective import DistillationSettings, distillation_objective
from rosita_core.measuring.score import Scoring, selection_scorer
from rosita_core.model.pretrained import Pretrained
from rosita_core.training.loop import Trained, train
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


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
    settings: StudentSettings,
    run: TrainingRun,
    kept: KeptOutputs | None = None,
) -> Trained:
    """`start` (the pretrained BERT in the paper) after learning from `teacher`.

    Args:
        teacher: fine-tuned; it is not changed.
        start: of the teacher's size; it is not changed.
        settings: how to train.
        run: augmented rows; their labels are not read.
        kept: what the teacher says of the rows, where it is not to be computed; else None.
    """
    objective = distillation_objective(teacher, settings.distillation, run.placement, kept)
    score = selection_scorer(run, settings.scoring)
    return train(start, settings.training, objective, run, score)
