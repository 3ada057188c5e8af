"""Stage `width`: attention heads, FFN units and embedding rank pruned together while distilling."""

from __future__ import annotations

from dataclasses import dataclass

from rosita_core.compression.record import PruneRecord, record, untouched
from rosita_core.compression.schedule import spread, width_targets
from rosita_core.compression.surgery import keep_layers, prune
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
        first_layer_ranks_heads: fidelity, see `choose`.
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
    first_layer_ranks_heads: bool
    training: TrainingSettings
    distillation: DistillationSettings
    scoring: Scoring


def prune_width(
    teacher: RositaForSequenceClassification,
    train_rows: Encoded,
    selection_rows: Encoded,
    special: SpecialTokens,
    settings: WidthSettings,
    numerics: Numerics,
    report: Report,
    checkpoints: Checkpoints,
) -> Trained:
    """A copy of `teacher` (or of some of its layers) that learns from it while it gets narrower."""
    source = shape_of(teacher.config)
    layers = keep_layers(source, settings.start_layers)
    start = prune(teacher, layers)
    cut: tuple[PruneRecord, ...] = ()
    if len(settings.start_layers) < source.layers:
        cut = (record(untouched(source), 0, shape_of(start.config), layers, None),)
    targets = width_targets(
        shape_of(start.config),
        settings.keep_heads,
        settings.ffn_units,
        settings.embedding_rank,
        settings.prune_steps,
    )
    steps = total_steps(len(train_rows), settings.training)
    return train(
        start,
        train_rows,
        special,
        settings.training,
        distillation_objective(teacher, settings.distillation, numerics),
        cut,
        spread(targets, steps, settings.prune_fraction),
        settings.first_layer_ranks_heads,
        scorer(selection_rows, settings.scoring, special, numerics),
        numerics,
        report,
        checkpoints,
    )
