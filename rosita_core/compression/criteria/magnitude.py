"""Magnitude: what is small is missed least. It needs no gradients, and so no rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from rosita_core.compression.criteria import Criterion, Totals
from rosita_core.compression.importance import Importance, ranked_weights, summed_up

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class Magnitude(Criterion):
    """The sum of the absolute weights of a head or unit (its L1 norm)."""

    needs_gradients: ClassVar[bool] = False

    def begin(self, model: RositaForSequenceClassification) -> Totals:
        """Nothing is summed."""
        return {}

    def accumulate(self, totals: Totals, model: RositaForSequenceClassification) -> Totals:
        """Gradients say nothing here."""
        return totals

    @torch.no_grad()
    def score(self, model: RositaForSequenceClassification, totals: Totals) -> Importance:
        """From the current weights alone."""
        return summed_up(model, {n: w.abs() for n, w in ranked_weights(model).items()})
