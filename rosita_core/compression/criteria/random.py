"""Random scores: what any other criterion has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from rosita_core.compression.criteria import Criterion, Totals
from rosita_core.compression.importance import Importance

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class Random(Criterion):
    """Uniform numbers, drawn anew for each model; on every device the same.

    Attributes:
        seed: of the draws.
    """

    seed: int
    needs_gradients: ClassVar[bool] = False

    def begin(self, model: RositaForSequenceClassification) -> Totals:
        """Nothing is summed."""
        return {}

    def accumulate(self, totals: Totals, model: RositaForSequenceClassification) -> Totals:
        """Gradients say nothing here."""
        return totals

    def score(self, model: RositaForSequenceClassification, totals: Totals) -> Importance:
        """Numbers in [0, 1)."""
        generator = torch.Generator().manual_seed(self.seed)
        heads = [torch.rand(count, generator=generator) for count in model.config.layer_heads]
        units = [torch.rand(count, generator=generator) for count in model.config.layer_ffn_units]
        return Importance(tuple(heads), tuple(units)).to(str(model.device))
