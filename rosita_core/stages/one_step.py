"""Stage `one-step`: rank once, cut once, then train (KD settings none, 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rosita_core.compression.allocation import Allocation
from rosita_core.compression.criteria import Criterion
from rosita_core.compression.importance import Importance
from rosita_core.compression.prune_record import CutBefore, PruneRecord, prune_record, untouched
from rosita_core.compression.ranking import is_ranking, rank
from rosita_core.compression.surgery import prune
from rosita_core.data.encoding import Encoded
from rosita_core.distillation.kept import KeptOutputs
from rosita_core.distillation.objective import DistillationSettings, distillation_objective
from rosita_core.measuring.score import Scoring, selection_scorer
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.shape import narrowed, shallower
from rosita_core.training.checkpoints import FromNow
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Objective, Trained, train
from rosita_core.training.progress import Progress, Report
from rosita_core.training.run import TrainingRun
from rosita_core.training.settings import TrainingSettings

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class OneStepSettings:
    """How a model is cut at once and trained afterwards.

    Attributes:
        start_layers: layers of the source that stay, ascending.
        keep_heads, ffn_units, embedding_rank: the target.
        criterion: what a head and a unit are worth.
        allocation: which of them stay.
        ranking: the loss whose gradients the criterion reads: what is distilled from the ranking
            teacher. None for the cross-entropy with the labels.
        update_while_ranking: fidelity: in setting 2 the authors update the weights while importance
            accumulates, and then prune the untouched model.
        training: the loop after the cut.
        distillation: None to train on hard labels (KD setting none).
        scoring: on the selection rows.
    """

    start_layers: tuple[int, ...]
    keep_heads: int
    ffn_units: int
    embedding_rank: int
    criterion: Criterion
    allocation: Allocation
    ranking: DistillationSettings | None
    update_while_ranking: bool
    training: TrainingSettings
    distillation: DistillationSettings | None
    scoring: Scoring


def prune_one_step(
    source: RositaForSequenceClassification,
    kd_teacher: RositaForSequenceClassification,
    ranking_teacher: RositaForSequenceClassification,
    original_rows: Encoded,
    settings: OneStepSettings,
    run: TrainingRun,
    kept: KeptOutputs | None = None,
) -> Trained:
    """The pruned and retrained model.

    Args:
        source: the model that is ranked and cut; it is not changed.
        kd_teacher: who teaches the pruned model.
        ranking_teacher: whose predictions rank `source` where `ranking` says so. It must differ
            from `source`: a model that agrees with its teacher has no gradient to rank by.
        original_rows: one epoch of them, without updates, gives the importance.
        settings: how far to prune, and how to train.
        run: rows for the training after the cut.
        kept: what `kd_teacher` says of these, where it is not to be computed; else None.
    """
    start, before = source, tuple[PruneRecord, ...]()
    saved = run.checkpoints.latest()
    if saved is None or is_ranking(saved):
        ranking = rank(
            source,
            settings.criterion,
            settings.training,
            settings.update_while_ranking,
            _objective(ranking_teacher, settings.ranking, run),
            replace(run, rows=original_rows),
        )
        start, before = _cut(source, ranking, settings, run.report)
        # What lies there is of the ranking.
        run = replace(run, checkpoints=FromNow(run.checkpoints))
    objective = _objective(kd_teacher, settings.distillation, run, kept)
    score = selection_scorer(run, settings.scoring)
    return train(start, settings.training, objective, run, score, (CutBefore(before),))


def _objective(
    teacher: RositaForSequenceClassification,
    distillation: DistillationSettings | None,
    run: TrainingRun,
    kept: KeptOutputs | None = None,
) -> Objective:
    if distillation is None:
        return hard_label_objective
    return distillation_objective(teacher, distillation, run.placement, kept)


def _cut(
    source: RositaForSequenceClassification,
    ranking: Importance,
    settings: OneStepSettings,
    report: Report,
) -> tuple[RositaForSequenceClassification, tuple[PruneRecord, ...]]:
    shape = shape_of(source.config)
    target = narrowed(
        shallower(shape, len(settings.start_layers)),
        settings.keep_heads,
        settings.ffn_units,
        settings.embedding_rank,
    )
    kept = settings.allocation.choose(shape, target, settings.start_layers, ranking)
    report(Progress(0, 1, {}, str(target), f"pruned {shape} -> {target}"))
    return prune(source, kept), (prune_record(untouched(shape), 0, target, kept, ranking),)
