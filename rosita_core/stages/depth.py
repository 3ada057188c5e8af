"""Stage `depth`: the model with fewer layers, top layers removed while distilling or at once."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.compression.schedule import depth_targets, spread
from rosita_core.data.encoding import Encoded, SpecialTokens
from rosita_core.distillation.objective import DistillationSettings, distillation_objective
from rosita_core.measuring.score import Scoring, scorer
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.training.checkpoints import Checkpoints
from rosita_core.training.loop import Trained, total_steps, train
from rosita_core.training.numerics import Numerics
from rosita_core.training.progress import Report
from rosita_core.training.settings import TrainingSettings


@dataclass(frozen=True)
class DepthSettings:
    """How depth is pruned.

    Attributes:
        keep_layers: layers that stay.
        prune_fraction: part of training in which layers are removed, in (0, 1].
        training: the loop.
        distillation: predictions only in the paper.
        scoring: on the selection rows.
    """

    keep_layers: int
    prune_fraction: float
    training: TrainingSettings
    distillation: DistillationSettings
    scoring: Scoring


def prune_depth(
    teacher: RositaForSequenceClassification,
    train_rows: Encoded,
    selection_rows: Encoded,
    special: SpecialTokens,
    settings: DepthSettings,
    numerics: Numerics,
    report: Report,
    checkpoints: Checkpoints,
) -> Trained:
    """A copy of `teacher` that learns from it while its top layers go, one at a time."""
    targets = depth_targets(shape_of(teacher.config), settings.keep_layers)
    steps = total_steps(len(train_rows), settings.training)
    return train(
        teacher,
        train_rows,
        special,
        settings.training,
        distillation_objective(teacher, settings.distillation, numerics),
        (),
        spread(targets, steps, settings.prune_fraction),
        False,
        scorer(selection_rows, settings.scoring, special, numerics),
        numerics,
        report,
        checkpoints,
    )
