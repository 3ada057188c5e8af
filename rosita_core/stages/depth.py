"""Stage `depth`: the model with fewer layers, top layers removed while distilling or at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.compression.iterative import IterativePruning
from rosita_core.compression.schedule import at_equal_distances, depth_targets
from rosita_core.distillation.kept import KeptOutputs
from rosita_core.distillation.objective import DistillationSettings, distillation_objective
from rosita_core.measuring.score import Scoring, selection_scorer
from rosita_core.model.checkpoint import shape_of
from rosita_core.training.loop import Trained, total_steps, train
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class DepthSettings:
    """How depth is pruned.

    Attributes:
        keep_layers: layers that stay.
        prune_fraction: part of training in which layers are removed, in (0, 1].
        reset_optimizer: fidelity: forget the moments at every prune.
        training: the loop.
        distillation: predictions only in the paper.
        scoring: on the selection rows.
    """

    keep_layers: int
    prune_fraction: float
    reset_optimizer: bool
    training: TrainingSettings
    distillation: DistillationSettings
    scoring: Scoring


def prune_depth(
    teacher: RositaForSequenceClassification,
    settings: DepthSettings,
    run: TrainingRun,
    kept: KeptOutputs | None = None,
) -> Trained:
    """A copy of `teacher` that learns from it while its top layers go, one at a time.

    Example: from 12 layers to 8, a layer goes after each eighth of the training where
    `prune_fraction` is a half.

    Args:
        teacher: it is not changed.
        settings: how far to prune, and how to train.
        run: augmented rows; their labels are not read.
        kept: what the teacher says of the rows, where it is not to be computed; else None.
    """
    targets = depth_targets(shape_of(teacher.config), settings.keep_layers)
    steps = total_steps(len(run.rows), settings.training)
    pruning = IterativePruning(
        events=at_equal_distances(targets, steps, settings.prune_fraction),
        choice=None,
        reset_optimizer=settings.reset_optimizer,
        before=(),
    )
    objective = distillation_objective(teacher, settings.distillation, run.placement, kept)
    score = selection_scorer(run, settings.scoring)
    return train(teacher, settings.training, objective, run, score, (pruning,))
