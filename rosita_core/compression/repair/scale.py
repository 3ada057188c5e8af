"""A factor for each kept head and unit.

Kwon and others, "A Fast Post-Training Pruning Framework for Transformers" (NeurIPS 2022), after the
authors' code: with G = (W'W) * (Z'Z) and q alike, d = s - 1 minimizes |Gd - (q - G1)|^2 + |d|^2.
Theirs refers to a larger mask and not to the dense model, leaves the first attention out and fits
an intercept that is thrown away; one factor above 10 ends it for all later layers, and here for its
own sub-layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rosita_core.compression.repair import Repair, System

IMPLAUSIBLE = 10.0


@dataclass(frozen=True)
class Scale(Repair):
    """Factors are folded into the columns of the weight, so that they cost nothing."""

    def weight(self, weight_HK: torch.Tensor, system: System) -> torch.Tensor | None:
        """See `Repair`; None where a factor is implausible."""
        old_HK = weight_HK.double()
        gram = _summed(_summed((old_HK.T @ old_HK) * system.moments_KK, 0, system), 1, system)
        wanted = _summed((old_HK.T * system.wanted_KH).sum(1), 0, system)
        missing = wanted - gram.sum(1)
        damped = gram @ gram + torch.eye(len(gram), dtype=gram.dtype)
        factors = 1 + torch.linalg.solve(damped, gram @ missing)
        if not bool((factors.abs() <= IMPLAUSIBLE).all()):
            return None
        return old_HK * factors.repeat_interleave(system.columns)


def _summed(values: torch.Tensor, dim: int, system: System) -> torch.Tensor:
    """Sums over the columns of each head or unit along `dim`."""
    return values.unflatten(dim, (-1, system.columns)).sum(dim + 1)
