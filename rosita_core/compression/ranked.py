"""Importance from what was measured, by criteria of either kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from rosita_core.compression.criteria import Criterion
from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept
from rosita_core.compression.statistics import GateGradients, MeasuredCriterion, Statistics

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


def importance_of(
    criterion: Criterion | MeasuredCriterion,
    model: RositaForSequenceClassification,
    statistics: Statistics,
) -> Importance:
    """What each head and unit of `model` is worth, on the CPU.

    The sums of weights of a criterion that ranks a training, too, are larger for heads than for
    units, whatever they are worth: each kind is divided by its total.
    """
    if hasattr(criterion, "rank"):
        return criterion.rank(model, statistics).to("cpu")
    totals = dict(statistics.weight_gradients) if criterion.needs_gradients else None
    found = criterion.score(model, criterion.begin(model) if totals is None else totals).to("cpu")
    return replace(found, heads=_shares(found.heads), ffn_units=_shares(found.ffn_units))


def ranks_heads(criterion: Criterion | MeasuredCriterion) -> bool:
    """Whether heads may be cut by it."""
    return getattr(criterion, "ranks_heads", True)


def rearranged(kept: Kept, gates: GateGradients) -> Kept:
    """As many heads and units of each layer, of which those are pruned that cancel each other.

    After the authors' code of Kwon and others (2022), see `fisher`: the lowest-scored are pruned at
    first; each further one joins them in ascending order, and the one leaves whose absence makes
    the squared norm of the sum of their gradient vectors least.
    """
    return replace(
        kept,
        heads=_rearranged(kept.heads, gates.heads),
        ffn_units=_rearranged(kept.ffn_units, gates.ffn_units),
    )


def _rearranged(
    kept: tuple[torch.Tensor, ...], gates: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    return tuple(
        rearranged_layer(gradients.double(), len(indices))
        for indices, gradients in zip(kept, gates, strict=True)
    )


def rearranged_layer(gradients_Mn: torch.Tensor, keep: int) -> torch.Tensor:
    """Indices of the `keep` of n that stay, ascending."""
    score_n = gradients_Mn.square().sum(0)
    order = torch.sort(score_n, descending=True, stable=True).indices.flip(0)
    products_nn = gradients_Mn.T @ gradients_Mn
    pruned = torch.zeros(len(score_n), dtype=torch.bool)
    first = len(score_n) - keep
    pruned[order[:first]] = True
    with_sum_n = products_nn[:, pruned].sum(1)
    for index in order[first:].tolist() if first else []:
        pruned[index] = True
        with_sum_n = with_sum_n + products_nn[:, index]
        # |S - g|^2 = |S|^2 - 2 S'g + |g|^2, of which the first is the same for all.
        without_n = torch.where(pruned, score_n - 2 * with_sum_n, torch.inf)
        leaves = int(without_n.argmin())
        pruned[leaves] = False
        with_sum_n = with_sum_n - products_nn[:, leaves]
    return torch.arange(len(score_n))[~pruned]


def _shares(scores: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    total = sum(float(score.double().sum()) for score in scores)
    return tuple(score.double() / total if total > 0 else score.double() for score in scores)
