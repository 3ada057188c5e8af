"""Importance of attention heads and FFN units, one file per criterion."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from rosita_core.compression.importance import Importance

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

Totals = dict[str, torch.Tensor]
"""What a criterion has summed so far, by the names that it chose; a checkpoint keeps it."""


class Criterion(Protocol):
    """How much a model would miss each head and unit.

    A caller calls `begin` once, `accumulate` after the backward pass of each mini-batch, and
    `score` at the end. None of them changes the model.
    """

    needs_gradients: ClassVar[bool]
    """Without need of gradients nobody computes any, and `accumulate` is never called."""

    def begin(self, model: RositaForSequenceClassification) -> Totals:
        """Totals before the first mini-batch, on the model's device."""

    def accumulate(self, totals: Totals, model: RositaForSequenceClassification) -> Totals:
        """`totals` and what the gradients say that `model` holds now."""

    def score(self, model: RositaForSequenceClassification, totals: Totals) -> Importance:
        """Importance of every head and unit of `model`, on its device."""
