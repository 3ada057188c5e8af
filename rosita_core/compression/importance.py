"""Scores of attention heads and FFN units, and which of them are the largest.

Letters: L layers, A heads, D head size, F FFN units, H hidden size, n scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


RANKED = ("attention.output.dense.weight", "intermediate.dense.weight", "output.dense.weight")


@dataclass(frozen=True)
class Importance:
    """Scores of one model: per layer, one number per head (A,) and per FFN unit (F,)."""

    heads: tuple[torch.Tensor, ...]
    ffn_units: tuple[torch.Tensor, ...]

    def to(self, device: str) -> Importance:
        """The same scores on `device`."""
        return Importance(
            tuple(score.to(device) for score in self.heads),
            tuple(score.to(device) for score in self.ffn_units),
        )


def ranked_weights(model: RositaForSequenceClassification) -> dict[str, torch.Tensor]:
    """The weights that decide, by name: per layer, attention output and both FFN matrices."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if ".layer." in name and name.endswith(RANKED)
    }


@torch.no_grad()
def summed_up(
    model: RositaForSequenceClassification, scores: Mapping[str, torch.Tensor]
) -> Importance:
    """Scores of heads and units from scores of single weights.

    A head sums its columns of the attention output (H, A*D). An FFN unit sums its row of the
    intermediate matrix (F, H) and its column of the output matrix (H, F).

    Args:
        model: whose heads and units they are.
        scores: one tensor for each of `ranked_weights`, of its name and shape.
    """
    heads, units = [], []
    for index, count in enumerate(model.config.layer_heads):
        prefix = f"bert.encoder.layer.{index}."
        columns = scores[prefix + "attention.output.dense.weight"].sum(0)
        heads.append(columns.view(count, model.config.head_size).sum(1))
        rows = scores[prefix + "intermediate.dense.weight"].sum(1)
        units.append(rows + scores[prefix + "output.dense.weight"].sum(0))
    return Importance(tuple(heads), tuple(units))


def keep_top(score: torch.Tensor, keep: int) -> torch.Tensor:
    """Indices of the `keep` largest scores, ascending; of equal scores the lower index stays.

    Example: of the scores 3, 1, 3, 2 the top two are at 0 and 2.

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
