"""First-order Taylor (ROSITA, section on pruning): the loss that a weight's removal would cost.

I(w) = | w * sum over mini-batches b of |dL_b/dw| |.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from rosita_core.compression.criteria import Criterion, Totals
from rosita_core.compression.importance import Importance, ranked_weights, summed_up

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification


@dataclass(frozen=True)
class Taylor(Criterion):
    """Weights times the sum of their absolute gradients."""

    needs_gradients: ClassVar[bool] = True

    def begin(self, model: RositaForSequenceClassification) -> Totals:
        """Sums at zero, one per ranked weight and of its shape."""
        return {name: torch.zeros_like(w) for name, w in ranked_weights(model).items()}

    @torch.no_grad()
    def accumulate(self, totals: Totals, model: RositaForSequenceClassification) -> Totals:
        """`totals` and the absolute gradient of this mini-batch: opposite signs do not cancel.

        Raises:
            ValueError: where a ranked weight has no gradient.
        """
        gradients = _gradients(model, totals)
        summed = torch._foreach_add(list(totals.values()), torch._foreach_abs(gradients))
        return dict(zip(totals, summed, strict=True))

    @torch.no_grad()
    def score(self, model: RositaForSequenceClassification, totals: Totals) -> Importance:
        """From the current weights, and the absolute gradients since `begin`."""
        weights = ranked_weights(model)
        return summed_up(model, {name: (weights[name] * totals[name]).abs() for name in totals})


def _gradients(model: RositaForSequenceClassification, totals: Totals) -> list[torch.Tensor]:
    weights = ranked_weights(model)
    gradients = []
    for name in totals:
        gradient = weights[name].grad
        if gradient is None:
            raise ValueError(
                f"model must hold a gradient of every ranked weight, got none of {name}"
            )
        gradients.append(gradient)
    return gradients
