"""Attribution: what a head or unit adds to the probability of the class.

After Yang and others, "Task-specific Compression for Multi-task Language Models using
Attribution-based Pruning" (2022): the sum over rows and tokens of h * dp/dh, signed, which is the
gradient of p by a gate of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rosita_core.compression.importance import Importance
from rosita_core.compression.statistics import MeasuredCriterion, Statistics

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class Attribution(MeasuredCriterion):
    """Of the row's own class, or of the predicted one where labels are not read."""

    needs_labels: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = True
    ranks_heads: ClassVar[bool] = True

    def rank(self, model: RositaForSequenceClassification, statistics: Statistics) -> Importance:
        """What lowers the probability is worth less than nothing."""
        gates = statistics.probability
        assert gates is not None, "a recipe without classes is refused"
        return Importance(
            tuple(heads.double().sum(0) for heads in gates.heads),
            tuple(units.double().sum(0) for units in gates.ffn_units),
        )
