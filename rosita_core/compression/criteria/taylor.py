"""Importance of attention heads and FFN units: first-order Taylor (ROSITA, section on pruning).

I(w) = | w * sum over mini-batches b of |dL_b/dw| |. Ranking is inside each layer.

Letters: L layers, A heads, D head size, F FFN units, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rosita_core.model.modeling_rosita import RositaForSequenceClassification

RANKED = ("attention.output.dense.weight", "intermediate.dense.weight", "output.dense.weight")


@dataclass(frozen=True)
class Importance:
    """Scores of one model: per layer, one number per head (A,) and per FFN unit (F,)."""

    heads: tuple[torch.Tensor, ...]
    ffn_units: tuple[torch.Tensor, ...]


def ranked_weights(model: RositaForSequenceClassification) -> dict[str, torch.Tensor]:
    """The weights whose gradients decide: per layer, attention output and both FFN matrices."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if ".layer." in name and name.endswith(RANKED)
    }


def no_gradients(model: RositaForSequenceClassification) -> dict[str, torch.Tensor]:
    """Accumulators at zero, one per ranked weight and of its shape."""
    return {name: torch.zeros_like(w) for name, w in ranked_weights(model).items()}


@torch.no_grad()
def accumulate(
    totals: dict[str, torch.Tensor], model: RositaForSequenceClassification
) -> dict[str, torch.Tensor]:
    """`totals` plus the absolute gradient that `model` holds now, mini-batch by mini-batch.

    Raises:
        ValueError: where a ranked weight has no gradient.
    """
    weights = ranked_weights(model)
    gradients = []
    for name in totals:
        gradient = weights[name].grad
        if gradient is None:
            raise ValueError(
                f"model must hold a gradient of every ranked weight, got none of {name}"
            )
        gradients.append(gradient)
    summed = torch._foreach_add(list(totals.values()), torch._foreach_abs(gradients))
    return dict(zip(totals, summed, strict=True))


@torch.no_grad()
def importance(
    model: RositaForSequenceClassification, totals: dict[str, torch.Tensor]
) -> Importance:
    """Scores from the current weights and the summed absolute gradients.

    A head's score sums its columns of the attention output; an FFN unit's sums its row of the
    intermediate matrix and its column of the output matrix.
    """
    weights = ranked_weights(model)
    taylor = {name: (weights[name] * totals[name]).abs() for name in totals}
    heads, units = [], []
    for index, count in enumerate(model.config.layer_heads):
        prefix = f"bert.encoder.layer.{index}."
        columns = taylor[prefix + "attention.output.dense.weight"].sum(0)
        heads.append(columns.view(count, model.config.head_size).sum(1))
        rows = taylor[prefix + "intermediate.dense.weight"].sum(1)
        units.append(rows + taylor[prefix + "output.dense.weight"].sum(0))
    return Importance(tuple(heads), tuple(units))


def keep_top(score: torch.Tensor, keep: int) -> torch.Tensor:
    """Indices of the `keep` largest scores, ascending; of equal scores the lower index stays.

    Args:
        score: (n,).
        keep: how many, in [1, n].

    Raises:
        ValueError: where `keep` is outside [1, n].
    """
    if not 1 <= keep <= score.numel():
        raise ValueError(f"keep must be in [1, {score.numel()}], got {keep}")
    order = torch.sort(score, descending=True, stable=True).indices
    return order[:keep].sort().values
