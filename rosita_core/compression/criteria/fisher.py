"""Fisher information of a gate, on its diagonal.

Kwon and others, "A Fast Post-Training Pruning Framework for Transformers" (NeurIPS 2022), after the
authors' code: the squared gradient of each mini-batch's mean loss by the gate, summed over batches.
They draw the rows with replacement; here one sample without serves all methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rosita_core.compression.importance import Importance
from rosita_core.compression.statistics import MeasuredCriterion, Statistics

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class Fisher(MeasuredCriterion):
    """Of the loss with the labels; heads and units are on one scale."""

    needs_labels: ClassVar[bool] = True
    needs_classes: ClassVar[bool] = False
    ranks_heads: ClassVar[bool] = True

    def rank(self, model: RositaForSequenceClassification, statistics: Statistics) -> Importance:
        """Squares, summed over mini-batches."""
        gates = statistics.loss
        assert gates is not None, "a recipe that does not read labels is refused"
        return Importance(
            tuple(heads.double().square().sum(0) for heads in gates.heads),
            tuple(units.double().square().sum(0) for units in gates.ffn_units),
        )
