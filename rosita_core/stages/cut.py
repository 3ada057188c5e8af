"""Stage `cut`: rank heads and units by what was measured, keep what a budget pays for, repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rosita_core.compression.allocation import Allocation
from rosita_core.compression.budgets.budget import Limit, purse_of
from rosita_core.compression.budgets.spending import Spending
from rosita_core.compression.calibration import Calibration
from rosita_core.compression.criteria import Criterion
from rosita_core.compression.prune_record import documented, prune_record, untouched
from rosita_core.compression.ranked import importance_of, ranks_heads, rearranged
from rosita_core.compression.repair import Repair
from rosita_core.compression.repairing import repaired
from rosita_core.compression.statistics import MeasuredCriterion, Statistics
from rosita_core.compression.surgery import prune
from rosita_core.compression.within_budget import kept_within
from rosita_core.data.encoding import Encoded
from rosita_core.data.framing import Framing
from rosita_core.measuring.score import Scoring, scorer
from rosita_core.model.checkpoint import placed, shape_of
from rosita_core.model.shape import rank_or_full
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Progress, Report

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

CUT = "cut"
"""The document beside the weights: how each sub-layer was repaired, and at how many tokens."""


@dataclass(frozen=True)
class CutSettings:
    """How a model is cut without training.

    Attributes:
        criterion: what a head and a unit are worth.
        allocation: which of them the budget keeps.
        rearrange: whether those that cancel each other go instead of the least, in each layer.
        repair: how what is left makes up for what went; None for not at all.
        limit: how large the model may be.
        floor_heads, floor_units: that each layer keeps at least.
        embedding_rank: of the word embedding; None keeps it.
        calibration: the rows that repairs read, those that were measured.
        scoring: on the selection rows.
    """

    criterion: Criterion | MeasuredCriterion
    allocation: Allocation | Spending
    rearrange: bool
    repair: Repair | None
    limit: Limit
    floor_heads: int
    floor_units: int
    embedding_rank: int | None
    calibration: Calibration
    scoring: Scoring


@dataclass(frozen=True)
class CutModel:
    """A model that was cut, in eval mode on the CPU.

    Attributes:
        model: the smaller model.
        score: on the selection rows.
        documents: to keep beside it.
    """

    model: RositaForSequenceClassification
    score: float
    documents: Mapping[str, Any]


def cut(
    dense: RositaForSequenceClassification,
    statistics: Statistics,
    rows: Encoded,
    selection: Encoded,
    framing: Framing,
    settings: CutSettings,
    placement: Placement,
    report: Report,
) -> CutModel:
    """What the budget keeps of `dense`.

    Args:
        dense: the model that was measured; it is not changed.
        statistics: of it.
        rows: the training rows; repairs read the calibration rows among them.
        selection: rows that score the result; they choose nothing here.
        framing: what stands around texts.
        settings: how to cut.
        placement: where to compute; repairs are in float32 whatever its precision.
        report: called before every part.

    Raises:
        ValueError: where the budget is below the floors.
    """
    source = shape_of(dense.config)
    steps = 3
    report(Progress(0, steps, {}, str(source), "ranking heads and FFN units"))
    tokens = settings.limit.tokens or statistics.mean_tokens
    ranking = importance_of(settings.criterion, dense, statistics)
    purse = purse_of(
        *(source, settings.limit, tokens, settings.embedding_rank),
        *((settings.floor_heads, settings.floor_units), ranks_heads(settings.criterion)),
    )
    kept = kept_within(settings.allocation, source, ranking, purse)
    if settings.rearrange:
        assert statistics.loss is not None, "a recipe that does not read labels is refused"
        kept = rearranged(kept, statistics.loss)
    if settings.embedding_rank is not None:
        kept = replace(kept, embedding_rank=rank_or_full(source, settings.embedding_rank))
    model = prune(dense, kept).eval()
    target = shape_of(model.config)
    report(Progress(1, steps, {}, str(target), f"cut {source} -> {target}"))
    fits: list[dict[str, Any]] = []
    if settings.repair is not None:
        batches = list(settings.calibration.batches(rows, framing))
        done = repaired(dense, model, batches, settings.repair, placement.device)
        model, fits = done.model, [asdict(fit) for fit in done.fits]
    report(Progress(2, steps, {}, str(target), None))
    score = scorer(selection, settings.scoring, framing, placement)
    found = score(placed(model, placement.device).eval())["score"]
    report(Progress(steps, steps, {"dev/score": found}, str(target), None))
    record = prune_record(untouched(source), 0, target, kept, ranking)
    return CutModel(model, found, documented((record,)) | {CUT: {"tokens": tokens, "fits": fits}})
