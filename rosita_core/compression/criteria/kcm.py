"""KCM: units that are unlike the others and that are much used, without gradients and labels.

After the abstract of Nova, Dai and Schuurmans, "Gradient-Free Structured Pruning with Unlabeled
Data" (ICML 2023), and the re-implementation of another author (wazenmai/retraining-free-pruning);
its authors published no code. R2 says how well a unit represents the columns of the FFN output
matrix around it, D2 is the norm of its activations. Heads are not ranked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from rosita_core.compression.importance import Importance
from rosita_core.compression.statistics import MeasuredCriterion, Statistics

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

# Each multiplies two (F, F) matrices.
MOST_ITERATIONS = 50


@dataclass(frozen=True)
class Kcm(MeasuredCriterion):
    """A merge of both.

    Attributes:
        merge: "ranks": the mean of both ranks in a layer (ours: a talk merges ranks without saying
            how); "product": min-max R2 by z-scored D2, as the re-implementation.
        sigma: width of the kernel; None for the median distance of two columns. With the 1 of the
            re-implementation the iteration ends at once on MiniLM, a count of neighbours.
        alpha: relative change at which the iteration ends.
    """

    merge: str
    sigma: float | None
    alpha: float
    needs_labels: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    ranks_heads: ClassVar[bool] = False

    def rank(self, model: RositaForSequenceClassification, statistics: Statistics) -> Importance:
        """Units by both scores; heads are all alike."""
        units = []
        for number, moments in enumerate(statistics.unit_moments):
            name = f"bert.encoder.layer.{number}.output.dense.weight"
            weight_HF = model.get_parameter(name).detach().cpu().float()
            alone_F = representatives(weight_HF.T, self.sigma, self.alpha)
            used_F = moments.double().diagonal().clamp_min(0).sqrt()
            units.append(self._merged(alone_F, used_F))
        heads = [torch.zeros(count) for count in model.config.layer_heads]
        return Importance(tuple(heads), tuple(units))

    def _merged(self, alone_F: torch.Tensor, used_F: torch.Tensor) -> torch.Tensor:
        if self.merge == "ranks":
            return (ranks(alone_F) + ranks(used_F)) / 2
        spread = (alone_F.max() - alone_F.min()).clamp_min(torch.finfo(alone_F.dtype).tiny)
        deviation = used_F.std().clamp_min(torch.finfo(used_F.dtype).tiny)
        return (alone_F - alone_F.min()) / spread * ((used_F - used_F.mean()) / deviation)


def representatives(rows_FH: torch.Tensor, sigma: float | None, alpha: float) -> torch.Tensor:
    """R2 of each row (F,): the diagonal of C, where C <- C * sqrt(K / KC) has come to rest.

    K_ij = exp(-|row_i - row_j|^2 / sigma^2), and C starts at 1/F everywhere.
    """
    distance_FF = torch.cdist(rows_FH, rows_FH, compute_mode="donot_use_mm_for_euclid_dist")
    count = len(rows_FH)
    if sigma is None:
        apart = distance_FF[~torch.eye(count, dtype=torch.bool)]
        sigma = float(apart.median()) if count > 1 else 1.0
    kernel_FF = torch.exp(-((distance_FF / max(sigma, torch.finfo(distance_FF.dtype).tiny)) ** 2))
    share_FF = torch.full_like(kernel_FF, 1 / count)
    for _ in range(MOST_ITERATIONS):
        new_FF = share_FF * (kernel_FF / (kernel_FF @ share_FF)).sqrt()
        change = (new_FF - share_FF).sum().abs() / share_FF.sum()
        share_FF = new_FF
        if change < alpha:
            break
    return share_FF.diagonal().clone()


def ranks(scores: torch.Tensor) -> torch.Tensor:
    """The place of each score from below, 0 the lowest; equal scores have equal places."""
    return torch.searchsorted(scores.sort().values.contiguous(), scores.contiguous()).double()
