"""Pivots of the activations: what the others can least stand in for.

After the abstract of Flynn and others, "STAT: Shrinking Transformers After Training" (2024), and
the code of its forerunner for the units: with Z the activations that enter a weight, the units are
taken in the order of a column-pivoted QR of Z, and one is worth |R_kk|, what it adds to those
before it. The pivoted Cholesky factor of Z'Z is that R. Blocks of heads are our own inference: the
next head is the one with the largest trace of the Schur complement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.linalg import lapack

from rosita_core.compression.importance import Importance
from rosita_core.compression.statistics import MeasuredCriterion, Statistics

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

SINGULAR = 1e-10
"""Of the largest eigenvalue: what is below it in a head's own block is no direction."""


@dataclass(frozen=True)
class Pivots(MeasuredCriterion):
    """By second moments alone: no labels are read and no gradients."""

    needs_labels: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    ranks_heads: ClassVar[bool] = True

    def rank(self, model: RositaForSequenceClassification, statistics: Statistics) -> Importance:
        """|R_kk| of each unit, and the root of each head's trace when its turn came."""
        size = model.config.head_size
        return Importance(
            tuple(head_pivots(moments, size) for moments in statistics.head_moments),
            tuple(unit_pivots(moments) for moments in statistics.unit_moments),
        )


def unit_pivots(moments_FF: torch.Tensor) -> torch.Tensor:
    """|R_kk| of each unit (F,) in the column-pivoted QR of Z, from Z'Z; 0 beyond its rank."""
    factor, order, rank, _ = lapack.dpstrf(moments_FF.double().numpy(), lower=0)
    score_F = np.zeros(len(factor))
    score_F[order[:rank] - 1] = np.abs(np.diag(factor))[:rank]
    return torch.from_numpy(score_F)


def head_pivots(moments: torch.Tensor, head_size: int) -> torch.Tensor:
    """Per head (A,) the root of the trace of its block of the Schur complement, at its turn."""
    rest = moments.double().clone()
    heads = len(rest) // head_size
    score_A, waiting = torch.zeros(heads, dtype=torch.float64), list(range(heads))
    while waiting:
        traces = rest.diagonal().view(heads, head_size).sum(1)
        best = max(waiting, key=lambda head: (traces[head].item(), -head))
        score_A[best] = traces[best].clamp_min(0).sqrt()
        waiting.remove(best)
        block = slice(best * head_size, (best + 1) * head_size)
        inverse = torch.linalg.pinv(rest[block, block], rtol=SINGULAR, hermitian=True)
        rest -= rest[:, block] @ inverse @ rest[block, :]
    return score_A
