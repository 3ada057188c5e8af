"""All of the kept columns anew, by ridge regression.

Ours; with the activations of the dense model it is the correction of Flynn and others, "STAT"
(2024), of which the abstract was read: W' = W + argmin |ZD - (B - ZW)|^2 + r mean diag(Z'Z) |D|^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rosita_core.compression.repair import Repair, System


@dataclass(frozen=True)
class Dense(Repair):
    """Least squares that prefer the weights that there are.

    Attributes:
        ridge: r, above 0.
    """

    ridge: float

    def weight(self, weight_HK: torch.Tensor, system: System) -> torch.Tensor | None:
        """See `Repair`."""
        old_KH = weight_HK.double().T
        missing_KH = system.wanted_KH - system.moments_KK @ old_KH
        penalty = self.ridge * system.moments_KK.diagonal().mean()
        damped = system.moments_KK + penalty * torch.eye(len(old_KH), dtype=old_KH.dtype)
        return (old_KH + torch.linalg.solve(damped, missing_KH)).T
