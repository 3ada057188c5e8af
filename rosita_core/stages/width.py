"""Stage `width`: attention heads, FFN units and embedding rank pruned together while distilling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosita_core.compression.allocation import Allocation
from rosita_core.compression.criteria import Criterion
from rosita_core.compression.iterative import Choice, IterativePruning
from rosita_core.compression.kept import keep_layers
from rosita_core.compression.prune_record import PruneRecord, prune_record, untouched
from rosita_core.compression.schedule import at_equal_distances, width_targets
from rosita_core.compression.surgery import prune
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
class WidthSettings:
    """How width is pruned.

    Attributes:
        start_layers: layers of the teacher that the student starts from, ascending: all of them in
            setting 4, a one-step depth cut in setting 3.
        keep_heads: attention heads per layer at the end.
        ffn_units: FFN units per layer at the end.
        embedding_rank: rank of the word embedding at the end.
        prune_steps: P, prunes on the way.
        prune_fraction: part of training in which they happen, in (0, 1].
        criterion: what a head and a unit are worth, by the training's own loss.
        allocation: which of them stay.
        reset_optimizer: fidelity: forget the moments at every prune.
        training: the loop.
        distillation: hidden states and predictions in the paper.
        scoring: on the selection rows.
    """

    start_layers: tuple[int, ...]
    keep_heads: int
    ffn_units: int
    embedding_rank: int
    prune_steps: int
    prune_fraction: float
    criterion: Criterion
    allocation: Allocation
    reset_optimizer: bool
    training: TrainingSettings
    distillation: DistillationSettings
    scoring: Scoring


def prune_width(
    teacher: RositaForSequenceClassification,
    settings: WidthSettings,
    run: TrainingRun,
    kept: KeptOutputs | None = None,
) -> Trained:
    """A copy of `teacher` (or of some of its layers) that learns from it while it gets narrower.

    Example: a12_l8_f3072_e768 to a2_l8_f512_e128 in ten prunes: a head, 256 units and 64 columns of
    the embedding go at each.

    Args:
        teacher: it is not changed.
        settings: how far to prune, and how to train.
        run: augmented rows; their labels are not read.
        kept: what the teacher says of the rows, where it is not to be computed; else None.
    """
    start, before = _start(teacher, settings.start_layers)
    targets = width_targets(
        shape_of(start.config),
        settings.keep_heads,
        settings.ffn_units,
        settings.embedding_rank,
        settings.prune_steps,
    )
    steps = total_steps(len(run.rows), settings.training)
    pruning = IterativePruning(
        events=at_equal_distances(targets, steps, settings.prune_fraction),
        choice=Choice(settings.criterion, settings.allocation),
        reset_optimizer=settings.reset_optimizer,
        before=before,
    )
    objective = distillation_objective(teacher, settings.distillation, run.placement, kept)
    score = selection_scorer(run, settings.scoring)
    return train(start, settings.training, objective, run, score, (pruning,))


def _start(
    teacher: RositaForSequenceClassification, layers: tuple[int, ...]
) -> tuple[RositaForSequenceClassification, tuple[PruneRecord, ...]]:
    """The layers of the teacher that the student starts from, and the record of the others."""
    source = shape_of(teacher.config)
    kept = keep_layers(source, layers)
    start = prune(teacher, kept)
    if len(layers) == source.layers:
        return start, ()
    return start, (prune_record(untouched(source), 0, shape_of(start.config), kept, None),)
