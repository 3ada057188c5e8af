"""Stage `one-step`: rank once, cut once, then train (KD settings none, 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rosita_core.compression.criteria.taylor import Importance
from rosita_core.compression.ranking import is_ranking, rank
from rosita_core.compression.record import PruneRecord, record, untouched
from rosita_core.compression.surgery import choose, prune
from rosita_core.data.encoding import Encoded, SpecialTokens
from rosita_core.distillation.objective import DistillationSettings, distillation_objective
from rosita_core.measuring.score import Scoring, scorer
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.model.shape import narrowed, shallower
from rosita_core.training.checkpoints import Checkpoints, FromNow
from rosita_core.training.hard_labels import hard_label_objective
from rosita_core.training.loop import Objective, Trained, train
from rosita_core.training.numerics import Numerics
from rosita_core.training.progress import Progress, Report
from rosita_core.training.settings import TrainingSettings

RANKINGS = ("labels", "distillation")


@dataclass(frozen=True)
class OneStepSettings:
    """How a model is cut at once and trained afterwards.

    Attributes:
        start_layers: layers of the source that stay, ascending.
        keep_heads, ffn_units, embedding_rank: the target.
        rank_by: "labels" (cross-entropy of the fine-tuned teacher) or "distillation" (KD loss).
        update_while_ranking: fidelity: in setting 2 the authors update the weights while importance
            accumulates, and then prune the untouched model.
        first_layer_ranks_heads: fidelity, see `choose`.
        training: the loop after the cut.
        distillation: None to train on hard labels (KD setting none).
        scoring: on the selection rows.
    """

    start_layers: tuple[int, ...]
    keep_heads: int
    ffn_units: int
    embedding_rank: int
    rank_by: str
    update_while_ranking: bool
    first_layer_ranks_heads: bool
    training: TrainingSettings
    distillation: DistillationSettings | None
    scoring: Scoring

    def __post_init__(self) -> None:
        if self.rank_by not in RANKINGS:
            raise ValueError(f"rank_by must be one of {RANKINGS}, got {self.rank_by!r}")
        if self.rank_by == "distillation" and self.distillation is None:
            raise ValueError(
                "rank_by must be 'labels' where nothing is distilled, got 'distillation'"
            )


def prune_one_step(
    source: RositaForSequenceClassification,
    kd_teacher: RositaForSequenceClassification,
    ranking_teacher: RositaForSequenceClassification,
    original_rows: Encoded,
    train_rows: Encoded,
    selection_rows: Encoded,
    special: SpecialTokens,
    settings: OneStepSettings,
    numerics: Numerics,
    report: Report,
    checkpoints: Checkpoints,
) -> Trained:
    """The pruned and retrained model.

    Args:
        source: the model that is ranked and cut.
        kd_teacher: who teaches the pruned model.
        ranking_teacher: whose predictions rank `source` where `rank_by` is "distillation". It must
            differ from `source`: a model that agrees with its teacher has no gradient to rank by.
        original_rows: one epoch of them, without updates, gives the importance.
        train_rows: for the training after the cut.
    """
    saved = checkpoints.latest()
    start, cut = source, tuple[PruneRecord, ...]()
    if saved is None or is_ranking(saved):
        ranking = rank(
            source,
            original_rows,
            special,
            settings.training,
            settings.update_while_ranking,
            _ranking_objective(ranking_teacher, settings, numerics),
            numerics,
            report,
            checkpoints,
        )
        start, cut = _cut(source, ranking, settings, report)
        # What lies there is of the ranking.
        checkpoints = FromNow(checkpoints)
    if settings.distillation is not None:
        objective = distillation_objective(kd_teacher, settings.distillation, numerics)
    else:
        objective = hard_label_objective
    return train(
        start,
        train_rows,
        special,
        settings.training,
        objective,
        cut,
        (),
        False,
        scorer(selection_rows, settings.scoring, special, numerics),
        numerics,
        report,
        checkpoints,
    )


def _ranking_objective(
    teacher: RositaForSequenceClassification, settings: OneStepSettings, numerics: Numerics
) -> Objective:
    if settings.rank_by == "distillation" and settings.distillation is not None:
        predictions = replace(settings.distillation, hidden=False)
        return distillation_objective(teacher, predictions, numerics)
    return hard_label_objective


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
    kept = choose(shape, target, settings.start_layers, ranking, settings.first_layer_ranks_heads)
    report(Progress(0, 1, {}, str(target), f"pruned {shape} -> {target}"))
    cut = record(untouched(shape), 0, target, kept, ranking)
    return prune(source, kept), (cut,)
