"""New weights for what is kept, so that a sub-layer still says what it said: one file per repair.

Letters: N tokens, K columns that are kept of what enters a weight, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class System:
    """The least squares of one sub-layer: Z W' shall be B, over the tokens of calibration rows.

    Z is what enters the kept columns, B the dense sub-layer's output and residual less the own
    residual and the bias. All in float64.

    Attributes:
        moments_KK: Z'Z.
        wanted_KH: Z'B.
        wanted_square: the sum of the squares of B.
        columns: of a head or unit: the head size, or 1.
    """

    moments_KK: torch.Tensor
    wanted_KH: torch.Tensor
    wanted_square: float
    columns: int

    def error(self, weight_HK: torch.Tensor) -> float:
        """|Z W' - B|^2."""
        weight_KH = weight_HK.double().T
        fitted = (weight_KH * (self.moments_KK @ weight_KH)).sum()
        return float(fitted - 2 * (weight_KH * self.wanted_KH).sum()) + self.wanted_square


class Repair(Protocol):
    """How a sub-layer is repaired; its error does not grow by it."""

    def weight(self, weight_HK: torch.Tensor, system: System) -> torch.Tensor | None:
        """A new weight for the kept columns, in float64; None leaves the one that there is."""
