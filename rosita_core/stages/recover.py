"""Stage `recover`: train what a cut has left, on labels or by the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.distillation.kept import KeptOutputs
from rosita_core.distillation.objective import DistillationSettings, distillation_objective
from rosita_core.measuring.score import Scoring, selection_scorer
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Objective, Trained, train
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class RecoverSettings:
    """How a model that was cut is trained.

    Attributes:
        training: the loop.
        distillation: what is learned from the teacher; None to train on hard labels.
        scoring: on the selection rows.
    """

    training: TrainingSettings
    distillation: DistillationSettings | None
    scoring: Scoring


def recover(
    source: RositaForSequenceClassification,
    teacher: RositaForSequenceClassification,
    settings: RecoverSettings,
    run: TrainingRun,
    kept: KeptOutputs | None = None,
) -> Trained:
    """The trained model, of the same shape.

    Args:
        source: what was cut; it is not changed.
        teacher: what it was cut from.
        settings: how to train.
        run: rows, and where to compute.
        kept: what the teacher says of the rows, where it is not to be computed; else None.
    """
    objective: Objective = hard_label_objective
    if settings.distillation is not None:
        objective = distillation_objective(teacher, settings.distillation, run.placement, kept)
    score = selection_scorer(run, settings.scoring)
    return train(source, settings.training, objective, run, score)
